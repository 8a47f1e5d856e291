"""What finished runs took: a forward pass in training, an example in an evaluation, and all that comes before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from zobench.config.chosen import Chosen
from zobench.tasks.base import one_set

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
        runs: how many they are.
    """

    forward: float | None
    example: float | None
    before: float
    sizes: tuple[int, int]
    gib: float | None
    gpu: bool
    steady: bool
    runs: int


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
        len(chosen or rows),
    )


def evaluations(steps: int, eval_every: int | None) -> tuple[int, float]:
    """How often a run of so many steps evaluates dev and test.

    Test rows are evaluated as the model came, with the best weights, and with the last ones where those are others:
    that is half an evaluation in the mean.

    >>> evaluations(1000, None)  # as it came, five times on the way, and the best weights
    (7, 2.5)
    >>> evaluations(10, 10), evaluations(0, None)
    ((3, 2), (1, 1))
    """
    if not steps:
        return 1, 1
    on_the_way = -(-steps // (eval_every or max(1, -(-steps // 5))))
    return 2 + on_the_way, 2.5 if on_the_way > 1 else 2


def split_sizes(cell: Chosen) -> tuple[int, int, int]:
    """Examples of train, dev and test that a cell will have; 0 where it asks for a share of a file or says nothing.

    A file gives no more rows than it has (``task.rows``): dev comes out of the train file.
    """
    named, name = cell.get("task.splits") or {}, cell.get("data.splits") or cell.choice("protocol")
    splits = named if one_set(named) else named.get(name) or {}
    asked = (splits.get(part) for part in ("train", "dev", "test"))
    train, dev, test = (size if isinstance(size, int) else 0 for size in asked)
    there = list((cell.get("task.rows") or {}).values())
    if there:
        dev, test = min(dev, there[0]), min(test, there[-1])
        train = min(train, there[0] - dev)
    return train, dev, test


def evaluated(row: Mapping[str, Any]) -> int:
    """How many examples a run evaluated; 0 where its row does not say."""
    if not row.get("evaluate_seconds") or not row.get("dev/n") or not row.get("test/n"):
        return 0
    steps = row.get("steps") or 0
    dev, _ = evaluations(steps, row.get("eval_every"))
    tested = 1 + (steps > 0) + (steps > 0 and row.get("best_step") != steps)
    return int(dev * row["dev/n"] + tested * row["test/n"])


def _training(row: Mapping[str, Any]) -> float:
    """Seconds of training; of a row that does not tell, all of them."""
    return float(row["train_seconds"] if row.get("train_seconds") else row["wall_seconds"])


def _before(row: Mapping[str, Any]) -> float:
    apart = sum(row.get(f"{name}_seconds") or 0.0 for name in ("evaluate", "lens"))
    return max(0.0, row["wall_seconds"] - _training(row) * bool(row.get("forwards")) - apart)


def _is_steady(row: Mapping[str, Any]) -> bool:
    return (row.get("steps") or 0) >= STEADY_STEPS and (row.get("train_seconds") or 0.0) >= STEADY_SECONDS
