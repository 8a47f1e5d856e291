"""``predictions.parquet``: the final score and answer of every dev and test example."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zobench.record import digests
from zobench.record.archive import LIMIT, Place
from zobench.record.columns import PREDICTIONS
from zobench.record.reading import Unreadable, content, shown
from zobench.record.recorder import Predictions

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "predictions.parquet"
_TEXTS = ("split", "gold", "prediction")
_NUMBERS = ("score", "exact_match")
_NEEDED = ("split", "index", "gold", "prediction", "scores", "score")
_ROWS = 10**6
_LONGEST = 2**20  # bytes of an answer at most


def write(rows: Predictions, path: Path) -> None:
    """Write a file with a row for each example of each split.

    Scores are fp32 numbers in columns of fp64: stored byte by byte, their zeros take no room.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([{"split": split, **row} for split, examples in rows.items() for row in examples])
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=9,
        use_dictionary=[name for name in _TEXTS if name in table.column_names],
        use_byte_stream_split=["scores.list.element"],
        write_statistics=False,
        write_page_checksum=True,
    )


def read(directory: Place, split: str) -> list[dict[str, Any]]:
    """Read the examples of a split, in the order of the file.

    Raises:
        Missing: if there is no such file.
        Unreadable: if it is damaged, changed or too large, or a column is not what ``zobench.record.columns`` says.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    path = directory / NAME
    data = content(path, LIMIT)
    digests.check(path, data)
    try:
        table = _table(data)
        if wrong := _problem(table):
            raise Unreadable(path, wrong)
        chosen = table.filter(pc.equal(table["split"], split))
        if pc.count_distinct(chosen["index"]).as_py() != len(chosen):
            raise Unreadable(path, f"an index is there twice in split {split}")
        plain = [(field.with_type(pa.string()) if field.name in _TEXTS else field) for field in chosen.schema]
        return chosen.cast(pa.schema(plain)).drop_columns(["split"]).to_pylist()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise Unreadable(path, f"not a parquet file that can be read ({_first_line(error)})") from error


def _table(data: bytes) -> "pa.Table":
    """The columns that are known. Texts are kept as numbers of a dictionary, so that few bytes cannot become many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(data), read_dictionary=[*_TEXTS], page_checksum_verification=True) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        rows, size = file.metadata.num_rows, sum(group.total_byte_size for group in groups)
        if not (0 <= rows <= _ROWS and 0 <= size <= LIMIT):
            raise ValueError(f"{rows:,} rows, {size:,} bytes unpacked; at most {_ROWS:,} and {LIMIT:,} are read")
        known = [name for name in file.schema_arrow.names if PREDICTIONS.names(name)]
        if lacking := [name for name in _NEEDED if known.count(name) != 1]:
            raise ValueError(f"it needs one column {lacking[0]}")
        return file.read(columns=known, use_threads=False)


def _problem(table: "pa.Table") -> str | None:
    """What is wrong with types or values, column by column, before anything becomes an object of Python."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in table.column_names:
        column, kind = table[name], table.schema.field(name).type
        if column.null_count:
            return f"{name}: {column.null_count} nulls; expected none"
        if name in _TEXTS:
            if not pa.types.is_dictionary(kind) or not pa.types.is_string(kind.value_type):
                return f"{name}: {kind}; expected texts"
            longest = max(
                (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0 for chunk in column.chunks), default=0
            )
            if longest > _LONGEST or longest * len(table) > 4 * LIMIT:
                return f"{name}: texts of up to {longest:,} bytes in {len(table):,} rows"
        elif name == "index":
            if not pa.types.is_integer(kind):
                return f"index: {kind}; expected integers"
            if len(table) and pc.min(column).as_py() < 0:
                return f"index={pc.min(column).as_py()}; expected an integer from 0"
        elif name in _NUMBERS:
            if not pa.types.is_floating(kind) and not pa.types.is_integer(kind):
                return f"{name}: {kind}; expected numbers"
            low, high = pc.min(column).as_py(), pc.max(column).as_py()
            most = len(table) if name == "score" else 1  # of a metric that is no mean, an example may add much
            least = -most if name == "score" else 0
            if len(table) and not (low >= least and high <= most and pc.all(pc.is_finite(column)).as_py()):
                return f"{name}: from {shown(low)} to {shown(high)}; expected {least} to {most}"
        elif name == "scores":
            if not pa.types.is_list(kind) or not pa.types.is_floating(kind.value_type):
                return f"scores: {kind}; expected lists of numbers"
            values = pc.list_flatten(column)
            if values.null_count or not (len(values) == 0 or pc.all(pc.is_finite(values)).as_py()):
                return "scores: one that is not finite"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
