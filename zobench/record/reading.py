"""What all readers of a record's files share: bounded bytes, strict JSON, one kind of error. Standard library only.

A record may come from anywhere, and any of its files may be damaged, huge, or no file at all. A reader gives a value
that its schema allows or raises ``Unreadable``; nothing else comes out of a file.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from zobench.errors import DataError
from zobench.record.archive import CannotRead, Place

#: bytes beyond which a file that is written whole, such as summary.json, is not read
SMALL = 2**22
_ADVICE = "put a whole copy of the file back, or remove it"
_SHOWN = 60  # characters of a value in a message


class Unreadable(DataError):
    """A file of a record that cannot be used.

    Args:
        path: of the file.
        reason: what is wrong and what was expected, in one line.
        line: where, counted from 1, in a file of lines.
        advice: what to do, where that is something else.

    Attributes:
        said: the file's name, the line and the reason, where the directory is told elsewhere.
    """

    def __init__(self, path: Place, reason: str, line: int | None = None, advice: str = _ADVICE):
        where = f", line {line}" if line else ""
        self.said = f"{path.name}{where}: {reason}"
        super().__init__(f"{path}{where}: {reason}; {advice}")


class Missing(Unreadable):
    """A file of a record that is not there."""

    def __init__(self, path: Place):
        super().__init__(path, "No such file")


def content(path: Place, limit: int = SMALL) -> bytes:
    """Read a whole file of a record.

    Args:
        path: in a folder or a zip.
        limit: bytes beyond which nothing is read.

    Raises:
        Missing: if there is no such file.
        Unreadable: if it is larger, damaged, or a folder, pipe, socket or device.
    """
    try:
        return _from_folder(path, limit) if isinstance(path, Path) else path.read_bytes(limit)
    except CannotRead as error:
        raise Unreadable(path, error.reason) from error
    except FileNotFoundError as error:
        raise Missing(path) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise Unreadable(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _from_folder(path: Path, limit: int) -> bytes:
    # O_NONBLOCK: opening a pipe would wait for somebody who writes.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        at = os.fstat(file.fileno())
        if not stat.S_ISREG(at.st_mode):
            raise Unreadable(path, "not a plain file")
        if at.st_size > limit:
            raise Unreadable(path, f"{at.st_size:,} bytes; at most {limit:,} are read")
        return file.read(limit)


def text(path: Place, limit: int = SMALL) -> str:
    """Read a whole file as UTF-8. Raises what ``content`` does, and Unreadable for other bytes."""
    data = content(path, limit)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(path, f"not UTF-8 (byte {error.start:,})") from None


def parse(written: str | bytes) -> Any:
    """Read a JSON text of which a record is made: each key once, numbers finite, not nested without end.

    >>> parse('{"steps": 3}')
    {'steps': 3}
    >>> parse('{"steps": 3, "steps": 4}')
    Traceback (most recent call last):
    ValueError: the key 'steps' is there twice

    Raises:
        ValueError: with what is wrong.
    """
    try:
        return _DECODER.decode(written if isinstance(written, str) else written.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} is there twice")
    return made


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def json_object(path: Place, limit: int = SMALL) -> dict[str, Any]:
    """Read a file that holds one JSON object. Raises what ``text`` does, and Unreadable for anything else in it."""
    return as_object(path, text(path, limit))


def as_object(path: Place, written: str) -> dict[str, Any]:
    """The JSON object of a text that was read. Raises Unreadable for anything else in it.

    Args:
        path: of the file, for messages.
    """
    try:
        value = parse(written)
    except ValueError as error:
        raise Unreadable(path, f"torn or not JSON ({error})") from None
    if not isinstance(value, dict):
        raise Unreadable(path, f"expected a JSON object, not {shown(value)}")
    return value


def shown(value: object) -> str:
    """A value for a message: escaped, cut, and its kind alone where it is nested.

    >>> shown("\\x1b]0;title"), shown([1]), shown(0.5)
    ("'\\\\x1b]0;title'", 'a list', '0.5')
    """
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and value.bit_length() > 4 * _SHOWN:
        return "an integer of more digits than any quantity has"
    written = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return written if len(written) <= _SHOWN + 2 else f"{written[:_SHOWN]}..."
