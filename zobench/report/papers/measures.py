"""What decides a claim: one number for each pair of runs with the same seeds, from records alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from zobench.report.compare.comparable import by_seeds
from zobench.report.compare.memory import of_the_run_alone
from zobench.report.compare.stats import resolution_of
from zobench.report.compare.time_to_target import evaluations, first_as_good, untrained_level
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
        resolution: the step in which that number moves, 0 where it is not known.
        needs: what a pair must have beside the same seeds, for readers.
        alone: whether a run is measured by itself; the reference of its pair is then the run again.
    """

    says: str
    unit: str
    better: int
    seeds: int
    of: Callable[[Pair], float]
    resolution: Callable[[Pair], float]
    needs: str
    alone: bool = False


def pairs(runs: pd.DataFrame, reference: pd.DataFrame) -> list[Pair]:
    """Pair the runs that share all their seeds, in the order of ``runs``."""
    theirs = by_seeds(reference)
    return [(run, theirs[seeds]) for seeds, run in by_seeds(runs).items() if seeds in theirs]


def _score(pair: Pair) -> float:
    run, reference = pair
    return 100 * float(run["test_metric"] - reference["test_metric"])


def _over_majority(pair: Pair) -> float:
    run, _ = pair
    return 100 * float(run["test_metric"] - run.get("test/majority", math.nan))


def _one_row(pair: Pair) -> float:
    return 100 * resolution_of(min(float(run.get("test/n") or math.nan) for run in pair))


def _peak_memory(pair: Pair) -> float:
    if not all(of_the_run_alone(run.get("memory_measured_by")) for run in pair):
        return math.nan
    return _change(*(float(run["peak_gib"]) for run in pair))


def _steps(pair: Pair) -> float:
    return _change(*_reached(pair)[0])


def _forwards(pair: Pair) -> float:
    return _change(*_reached(pair, "forwards")[0])


def _one_evaluation(pair: Pair, cost: str = "step") -> float:
    """The change that one evaluation earlier or later is, in percent of what the reference took."""
    (_, reference), between = _reached(pair, cost)
    return 100 * between / reference if 0 < reference < math.inf else 0.0


def _hours(pair: Pair) -> float:
    """Compare hours, from those of the whole training: steps of a method cost the same, but for rare refreshes."""
    if len({str(run["device"]).split(":")[0] for run in pair}) > 1:
        return math.nan
    return _change(*(cost * steps for cost, steps in zip(_per_step(pair), _reached(pair)[0], strict=True)))


def _per_step(pair: Pair) -> list[float]:
    name = "cpu_hours" if str(pair[0]["device"]) == "cpu" else "gpu_hours"
    return [float(run[name]) / run["steps"] if run["steps"] else math.nan for run in pair]


def _one_evaluation_in_hours(pair: Pair) -> float:
    mine, theirs = _per_step(pair)
    return _one_evaluation(pair) * mine / theirs if theirs else 0.0


def _change(value: float, reference: float) -> float:
    return 100 * (value / reference - 1) if reference and reference < math.inf else math.nan


def _reached(pair: Pair, cost: str = "step") -> tuple[list[float], float]:
    """Find the first dev evaluation at which each run is as good as the reference at its end.

    Returns:
        Its ``cost``, step or forwards, in the run and the reference, and how far apart the run's evaluations are.
    """
    devs = [evaluations(curves(pd.DataFrame([run])), run["metric"]) for run in pair]
    if any(dev.empty for dev in devs):
        return [math.nan, math.nan], 0.0
    least = max(map(untrained_level, pair))
    first = [first_as_good(dev, target=devs[1], least=least) for dev in devs]
    costs = [math.inf if line is None else float(line[cost]) for line in first]
    before = devs[0].loc[devs[0][cost] < costs[0], cost].max()
    return costs, 0.0 if costs[0] == math.inf else costs[0] - (0.0 if before != before else float(before))


_UNTIL = "until the reference's last dev metric is reached"
_LEVEL = "dev evaluations of both, and a reference that ends above the untrained model"
MEASURES = {
    "score": Measure("the task's metric on the test rows, in points", "points", 1, 3, _score, _one_row, "test results"),
    "over_majority": Measure(
        "the task's metric less the share of the most frequent class, on the test rows", "points", 1, 3, _over_majority,
        _one_row, "the share of the most frequent class", alone=True,
    ),
    "peak_memory": Measure(
        "the change of the run's peak memory", "%", -1, 1, _peak_memory, lambda _: 0.0,
        "peaks that were measured for the run alone",
    ),
    "steps": Measure(f"the change of the steps {_UNTIL}", "%", -1, 3, _steps, _one_evaluation, _LEVEL),
    "forwards": Measure(
        f"the change of the forward passes {_UNTIL}", "%", -1, 3, _forwards,
        lambda pair: _one_evaluation(pair, "forwards"), _LEVEL,
    ),
    "hours": Measure(
        f"the change of the training hours (of the GPU, or CPU) {_UNTIL}", "%", -1, 3, _hours, _one_evaluation_in_hours,
        f"one kind of device, {_LEVEL}",
    ),
}  # fmt: skip
