"""A table as numbers, Markdown and CSV."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

Row = dict[str, Any]
_SPECIAL = re.compile(r"([\\|*<`])")


class Bold(str):
    """The text of a cell that stands out; each format does it in its own way."""


@dataclass(frozen=True, repr=False)
class Table:
    """Numbers, the columns that show them, and what a reader must know.

    ``frame`` has one column per quantity, under its name in the record, with ``_std`` for the sample standard deviation
    over seeds. ``columns`` maps a header to the text of a row's cell. ``rows`` are the rows that these see, where they
    are not those of ``frame``.
    """

    frame: pd.DataFrame
    columns: dict[str, Callable[[Row], str]]
    notes: list[str]
    title: str = ""
    rows: Sequence[Row] | None = None

    def cells(self) -> list[list[str]]:
        """The header and the rows as shown."""
        rows = self.frame.to_dict("records") if self.rows is None else self.rows
        return [list(self.columns), *([show(row) for show in self.columns.values()] for row in rows)]

    def markdown(self) -> str:
        """A pipe table, padded so that it is readable as plain text, and the notes below it."""
        shown = [[_markdown(cell) for cell in row] for row in self.cells()]
        widths = [max(3, *map(len, column)) for column in zip(*shown, strict=True)]
        pads = [str.ljust, *[str.rjust] * (len(widths) - 1)]
        lines = [[pad(cell, n) for pad, cell, n in zip(pads, row, widths, strict=True)] for row in shown]
        lines.insert(1, ["-" * widths[0], *("-" * (n - 1) + ":" for n in widths[1:])])
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        title = [f"**{_markdown(self.title)}**", ""] if self.title else []
        return "\n".join([*title, table, "", *(f"- {_markdown(note)}" for note in self.notes), ""])

    def __repr__(self) -> str:
        return self.markdown()

    _repr_markdown_ = __repr__  # what a notebook shows

    def csv(self) -> str:
        """The numbers, unrounded, without the notes."""
        return self.frame.to_csv(index=False)


def _markdown(cell: str) -> str:
    escaped = _SPECIAL.sub(r"\\\1", " ".join(cell.split()))
    return f"**{escaped}**" if isinstance(cell, Bold) else escaped


def number(value: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None or pd.isna(value) else format(value, form)


def spread(row: Row, name: str) -> str:
    """Mean ± standard deviation over seeds, or ``diverged`` where no run is finished."""
    if not row["runs"] and row["diverged"]:
        return "diverged"
    value, std = row[name], row[f"{name}_std"]
    form = ".3g" if abs(value) >= 100 else ".3f"
    return number(value, form) + ("" if pd.isna(std) else f" ± {std:{form}}")
