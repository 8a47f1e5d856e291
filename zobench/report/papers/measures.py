"""What decides a claim: one number for each pair of runs with the same seeds, from records alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from zobench.report.compare.comparable import by_seeds
from zobench.report.compare.time_to_target import evaluations, first_as_good
from zobench.report.frames.runs import Row, curves

#: a run, and the reference's run with the same seeds
Pair = tuple[Row, Row]


@dataclass(frozen=True)
class Measure:
    """A number that compares a run with the reference's run of the same seeds.

    Args:
        says: the sentence that defines it, for readers.
        unit: of its values.
        better: 1 if more is better, -1 if less is.
        seeds: pairs that a verdict needs at least.
        of: the number of a pair; NaN where the records do not tell, infinite where the run never got there.
    """

    says: str
    unit: str
    better: int
    seeds: int
    of: Callable[[Pair], float]


def pairs(runs: pd.DataFrame, reference: pd.DataFrame) -> list[Pair]:
    """Pair the runs that share all their seeds, in the order of ``runs``."""
    theirs = by_seeds(reference)
    return [(run, theirs[seeds]) for seeds, run in by_seeds(runs).items() if seeds in theirs]


def _score(pair: Pair) -> float:
    run, reference = pair
    return 100 * float(run["test_metric"] - reference["test_metric"])


def _peak_memory(pair: Pair) -> float:
    return _change(*(float(run["peak_gib"]) for run in pair))


def _steps(pair: Pair) -> float:
    return _change(*_reached(pair))


def _hours(pair: Pair) -> float:
    """Compare hours, from those of the whole training: steps of a method cost the same, but for rare refreshes."""
    if len({str(run["device"]).split(":")[0] for run in pair}) > 1:
        return math.nan
    name = "cpu_hours" if str(pair[0]["device"]) == "cpu" else "gpu_hours"
    per_step = [float(run[name]) / run["steps"] for run in pair]
    return _change(*(cost * steps for cost, steps in zip(per_step, _reached(pair), strict=True)))


def _change(value: float, reference: float) -> float:
    return 100 * (value / reference - 1) if reference else math.nan


def _reached(pair: Pair) -> list[float]:
    """Find the step of the first dev evaluation at which each run is as good as the reference at its end."""
    devs = [evaluations(curves(pd.DataFrame([run])), run["metric"]) for run in pair]
    if any(dev.empty for dev in devs):
        return [math.nan, math.nan]
    first = [first_as_good(dev, target=devs[1]) for dev in devs]
    return [math.inf if line is None else float(line["step"]) for line in first]


_UNTIL = "until the reference's last dev metric is reached"
MEASURES = {
    "score": Measure("the task's metric on the test rows, in points", "points", 1, 3, _score),
    "peak_memory": Measure("the change of the run's peak memory", "%", -1, 1, _peak_memory),
    "steps": Measure(f"the change of the steps {_UNTIL}", "%", -1, 3, _steps),
    "hours": Measure(f"the change of the training hours (of the GPU, or CPU) {_UNTIL}", "%", -1, 3, _hours),
}
