"""Text files of a record that grow by lines, and the mark that a checkpoint keeps of each: its size and a digest."""

import contextlib
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from zobench.atomic import regular, sync, writing
from zobench.errors import DataError
from zobench.record.archive import LIMIT
from zobench.record.reading import Missing, content

#: of the lines up to a checkpoint: ``bytes``, ``lines`` and ``sha256``
Mark = dict[str, Any]
_BLOCK = 2**20


class Lines:
    """A text file of lines that grows at its end.

    >>> import tempfile
    >>> lines = Lines(Path(tempfile.mkdtemp()) / "metrics.jsonl")
    >>> lines.add("{}\\n")
    >>> lines.flush(to_disk=True)
    >>> mark = lines.mark()
    >>> mark["bytes"], mark["lines"], damage(lines.path, mark)
    (3, 1, None)
    """

    def __init__(self, path: Path):
        self.path = path
        with writing(path):
            new = not path.exists()
            self._file = regular(path, "ab")
            if new:
                sync(path.parent)
        self._measure()

    def add(self, text: str) -> None:
        """Append text that ends a line."""
        data = text.encode()
        with writing(self.path):
            self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)
        self._lines += data.count(b"\n")

    def flush(self, *, to_disk: bool = False) -> None:
        """Hand over what was added; with ``to_disk``, wait until it would survive a power cut."""
        with writing(self.path):
            self._file.flush()
            if to_disk:
                os.fsync(self._file.fileno())

    @property
    def digest(self) -> str:
        """The digest of all that was added, as ``zobench.record.digests`` makes it."""
        return self._digest.hexdigest()[:16]

    def mark(self) -> Mark:
        """The mark of all that was added."""
        return {"bytes": self._bytes, "lines": self._lines, "sha256": self._digest.hexdigest()}

    def cut(self, size: int) -> None:
        """Drop all bytes after the first ``size``."""
        with writing(self.path):
            self._file.flush()
            self._file.truncate(size)
            os.fsync(self._file.fileno())
        self._measure()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _measure(self) -> None:
        self._digest, self._bytes, self._lines = hashlib.sha256(), 0, 0
        with writing(self.path), self.path.open("rb") as file:
            while block := file.read(_BLOCK):
                self._digest.update(block)
                self._bytes += len(block)
                self._lines += block.count(b"\n")


def damage(path: Path, mark: Mark) -> str | None:
    """What is wrong with the part of a file that a checkpoint marked, with the file's name; None if it is whole."""
    try:
        if not path.is_file():
            return f"{path}: not there, {mark['lines']} lines were written"
        digest, left, lines = hashlib.sha256(), mark["bytes"], 0
        with path.open("rb") as file:
            while left and (block := file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
                lines += block.count(b"\n")
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    if lines < mark["lines"]:
        return f"{path}: {lines} of {mark['lines']} lines are left"
    if left or digest.hexdigest() != mark["sha256"]:
        return f"{path}: changed since the checkpoint was written"
    return None


def size_upto(path: Path, step: int) -> int:
    """How many bytes of a ``metrics.jsonl`` are its lines of steps up to ``step``, for a checkpoint without marks.

    A torn last line and the final values of a run that was cut before its summary come again.

    Raises:
        DataError: if another line is damaged.
    """
    size = 0
    with contextlib.suppress(Missing):
        lines = content(path, LIMIT).splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            at = _step_of(line)
            if at is None and number < len(lines):
                raise DataError(f"{path}: line {number} is damaged; start again with overwrite=true")
            if at is None or at > step:
                break
            size += len(line)
    return size


def _step_of(line: bytes) -> float | None:
    """The step of a line of metrics; infinite for final values, None for a damaged line."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not line.endswith(b"\n"):
        return None
    step = math.inf if any(name.startswith("final/") for name in values) else values.get("step", 0)
    return step if isinstance(step, int | float) else None
