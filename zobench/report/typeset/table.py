"""A table as numbers, Markdown and CSV."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zobench.errors import printable
from zobench.report.frames.runs import Row
from zobench.report.pictures.colours import method_of
from zobench.system.markdown import pipe_table

#: what Markdown would read as its own; of a bracket, the end of a link's text
_SPECIAL = re.compile(r"([\\|*<`]|(?<=\])[(\[:])")
#: what a spreadsheet takes for a formula when a cell begins with it
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Bold(str):
    """The text of a cell that stands out; each format does it in its own way."""


@dataclass(frozen=True, repr=False)
class Table:
    """Numbers, the columns that show them, and what a reader must know.

    >>> numbers = pd.DataFrame([{"row": "mezo", "runs": 3}, {"row": "loren", "runs": 5}])
    >>> print(Table(numbers, {"method": lambda row: row["row"], "runs": lambda row: str(row["runs"])}, ["made up"]))
    | method | runs |
    | ------ | ---: |
    | mezo   |    3 |
    | loren  |    5 |
    <BLANKLINE>
    - made up
    <BLANKLINE>

    Args:
        frame: one column per quantity, under its name in the record, with ``_std`` for the sample standard deviation
            over seeds.
        columns: header -> the text of a row's cell.
        notes: printed below the table.
        title: printed above it.
        rows: the rows that ``columns`` see, where they are not those of ``frame``.
        keys: how many columns, from the left, name a row.
    """

    frame: pd.DataFrame
    columns: dict[str, Callable[[Row], str]]
    notes: list[str]
    title: str = ""
    rows: Sequence[Row] | None = None
    keys: int = 1

    def cells(self) -> list[list[str]]:
        """Write out the header and the rows as they are shown."""
        return [list(self.columns), *([show(row) for show in self.columns.values()] for row in self._rows())]

    def methods(self) -> list[str]:
        """Name the method of each row, empty for a row that is of none, such as what guessing scores."""
        named = [row.get("row", row.get("method")) for row in self._rows()]
        return [method_of(name) if isinstance(name, str) else "" for name in named]

    def _rows(self) -> Sequence[Row]:
        return self.frame.to_dict("records") if self.rows is None else self.rows

    def markdown(self) -> str:
        """Write the title, a pipe table that is readable as plain text, and the notes below it."""
        table = pipe_table([[_markdown(cell) for cell in row] for row in self.cells()])
        title = [f"**{_markdown(self.title)}**", ""] if self.title else []
        return "\n".join([*title, table, "", *(f"- {_markdown(note)}" for note in self.notes), ""])

    def __repr__(self) -> str:
        return self.markdown()

    _repr_markdown_ = __repr__  # what a notebook shows

    def csv(self) -> str:
        """Write the numbers, unrounded, without the notes."""
        texts = self.frame.select_dtypes(exclude="number").columns
        shown = self.frame.assign(**{name: self.frame[name].map(csv_cell) for name in texts})
        return shown.rename(columns=csv_cell).to_csv(index=False)


def csv_cell(value: Any) -> Any:
    """A value as a spreadsheet may have it: a text that would be a formula gets a quote in front.

    >>> csv_cell("=HYPERLINK(1)"), csv_cell("mezo"), csv_cell(-0.5)
    ("'=HYPERLINK(1)", 'mezo', -0.5)
    """
    if not isinstance(value, str):
        return value
    return "'" * value.startswith(_FORMULA) + printable(value)


def _markdown(cell: str) -> str:
    escaped = _SPECIAL.sub(r"\\\1", printable(" ".join(cell.split())))
    return f"**{escaped}**" if isinstance(cell, Bold) else escaped


def number(value: float | None, form: str) -> str:
    """Write a number, or a dash where there is none.

    >>> number(0.7791, ".3f"), number(None, ".3f")
    ('0.779', '-')
    """
    return "-" if value is None or pd.isna(value) else format(value, form)


def spread(row: Row, name: str) -> str:
    """Write mean ± standard deviation over seeds, or ``diverged`` where no run is finished.

    >>> spread({"runs": 3, "diverged": 0, "test/loss": 0.511, "test/loss_std": 0.02}, "test/loss")
    '0.511 ± 0.020'

    Args:
        row: of ``Board.frame``.
        name: of the quantity in it.
    """
    if not row["runs"] and row["diverged"]:
        return "diverged"
    value, std = row[name], row[f"{name}_std"]
    form = ".3g" if abs(value) >= 100 else ".3f"
    return number(value, form) + ("" if pd.isna(std) else f" ± {std:{form}}")
