"""Digests by which a run's record tells that its files are as the run left them. Standard library only.

``summary.json`` ends with ``digest``, over the row itself, and ``digests``, over the other files that are read for
results. A changed file is refused. Records of earlier versions have neither; they are read without such a check.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from zobench.record import archive
from zobench.record.archive import Place
from zobench.record.reading import Unreadable, content

#: columns of summary.json that are about the record, not the run
ROW, FILES = "digest", "digests"
_CHANGED = "changed since the run wrote it"
_ADVICE = f"put the file of the run back; or, if you trust it, remove {ROW} and {FILES} from summary.json"


def of(data: bytes) -> str:
    """16 hex digits of the SHA-256 of a file's content."""
    return hashlib.sha256(data).hexdigest()[:16]


def of_record(directory: Place) -> str:
    """16 hex digits over all files of a record: whatever is said of a run is said of these very files.

    Raises:
        Unreadable: if a file is there that cannot be read.
    """
    names = [name for name in archive.FILES if (directory / name).is_file()]
    return of("".join(f"{name} {of(content(directory / name, archive.LIMIT))}\n" for name in names).encode())


def sealed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the digest of its values, whatever their order and the spaces between them.

    >>> from pathlib import Path
    >>> opened(sealed({"seed": 0, "steps": 10}), Path("summary.json"))
    {'seed': 0, 'steps': 10}
    """
    return {**row, ROW: _of_row(row)}


def opened(row: Mapping[str, Any], path: Place) -> dict[str, Any]:
    """The values of a row alone, where its digest fits or it has none. Raises Unreadable for another digest."""
    values = {name: value for name, value in row.items() if name != ROW}
    if ROW in row and row[ROW] != _of_row(values):
        raise Unreadable(path, f"{_CHANGED} (its digest does not fit)", advice=_ADVICE)
    values.pop(FILES, None)
    return values


def check(path: Place, data: bytes) -> None:
    """Hold what was read of a run's file against the summary beside it.

    Raises:
        Unreadable: if the summary speaks of another content.
    """
    try:
        row = json.loads(content(path.parent / "summary.json"))
    except (Unreadable, ValueError, RecursionError):  # whoever reads the summary says so
        return
    known = row.get(FILES) if isinstance(row, dict) else None
    if isinstance(known, dict) and known.get(path.name, of(data)) != of(data):
        raise Unreadable(path, f"{_CHANGED} (summary.json has another digest of it)", advice=_ADVICE)


def _of_row(row: Mapping[str, Any]) -> str:
    try:
        return of(json.dumps(row, sort_keys=True, separators=(",", ":")).encode())
    except RecursionError:
        return ""
