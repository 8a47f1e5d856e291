"""Records in a zip per sweep (``zobench.record.packing``), read as if the zip were a folder. Standard library only.

An address goes on inside the zip: ``methods.zip/sst2/opt-125m/mezo/9a3e3083``. Nothing is ever extracted: a name in a
zip only looks up bytes, which are read as data, at most ``LIMIT`` of them a file.
"""

import errno
import io
import lzma
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Union

from zobench.errors import DataError

#: what is packed of a run: its record, without weights, checkpoints and wandb's files
FILES = (
    "config.yaml", "environment.json", "metrics.jsonl", "predictions.parquet", "summary.json", "trajectory.jsonl",
)  # fmt: skip
#: bytes of one unpacked file beyond which it is not read
LIMIT = 2**28
_DEEPEST = 64  # folders in one another that a zip of records has at most
#: what ``zipfile`` raises for a zip that is damaged, encrypted, or packed in another way
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError, OSError,
)  # fmt: skip

Place = Union[Path, "PathInZip"]


@dataclass(frozen=True)
class PathInZip:
    """A file or folder inside a zip, with the part of ``pathlib.Path`` that readers of records need.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "methods.zip"
    >>> with zipfile.ZipFile(file, "w") as made:
    ...     made.writestr("sst2/mezo/summary.json", "{}")
    >>> run = locate(file / "sst2" / "mezo")
    >>> (run / "summary.json").read_text(), (run / "config.yaml").is_file()
    ('{}', False)
    """

    archive: "_Archive"
    inner: PurePosixPath

    def __str__(self) -> str:
        return str(self.archive.file / self.inner)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.inner.name

    @property
    def parent(self) -> "PathInZip":
        """The folder that it lies in."""
        return PathInZip(self.archive, self.inner.parent)

    def __truediv__(self, name: str) -> "PathInZip":
        return PathInZip(self.archive, self.inner / name)

    def is_file(self) -> bool:
        """Tell if the zip holds a file of this name."""
        return str(self.inner) in self.archive.members

    def is_dir(self) -> bool:
        """Tell if the zip holds files below this name."""
        return str(self.inner) in self.archive.folders

    def listed(self) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files in this one."""
        folders, files = self.archive.folders[str(self.inner)]
        return list(folders), list(files)

    def read_bytes(self, limit: int = LIMIT) -> bytes:
        """Unpack the whole file into memory.

        Args:
            limit: bytes beyond which nothing is unpacked.

        Raises:
            FileNotFoundError: if there is no such file.
            CannotRead: if it is larger, or damaged.
        """
        return self.archive.read(str(self.inner), limit)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Unpack the whole file as text. Raises what ``read_bytes`` does."""
        return self.read_bytes().decode(encoding)

    def open(self, *, encoding: str = "utf-8") -> io.StringIO:
        """Unpack the whole file as a stream of text. Raises what ``read_bytes`` does."""
        return io.StringIO(self.read_text(encoding))


def locate(address: str | os.PathLike[str]) -> Place:
    """Find the file or folder at an address, which may lead into a zip; it need not exist.

    >>> locate("runs/sst2")
    PosixPath('runs/sst2')

    Raises:
        DataError: if the zip is none, or holds names that no record has.
    """
    path = Path(address)
    for file in (path, *path.parents):
        if file.suffix == ".zip" and file.is_file():
            at = file.stat()
            inner = PurePosixPath(*path.parts[len(file.parts) :])
            return PathInZip(_opened(file, at.st_mtime_ns, at.st_size), inner)
    return path


def below(place: Place, top: Place) -> str:
    """The path of a place from a folder that it lies in.

    >>> below(locate("runs/tuned/sst2"), locate("runs"))
    'tuned/sst2'
    """
    return str(place).removeprefix(str(top)).lstrip("/")


class CannotRead(DataError, OSError):
    """A file inside a zip is damaged, or too large; ``reason`` says which."""

    def __init__(self, path: Path, reason: str):
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class _Archive:
    """An open zip: its members by name, and what each folder holds."""

    def __init__(self, file: Path):
        self.file = file
        try:
            self._zip = zipfile.ZipFile(file)
        except _BROKEN as error:
            raise DataError(f"{file}: not a zip that can be read ({error})") from error
        self.members: dict[str, zipfile.ZipInfo] = {}
        #: folder -> the names of its folders and of its files
        self.folders: dict[str, tuple[dict[str, None], dict[str, None]]] = {".": ({}, {})}
        for member in self._zip.infolist():
            self._add(member)

    def _add(self, member: zipfile.ZipInfo) -> None:
        parts = member.filename.removesuffix("/").split("/")
        strange = "\\" in member.filename or not member.filename.isprintable()
        if strange or not {"", ".", ".."}.isdisjoint(parts) or len(parts) > _DEEPEST:
            raise DataError(f"{self.file}: not a zip of records: it holds the name {member.filename[:200]!r}")
        *above, name = parts
        for depth, folder in enumerate(above):
            path, at = "/".join(above[: depth + 1]), "/".join(above[:depth]) or "."
            self.folders.setdefault(path, ({}, {}))
            self.folders[at][0][folder] = None
        if not member.is_dir():
            if member.filename in self.members:
                raise DataError(f"{self.file}: not a zip of records: it holds {member.filename[:200]!r} twice")
            self.members[member.filename] = member
            self.folders["/".join(above) or "."][1][name] = None

    def read(self, name: str, limit: int) -> bytes:
        member = self.members.get(name)
        if member is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.file / name))
        if member.file_size > limit:
            raise CannotRead(self.file / name, f"{member.file_size:,} bytes unpacked; at most {limit:,} are read")
        try:
            with self._zip.open(member) as file:
                return file.read(member.file_size)  # not one byte more than it says, whatever it unpacks to
        except _BROKEN as error:
            raise CannotRead(self.file / name, f"damaged, or packed in a way that is not read ({error})") from error


@lru_cache(maxsize=8)
def _opened(file: Path, changed: int, size: int) -> _Archive:
    """Open a zip once, and again only when it has changed."""
    return _Archive(file)
