"""In which state a cell's run is and how far it has come, from the files of its directory."""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zobench.record.summaries import RESULTS

#: states of a cell, in the order in which tables show them
STATES = (*RESULTS, "running", "interrupted", "waiting", "failed")
_TAIL_BYTES = 16384


@dataclass(frozen=True)
class State:
    """The state of a run, with what its summary says.

    Attributes:
        name: one of ``STATES``; ``waiting`` is not started, ``interrupted`` goes on when it is run again.
        row: its summary, empty before it has one.
    """

    name: str
    row: dict[str, Any]

    @property
    def reason(self) -> str:
        """Why the run failed, diverged or was stopped; empty where nothing is to be said."""
        return str(self.row.get("reason") or "")


def read(directory: Path) -> State:
    """Read the state of a run from its directory, whether that exists or not."""
    try:
        path = directory / "summary.json"
        row = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
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
    """How far a run has come.

    >>> Progress(step=25, forwards=50, fraction=0.25, seconds=10.0, loss=0.7).seconds_left
    30.0

    Attributes:
        step: steps done.
        forwards: forward passes done.
        fraction: of the budget that is spent, from 0 to 1.
        seconds: of training so far.
        loss: the training loss of the last logged steps; None before the first.
    """

    step: int
    forwards: int
    fraction: float
    seconds: float
    loss: float | None

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training that are left at the pace so far; None before the first step."""
        return self.seconds * (1 / self.fraction - 1) if self.fraction else None


def progress(directory: Path, budget: dict[str, int | None]) -> Progress:
    """How far a run has come, by the last lines of its ``metrics.jsonl``.

    Args:
        directory: of the run.
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
