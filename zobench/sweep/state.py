"""In which state a cell's run is, from the files of its directory."""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zobench.record.directory import Record
from zobench.record.summaries import RESULTS

#: states of a cell, in the order in which tables show them
STATES = (*RESULTS, "running", "interrupted", "waiting", "failed")
_TAIL_BYTES = 16384


@dataclass(frozen=True)
class State:
    """What is known of a run.

    Attributes:
        name: one of ``STATES``; ``waiting`` is not started, ``interrupted`` goes on when it is run again.
        row: its summary, empty before it has one.
    """

    name: str
    row: dict[str, Any]

    @property
    def reason(self) -> str:
        return str(self.row.get("reason") or "")


def read(directory: Path) -> State:
    """The state of a run directory, whether it exists or not."""
    try:
        row = Record.read_summary(directory)
    except (OSError, ValueError) as error:
        return State("failed", {"reason": f"summary.json cannot be read: {error}"})
    name = row.get("state")
    if name == "running" and not _locked(directory / ".lock"):
        return State("interrupted", row | {"reason": "its process ended without a word"})
    return State(str(name) if name in STATES else "waiting", row)


def _locked(path: Path) -> bool:
    """Whether a process holds the lock; asks for a shared one, which no run in progress grants."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        fraction: of its budget that is spent.
        seconds: of training so far.
    """

    step: int
    forwards: int
    fraction: float
    seconds: float
    loss: float | None

    @property
    def seconds_left(self) -> float | None:
        return self.seconds * (1 / self.fraction - 1) if self.fraction else None


def progress(directory: Path, budget: dict[str, int | None]) -> Progress:
    """From the last lines of ``metrics.jsonl``.

    Args:
        budget: ``steps`` and ``forwards``; the run ends at whichever is reached first.
    """
    for line in _last_lines(directory / "metrics.jsonl"):
        if "train_seconds" in line:
            done = {"steps": line["step"], "forwards": line["forwards"]}
            spent = [done[name] / total for name, total in budget.items() if total]
            fraction = min(1.0, max(spent, default=0.0))
            return Progress(
                line["step"], line["forwards"], fraction, float(line["train_seconds"]), line.get("train/loss")
            )
    return Progress(0, 0, 0.0, 0.0, None)


def _last_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Newest first, without the torn one of a line that is being written."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            texts = file.read().splitlines()
    except OSError:
        return
    for text in reversed(texts):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
