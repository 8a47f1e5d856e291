"""Writing files so that a crash leaves the old content or the new, never a part. Standard library only."""

import errno
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from zobench.errors import CannotWrite


def regular(path: Path, mode: str) -> IO[Any]:
    """Open a file for appending, which is made if it is not there.

    Raises:
        OSError: if that fails, or if there is something else of that name, such as a pipe, which would never open.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(fd, mode)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in the error of a write that fails: the system only says that a disk is full.

    Raises:
        CannotWrite: in the place of an ``OSError``, or of the error by which safetensors means one.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(path, error) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # by its name: the library need not be there
            raise
        raise CannotWrite(path, OSError(str(error))) from error


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, would survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot sync folders
            raise
    finally:
        os.close(fd)


@contextmanager
def replacing(path: Path, *, unless_there: bool = False, durable: bool = False) -> Iterator[Path]:
    """Make a file or folder under another name, and give it its own when it is whole.

        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with replacing(path) as scratch:
        ...     _ = scratch.write_text("whole")
        >>> path.read_text(), scratch.exists()
        ('whole', False)

    Args:
        path: where it will be; its folder is made if it is not there, in one that is.
        unless_there: give way to what another process has put there meanwhile.
        durable: wait until it is on disk under its name, so that what it replaces, or makes needless, may go.

    Yields:
        Where to write. What is left there after an error is removed, and ``path`` stays as it was.

    Raises:
        CannotWrite: if that fails.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(path):
            new = [path.parent] if durable and not path.parent.exists() else []
            path.parent.mkdir(exist_ok=True)  # not those above: whoever removed them meant it
            yield scratch
            if unless_there and path.exists():
                return
            if durable:
                for written in (*scratch.rglob("*"), scratch) if scratch.is_dir() else (scratch,):
                    sync(written)
            if scratch.is_dir() and path.exists():
                shutil.rmtree(path)
            os.replace(scratch, path)
            if durable:
                for folder in (path.parent, *(folder.parent for folder in new)):
                    sync(folder)
    finally:
        remove(scratch)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; what is not there is not missed."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file and wait until it is on disk. Raises CannotWrite if that fails; the old file then stays."""
    with replacing(path, durable=True) as scratch:
        scratch.write_text(text, encoding="utf-8")


def clean(value: Any) -> Any:
    """Copy a value for JSON: numbers that are not finite become None, paths and other objects their text.

    >>> clean({"loss": float("nan"), "runs": Path("runs"), "seeds": (0, 1)})
    {'loss': None, 'runs': 'runs', 'seeds': [0, 1]}
    """
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
