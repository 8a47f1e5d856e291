"""A table's rows, wherever they are read from, and what every reader of a file looks at first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zobench.errors import DataError

Row = dict[str, Any]

#: bounds on what a file unpacks to and on what is kept of it: real data sets stay far below
LARGEST_FILE = 4 * 2**30
_MOST_DRAWN = 2**27
#: what to do about a text in another encoding
SAVE = "save the whole file as UTF-8"
#: first bytes of files that are no text, whatever their name says
_OTHERS = {
    b"\x1f\x8b": "compressed: unpack it", b"BZh": "compressed: unpack it", b"PAR1": "parquet: name it .parquet",
    b"PK\x03\x04": "a spreadsheet or an archive: save its table as CSV",
    b"\xff\xfe": f"in UTF-16; {SAVE}", b"\xfe\xff": f"in UTF-16; {SAVE}",
}  # fmt: skip


class Rows:
    """The rows of a file.

    Attributes:
        path: for messages.
        names: of the columns.
    """

    path: Path | str
    names: Sequence[str]

    def __len__(self) -> int:
        raise NotImplementedError

    def holding(self, path: str) -> str:
        """The column that a name with dots leads to or into: one of that very name comes first."""
        return path if path in self.names else path.partition(".")[0]

    def place(self, row: int) -> str:
        """What a user calls a row's place: its line where the file has lines, else its number, from 0."""
        return f"row {row}, counted from 0"

    def take(self, columns: Sequence[str], index: Sequence[int] | None = None) -> list[Row]:
        """The rows at some positions, all if None, with some columns; a value that is not there is None.

        Raises:
            DataError: if the file is damaged, or rows are too large.
        """
        raise NotImplementedError


def content_of(path: Path) -> bytes:
    """A file's bytes without a byte order mark.

    Raises:
        DataError: for a file that is too large, or of another kind by its first bytes.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError(
            f"{path} has {size / 2**30:.0f} GiB; at most {LARGEST_FILE // 2**30} are read of such a file; parquet may "
            "be larger"
        )
    content = path.read_bytes()
    for mark, what in _OTHERS.items():
        if content.startswith(mark):
            raise DataError(f"{path} is {what}")
    return content.removeprefix(b"\xef\xbb\xbf")


def checked_size(path: Path | str, size: int, drawn: int) -> int:
    """The size of some rows in bytes, unless it is too much."""
    if drawn + size > _MOST_DRAWN:
        raise DataError(f"{path}: the drawn rows have over {_MOST_DRAWN // 2**20} MiB; set smaller task.splits")
    return size
