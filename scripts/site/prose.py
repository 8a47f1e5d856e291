"""Docstrings as Markdown: indented ``name: what it is`` become lists, examples and tables stand as they were set."""

import re
from collections.abc import Sequence
from itertools import groupby

#: heads of a docstring's sections
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Examples?):$", re.M)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_CODE_HOST = re.compile(r"(?<![\w/])(?:github\.com/)?([\w-]+/[\w.-]+) (@[0-9a-f]{7})\b")
_EXAMPLE = re.compile(r"^(>>> .*(?:\n.+)*)", re.M)
_ITEM = re.compile(r"([\w.`=, -]{1,40}): +(.*)")


def markdown(docstring: str) -> str:
    """A docstring's text in Markdown, with links to papers and released code.

    >>> print(markdown("What differs:\\n    sign: a setting\\n        of its own.\\nThat is all."))
    What differs:
    <BLANKLINE>
    - **sign**: a setting of its own.
    <BLANKLINE>
    That is all.
    """
    parts = []
    for at, text in enumerate(_EXAMPLE.split(docstring)):
        parts += [f"```pycon\n{text}\n```"] if at % 2 else _prose(text.splitlines())
    return "\n\n".join(parts)


def _prose(lines: list[str]) -> list[str]:
    parts = []
    for indented, block in groupby(lines, lambda line: line.startswith("    ") if line.strip() else None):
        text = [line.removeprefix("    ") for line in block]
        if indented is not None:
            parts.append(_indented(text) if indented else _linked("\n".join(text)))
    return parts


def _indented(lines: list[str]) -> str:
    """A list, formulas a line each, or, where columns are aligned, a table as it was set."""
    if _is_table(lines):
        return "\n".join(["```text", *lines, "```"])
    items: list[str] = []
    for line in lines:
        if items and line.startswith("  "):
            items[-1] += f" {line.strip()}"
        elif item := _ITEM.fullmatch(line):
            items.append(f"- **{item[1].replace('``', '')}**: {item[2]}")
        else:
            items.append(f"- {line}")
    return _linked("\n".join(items))


def _is_table(lines: list[str]) -> bool:
    """Whether most lines have columns, two blanks or more apart."""
    return "``" not in lines[0] and sum(bool(re.search(r"\S {2,}\S", line)) for line in lines) * 2 > len(lines)


def _linked(text: str) -> str:
    text = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return _CODE_HOST.sub(r"[\1](https://github.com/\1) \2", text)


def table(*rows: Sequence[str]) -> str:
    """A table of words, all columns to the left; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{' --- |' * len(rows[0])}")
    return "\n".join(lines)
