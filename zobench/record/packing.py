"""Records packed into a zip, which ``zobench.record.archive`` reads. Standard library only."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from zobench.atomic import replacing, writing
from zobench.record.archive import FILES, LIMIT, Place
from zobench.record.reading import Missing, Unreadable, content

_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can tell: equal records make equal zips


_NONE: Mapping[str, bytes] = MappingProxyType({})


def pack(runs: Mapping[str, Place], file: Path, beside: Mapping[str, bytes] = _NONE) -> list[tuple[str, str]]:
    """Write the records of runs into one zip. Equal records make equal bytes with the same version of zlib.

    Args:
        runs: path inside the zip -> the run's directory.
        file: an older one is replaced once the new one is whole.
        beside: path inside the zip -> content of a file that is of no run.

    Returns:
        (directory, reason) of the runs that are left out, as a file of theirs cannot be read.

    Raises:
        CannotWrite: if the zip cannot be written.
    """
    left_out = []
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for name, run in sorted(runs.items()):
            try:
                parts = _parts(run)
            except Unreadable as error:
                left_out.append((str(run), error.said))
                continue
            for part, data in parts.items():
                made.writestr(_member(f"{name}/{part}"), data)
        for name, data in sorted(beside.items()):
            made.writestr(_member(name), data)
    return left_out


def _parts(run: Place) -> dict[str, bytes]:
    """The content of each file of a record. Raises Unreadable if something else than a file is in the place of one."""
    parts = {}
    for part in FILES:
        try:
            parts[part] = content(run / part, LIMIT)
        except Missing:
            continue
    return parts


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _TIME)
    member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return member
