"""What finished runs took: a forward pass in training, an example in an evaluation, and all that comes before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

#: a run of fewer steps, or of fewer seconds in them, says little: the first step loads and compiles what others use
STEADY_STEPS, STEADY_SECONDS = 20, 5.0
SHORT = (
    f"short (~): runs like these took fewer than {STEADY_STEPS} steps or {STEADY_SECONDS:g} s in them, of which the "
    "first step is a large part"
)


@dataclass(frozen=True)
class Rates:
    """Medians over runs.

    Attributes:
        forward: seconds of training per forward pass, backward passes and updates included; None if none trained.
        example: seconds per example that is evaluated; None where rows do not tell evaluations apart.
        before: seconds of all else: loading, caching, writing.
        sizes: examples of dev and test, which cells have unless their task says otherwise.
        gib: the largest peak memory; None if not known.
        gpu: whether the runs had one.
        steady: whether the runs were long enough to say what a step takes.
    """

    forward: float | None
    example: float | None
    before: float
    sizes: tuple[int, int]
    gib: float | None
    gpu: bool
    steady: bool


def rates(rows: Sequence[Mapping[str, Any]]) -> Rates:
    """The rates of some runs; of the long ones alone where there are any."""
    trained = [row for row in rows if row.get("forwards")]
    long = [row for row in trained if _is_steady(row)]
    chosen = long or trained
    examples = [row["evaluate_seconds"] / evaluated(row) for row in rows if evaluated(row)]
    peaks = [row["peak_gib"] for row in rows if row.get("peak_gib")]
    last = rows[-1]
    return Rates(
        median(_training(row) / row["forwards"] for row in chosen) if chosen else None,
        median(examples) if examples else None,
        median(_before(row) for row in rows),
        (last.get("dev/n") or 0, last.get("test/n") or 0),
        max(peaks, default=None),
        str(last["device"]).startswith("cuda"),
        bool(long),
    )


def evaluations(steps: int, eval_every: int | None) -> tuple[int, int]:
    """How often a run of so many steps evaluates dev and test, at the most.

    >>> evaluations(1000, None)  # as it came, five times on the way, and the best weights
    (7, 3)
    >>> evaluations(0, None)
    (1, 1)
    """
    if not steps:
        return 1, 1
    return 2 + -(-steps // (eval_every or max(1, -(-steps // 5)))), 3


def evaluated(row: Mapping[str, Any]) -> int:
    """How many examples a run evaluated; 0 where its row does not say."""
    if not row.get("evaluate_seconds") or not row.get("dev/n") or not row.get("test/n"):
        return 0
    steps = row.get("steps") or 0
    dev, test = evaluations(steps, row.get("eval_every"))
    tested = test - (steps > 0 and row.get("best_step") == steps)
    return int(dev * row["dev/n"] + tested * row["test/n"])


def _training(row: Mapping[str, Any]) -> float:
    """Seconds of training; of a row that does not tell, all of them."""
    return float(row["train_seconds"] if row.get("train_seconds") else row["wall_seconds"])


def _before(row: Mapping[str, Any]) -> float:
    apart = sum(row.get(f"{name}_seconds") or 0.0 for name in ("evaluate", "lens"))
    return max(0.0, row["wall_seconds"] - _training(row) * bool(row.get("forwards")) - apart)


def _is_steady(row: Mapping[str, Any]) -> bool:
    return (row.get("steps") or 0) >= STEADY_STEPS and (row.get("train_seconds") or 0.0) >= STEADY_SECONDS
