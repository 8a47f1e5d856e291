"""The files of a data set: parquet, JSON lines, CSV and TSV, of which only the rows that are asked for are made.

A file comes from anywhere: it may unpack to far more than it looks, and what is in it is taken as it is written. A text
that looks like a date or a number stays a text.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zobench.data.separated import Separated, TabSeparated
from zobench.data.table import LARGEST_FILE, SAVE, Row, Rows, checked_size, content_of
from zobench.errors import DataError, first_line, shown

#: bounds on a file's rows, and on those that are unpacked at once: real data sets stay far below
_MOST_ROWS = 50_000_000
_BATCH_ROWS = 1024


def read(path: Path) -> Rows:
    """Open a file of a table, of the kind that its suffix says.

    Raises:
        DataError: if it cannot be read.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path}: expected a table in a file whose name ends in {', '.join(_KINDS)}; save it as one")
    try:
        return kind(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as {path.suffix[1:]} (truncated?): {first_line(error)}") from error


class _Parquet(Rows):
    """A parquet file, read in parts of which the drawn rows are kept."""

    def __init__(self, path: Path):
        import pyarrow.parquet

        self.path = path
        schema = pyarrow.parquet.read_schema(path)
        self.names = schema.names
        # A text that many rows share then stays one until its rows are drawn.
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        self._file = pyarrow.parquet.ParquetFile(path, read_dictionary=texts)
        if len(self) > _MOST_ROWS:
            raise DataError(f"{path} has {len(self):,} rows; at most {_MOST_ROWS:,} are read")

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def take(self, columns: Sequence[str], index: Sequence[int] | None = None) -> list[Row]:
        index = range(len(self)) if index is None else index
        self._refuse_huge(self._claimed(columns))
        places = {row: place for place, row in enumerate(index)}
        rows: list[Row | None] = [None] * len(index)
        first = unpacked = drawn = 0
        try:
            for batch in self._file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
                unpacked += sum(array.nbytes for array in batch.columns if not pa.types.is_dictionary(array.type))
                self._refuse_huge(unpacked)
                wanted = [row for row in range(first, first + len(batch)) if row in places]
                taken = batch.take(pa.array([row - first for row in wanted], pa.int64()))
                drawn += checked_size(self.path, sum(map(_text_bytes, taken.columns)), drawn)
                for row, values in zip(wanted, _texts(self.path, taken, wanted), strict=True):
                    rows[places[row]] = values
                first += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read as parquet (truncated?): {first_line(error)}") from error
        whole = [row for row in rows if row is not None]
        if len(whole) < len(index):
            raise DataError(f"{self.path} holds {first} rows, its header says {len(self)}; write it again")
        return whole

    def _claimed(self, columns: Sequence[str]) -> int:
        """The size of some columns in bytes once they are unpacked, by the file's own word."""
        metadata, size = self._file.metadata, 0
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                column = metadata.row_group(group).column(number)
                if column.path_in_schema.partition(".")[0] in columns:
                    size += column.total_uncompressed_size
        return size

    def _refuse_huge(self, size: int) -> None:
        if size > LARGEST_FILE:
            raise DataError(f"{self.path} unpacks to over {LARGEST_FILE // 2**30} GiB of what is read; split it up")


class _JsonLines(Rows):
    """A file with a JSON object on each line; empty lines are passed over."""

    def __init__(self, path: Path):
        self.path = path
        content = content_of(path)
        if content.lstrip().startswith(b"["):
            raise DataError(
                f"{path}: one JSON list; expected JSON lines, an object on each line, as pandas writes them: "
                "to_json(FILE, orient='records', lines=True)"
            )
        self._lines = [(n, line) for n, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
        names: dict[str, None] = {}
        for number, line in self._lines:
            names.update(dict.fromkeys(self._parse(number, line)))
        self.names = list(names)

    def __len__(self) -> int:
        return len(self._lines)

    def place(self, row: int) -> str:
        return f"line {self._lines[row][0]}"

    def take(self, columns: Sequence[str], index: Sequence[int] | None = None) -> list[Row]:
        drawn = 0
        rows = []
        for place in range(len(self)) if index is None else index:
            drawn += checked_size(self.path, len(self._lines[place][1]), drawn)
            row = self._parse(*self._lines[place])
            rows.append({column: row.get(column) for column in columns})
        return rows

    def _parse(self, number: int, line: bytes) -> Row:
        try:
            row = json.loads(line.decode(), object_pairs_hook=_unique)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}, line {number}: no UTF-8 text at byte {error.start} of it; {SAVE}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self.path} cannot be read as jsonl (truncated?): line {number}: {first_line(error)}"
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{self.path}, line {number}: {shown(repr(row))}, expected an object with the columns")
        return row


#: suffix → how such a file is read
_KINDS: dict[str, type[Any]] = {
    ".parquet": _Parquet, ".jsonl": _JsonLines, ".json": _JsonLines, ".csv": Separated, ".tsv": TabSeparated,
}  # fmt: skip
SUFFIXES = tuple(_KINDS)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no key is given twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _text_bytes(array: Any) -> int:
    """How large the texts of a column become; one that many rows share in the file is copied for each."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        sizes = pc.binary_length(array.dictionary) if _is_text(kind.value_type) else None
        return int(pc.sum(sizes.take(array.indices)).as_py() or 0) if sizes is not None else 0
    if pa.types.is_struct(kind):
        return sum(map(_text_bytes, array.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _text_bytes(array.flatten())
    return int(pc.sum(pc.binary_length(array)).as_py() or 0) if _is_text(kind) else 0


def _is_text(kind: Any) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)


def _texts(path: Path | str, taken: Any, index: Sequence[int]) -> Iterator[Row]:
    """The rows of an Arrow batch or table as Python values."""
    try:
        yield from taken.to_pylist()
    except UnicodeDecodeError as error:
        for place, row in enumerate(index):
            try:
                taken.slice(place, 1).to_pylist()
            except UnicodeDecodeError:
                raise DataError(f"{path}, row {row}: the text is not UTF-8") from error
    except (ValueError, OverflowError) as error:  # such as a date beyond Python's years
        raise DataError(f"{path}: a value that Python cannot hold: {first_line(error)}") from error
