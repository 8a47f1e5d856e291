"""Tables as Markdown that reads well as plain text too."""

from collections.abc import Sequence


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
