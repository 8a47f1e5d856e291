"""In which state a cell's run is and how far it has come, from the files of its directory."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zobench.record import metrics, summaries
from zobench.record.reading import Missing, Unreadable
from zobench.record.summaries import RESULTS

#: states of a cell, in the order in which tables show them
STATES = (*RESULTS, "running", "interrupted", "waiting", "failed")


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
        row = summaries.read(directory)
    except Missing:
        return State("waiting", {})
    except Unreadable as error:
        if summaries.goes_on(directory):
            return State("running" if _locked(directory / ".lock") else "interrupted", {"reason": error.said})
        return State("failed", {"reason": f"{error.said}; mend it, or run the cell with overwrite=true"})
    name = row["state"]
    if name == "running" and not _locked(directory / ".lock"):
        return State("interrupted", row | {"reason": "its process ended without a word"})
    if name == "interrupted" and _locked(directory / ".lock"):  # it goes on, and is getting ready
        return State("running", row)
    return State(name, row)


def _locked(path: Path) -> bool:
    """Whether a process holds the lock; asks for a shared one, which no run in progress grants."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
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
    for line in metrics.newest_first(directory):
        if line.get("train_seconds") is not None:
            done = {"steps": line["step"], "forwards": line["forwards"]}
            spent = [done[name] / total for name, total in budget.items() if total]
            fraction = min(1.0, max(spent, default=0.0))
            return Progress(
                line["step"], line["forwards"], fraction, float(line["train_seconds"]), line.get("train/loss")
            )
    return Progress(0, 0, 0.0, 0.0, None)
