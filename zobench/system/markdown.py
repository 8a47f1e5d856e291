"""Markdown: tables that read well as plain text too, and parts of pages that are written anew."""

from collections.abc import Sequence
from pathlib import Path

from zobench.errors import ConfigError


def pipe_table(cells: Sequence[Sequence[str]]) -> str:
    """Lay out a table: the first column to the left, the others to the right.

    >>> print(pipe_table([["method", "ratio"], ["mezo", "1.02"], ["loren", "1.1"]]))
    | method | ratio |
    | ------ | ----: |
    | mezo   |  1.02 |
    | loren  |   1.1 |

    Args:
        cells: the header and the rows, all of one length. What Markdown would read as its own is left as it is.
    """
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    pads = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    lines = [[pad(cell, n) for pad, cell, n in zip(pads, row, widths, strict=True)] for row in cells]
    lines.insert(1, ["-" * widths[0], *("-" * (n - 1) + ":" for n in widths[1:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def between_marks(text: str, marks: tuple[str, str], part: str, path: Path) -> str:
    """A page's text with another part between two marks, which are lines of its own.

    >>> between_marks("a\\n<x>\\nold\\n</x>\\nb\\n", ("<x>\\n", "</x>\\n"), "new", Path("x.md")).splitlines()
    ['a', '<x>', '', 'new', '</x>', 'b']

    Args:
        path: of the page, for the message.

    Raises:
        ConfigError: if the marks are not there, once each and in this order.
    """
    before, _, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end or any(text.count(mark) != 1 for mark in marks):
        told = " and ".join(mark.strip() for mark in marks)
        raise ConfigError(f"{path}: expected the lines {told}, once each; add both where it goes")
    return f"{before}{marks[0]}\n{part}\n{marks[1]}{after}"
