"""What was computed once: JSON values on disk, each under a hash of all that it depends on."""

import contextlib
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from zobench.atomic import write_atomically
from zobench.config.folders import cache_dir
from zobench.errors import CannotWrite


class Cache:
    """A folder of values in zobench's cache folder.

    A damaged file is as good as none, and a folder that cannot be written to only means that the next process computes
    again. zobench's own code is part of every key, so a change of it forgets all values.

    Args:
        name: of the folder.
        keep: files that are left in it; the oldest are dropped.
    """

    def __init__(self, name: str, *, keep: int):
        self.folder, self.keep = cache_dir() / name, keep

    def load(self, *facts: object) -> Any:
        """The value that was stored under these facts, or None."""
        try:
            path = self._file(facts)
            if not path.is_file():  # a pipe would never end
                return None
            digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        return json.loads(text) if digest == sha256(f"{path.stem} {text}".encode()) else None

    def store(self, value: Any, *facts: object) -> None:
        """Keep a value, unless JSON would not give the same one back."""
        text = json.dumps(value, default=str)
        if json.loads(text) != value:
            return
        with contextlib.suppress(OSError, CannotWrite):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self._file(facts)
            write_atomically(path, f"{sha256(f'{path.stem} {text}'.encode())}\n{text}")
            files = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in files[self.keep :]:
                path.unlink(missing_ok=True)

    def _file(self, facts: object) -> Path:
        text = json.dumps([code_digest(), facts], sort_keys=True, default=str)
        return self.folder / f"{sha256(text.encode())[:32]}.json"


def sha256(content: bytes) -> str:
    """The hash of a content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@cache
def code_digest() -> str:
    """A hash of zobench's own modules and their tables, as they lie on disk."""
    folder = Path(__file__).resolve().parents[1]
    files = sorted([*folder.rglob("*.py"), *folder.rglob("*.json")])
    return sha256("\n".join(f"{path.relative_to(folder)} {sha256(path.read_bytes())}" for path in files).encode())
