"""The page of ``python -m zobench.task check``: prompts with their tokens, the splits in a table, the warnings."""

import sys

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from zobench.errors import printable
from zobench.objective import Encoded
from zobench.system.console import Terminal
from zobench.task.copies import PAIRS, copies
from zobench.task.facts import split
from zobench.task.findings import findings
from zobench.task.look import Look
from zobench.tasks.base import PARTS

#: columns of what no terminal reads
_WIDTH = 80


def show(look: Look, *, without_model: bool = False) -> None:
    """Print the page.

    Args:
        without_model: whether no model was asked for, so that another's tokenizer is used.
    """
    console = Terminal(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    start = "no start token" if look.start is None else f"start token {look.start}"
    instead = "; model=... takes another's" if without_model else ""
    console.print(_text(f"{look.name}: tokens by the tokenizer of model={look.model}, {start}{instead}"))
    for encoded in look.shown:
        length = max(len(row.ids) for row in encoded.rows)
        console.print(_text(f"\ntrain, row {encoded.example.index} (from 0): {length} tokens with the longest option"))
        console.print(Padding(_text(_with_end(encoded.example.prompt)), (0, 0, 0, 4), expand=False))
        console.print(_options(look, encoded))
    console.print(_splits(look))
    found = findings(look)
    console.print(_text(f"{len(found) or 'no'} warning{'s' * (len(found) != 1)}{':' * bool(found)}"))
    grid = Table.grid(padding=(0, 1))
    for finding in found:
        grid.add_row("-", _text(f"{finding.what}.\n{finding.do[:1].upper()}{finding.do[1:]}."))
    console.print(grid)


def _text(text: str) -> Text:
    return Text(printable(text, sys.stdout.encoding))


def _with_end(prompt: str) -> str:
    """A prompt with the line breaks at its end written out."""
    body = prompt.rstrip("\n")
    return body + r"\n" * (len(prompt) - len(body))


def _options(look: Look, encoded: Encoded) -> Table:
    table = _table("", "answer" if look.task.generates else "option", "tokens", "", right=(2,))
    for place, (option, pieces) in enumerate(zip(encoded.example.options, look.pieces(encoded), strict=True)):
        mark = "*" if place == encoded.gold else ""
        table.add_row(mark, _text(repr(option)), str(len(pieces)), _text(" ".join(pieces)))
    return table


def _splits(look: Look) -> Table:
    table = _table("", *PARTS, right=range(1, 4))
    known = {part: split(look, part) for part in PARTS}
    table.add_row("rows", *(str(known[part]["rows"]) for part in PARTS))
    table.add_row("of a file of", *(str(known[part]["rows_of_file"]) for part in PARTS))
    for label in known["train"]["classes"]:
        counts = (known[part]["classes"][label] for part in PARTS)
        cells = [f"{count} ({count / known[part]['rows']:.0%})" for part, count in zip(PARTS, counts, strict=True)]
        table.add_row(_text(repr(label) if look.options else label), *cells)
    for name in ("median", "95 %", "longest"):
        table.add_row(f"tokens, {name}", *(str(known[part]["tokens"][name]) for part in PARTS))
    table.add_row(f"longer than {look.max_length}", *(str(known[part]["truncated"]) for part in PARTS))
    table.add_row("repeated prompts", *(str(known[part]["repeated"]) for part in PARTS))
    for other in ("train", "dev"):
        pairs = ((part, other) for part in PARTS)
        found = [copies(look, *pair) if pair in PAIRS else None for pair in pairs]
        table.add_row(f"prompts in {other} (exact)", *(f"{both[1]} ({both[0]})" if both else "" for both in found))
    return table


def _table(*names: str, right: tuple[int, ...] | range) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place in right else "left", overflow="fold")
    return table
