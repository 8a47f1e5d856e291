"""Tables in text: a header and then a row of cells on each line, with commas, tabs or the like between them."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from zobench.data.table import SAVE, Row, Rows, checked_size, content_of
from zobench.errors import DataError

#: of a cell, in characters; longer ones are refused by what reads the rows
_LARGEST_CELL = 2**24
#: what separates the cells of tables
SEPARATORS = (",", ";", "\t", "|")


class Separated(Rows):
    """A file with a header and then a row of cells on each line, quoted as in RFC 4180; all values are texts.

    Lines without text in any cell, which spreadsheets leave at the end, are passed over. Cells may be separated by
    another sign than the suffix says, as spreadsheets of some countries do it, where the header has that one alone.
    """

    _separator = ","

    def __init__(self, path: Path):
        self.path = path
        content = content_of(path)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{path}, line {line}: no UTF-8 text at byte {error.start} of the file ({content[error.start]:#04x}); "
                f"{SAVE}"
            ) from error
        csv.field_size_limit(_LARGEST_CELL)
        separator = _separator_of(text, self._separator)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        self.names, self._rows, self._first_lines = [], [], list[int]()
        begins = 1
        try:
            for row in lines:
                if not self.names:
                    self.names = row if _says_something(row) else []
                elif len(row) == len(self.names) and _says_something(row):
                    self._rows.append(row)
                    self._first_lines.append(begins)
                elif _says_something(row):
                    raise DataError(
                        f"{path}, line {begins}: {len(row)} cells, the header has {len(self.names)}; put a cell that "
                        f"holds {_named_separator(separator)} or a line break into double quotes"
                    )
                begins = lines.line_num + 1
        except csv.Error as error:
            reason = "double quotes are not closed" if "end of data" in str(error) else error
            raise DataError(f"{path}, line {begins}: cannot be read as a table: {reason}") from error

    def __len__(self) -> int:
        return len(self._rows)

    def place(self, row: int) -> str:
        return f"line {self._first_lines[row]}"

    def take(self, columns: Sequence[str], index: Sequence[int] | None = None) -> list[Row]:
        places = {name: self.names.index(name) for name in columns}
        taken = self._rows if index is None else [self._rows[place] for place in index]
        checked_size(self.path, sum(len(cell.encode()) for row in taken for cell in row), 0)
        return [{name: row[place] for name, place in places.items()} for row in taken]


class TabSeparated(Separated):
    """A file of rows as ``Separated`` reads them, with a tab between cells."""

    _separator = "\t"


def _separator_of(text: str, usual: str) -> str:
    """What separates a table's cells: the usual sign, or the one other that the header has where it has not that.

    >>> _separator_of("id;team\\n1;sales, Berlin\\n", ","), _separator_of("id,team;city\\n", ",")
    (';', ',')
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    others = [sign for sign in SEPARATORS if sign in header]
    return others[0] if usual not in header and len(others) == 1 else usual


def _says_something(cells: Sequence[str]) -> bool:
    return any(map(str.strip, cells))


def _named_separator(separator: str) -> str:
    return "a tab" if separator == "\t" else f"a {separator!r}"
