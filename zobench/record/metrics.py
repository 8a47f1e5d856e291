"""``metrics.jsonl``: what a run logged, one line a logged step or evaluation. Standard library only."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zobench.record import digests
from zobench.record.archive import LIMIT, Place
from zobench.record.columns import LINES
from zobench.record.reading import Unreadable, content, parse, shown

NAME = "metrics.jsonl"
_TAIL_BYTES = 2**14
_LINES = 10**6
_WRONG = 1000  # lines to name at most
Line = dict[str, Any]


def line(written: bytes) -> Line:
    """Read one line.

    >>> line(b'{"step": 10, "forwards": 20, "lr": 1e-6}')["forwards"]
    20

    Raises:
        ValueError: with what is wrong.
    """
    try:
        values = parse(written)
    except ValueError as error:
        raise ValueError(f"not a JSON object ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"not a JSON object: {shown(values)}")
    if wrong := LINES.misfit(values):
        raise ValueError(wrong)
    if lacking := [name for name in ("step", "forwards") if values.get(name) is None]:
        raise ValueError(f"it lacks {' and '.join(lacking)}")
    return values


def read(directory: Place) -> tuple[list[Line], list[Unreadable]]:
    """Read all lines of a run, in the order of the file.

    Returns:
        The lines, and an error for each that cannot be used. The torn last line of a killed run is dropped in silence.

    Raises:
        Missing: if there is no such file.
        Unreadable: if it cannot be read at all, or was changed.
    """
    path = directory / NAME
    data = content(path, LIMIT)
    digests.check(path, data)
    if (count := data.count(b"\n")) > _LINES:
        raise Unreadable(path, f"{count:,} lines; at most {_LINES:,} are read")
    texts = data.splitlines()
    lines: list[Line] = []
    wrong: list[Unreadable] = []
    for number, written in enumerate(texts, start=1):
        try:
            lines.append(line(written))
        except ValueError as error:
            if number < len(texts) or _whole(written):
                wrong.append(Unreadable(path, str(error), number))
            if len(wrong) > _WRONG:
                raise Unreadable(
                    path, f"more than {_WRONG} lines that cannot be used, as line {number}: {error}"
                ) from None
    return lines, wrong


def _whole(written: bytes) -> bool:
    """Whether a line is JSON, so that it was not torn while it was written."""
    try:
        parse(written)
    except ValueError:
        return False
    return True


def newest_first(directory: Path) -> Iterator[Line]:
    """The last lines of a run in progress, but for those that cannot be used, such as one that is being written."""
    try:
        with open(os.open(directory / NAME, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            texts = file.read(_TAIL_BYTES).splitlines()
    except OSError:  # not there, or no file
        return
    for written in reversed(texts):
        try:
            yield line(written)
        except ValueError:
            continue
