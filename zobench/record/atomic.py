"""Writing files so that a crash leaves the old content or the new, never a part."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zobench.errors import CannotWrite


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises CannotWrite, which names the file, where the system only says that a disk is full."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(path, error) from error


def write_atomically(path: Path, text: str) -> None:
    """The file holds either the old text or the new, never a part."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(path), scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def clean(value: Any) -> Any:
    """A copy that JSON can hold: non-finite numbers become None, paths and other objects text."""
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
