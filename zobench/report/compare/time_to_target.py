"""How soon a run is as good as the reference in the end, read at dev evaluations: no finer than these are apart."""

import math

import pandas as pd

from zobench.report.compare.comparable import by_seeds
from zobench.report.compare.slices import Slice
from zobench.report.frames.runs import SEEDS, Row

_COSTS = ("steps", "forwards", "cpu_hours", "gpu_hours")


def untrained_level(run: Row) -> float:
    """The better of a run's zero-shot dev values, with and without a threshold from dev; -inf where none is known."""
    names = (f"zero_shot/dev/{run['metric']}{end}" for end in ("", "_calibrated"))
    values = [float(run[name]) for name in names if isinstance(run.get(name), int | float)]
    return max((value for value in values if math.isfinite(value)), default=-math.inf)


def evaluations(lines: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Select the dev evaluations among a run's logged lines, with the metric's value as ``dev``."""
    name = f"dev/{metric}"
    return (
        lines[lines[name].abs() < math.inf].assign(dev=lambda those: those[name]) if name in lines else lines.iloc[:0]
    )


def first_as_good(dev: pd.DataFrame, target: pd.DataFrame, least: float = -math.inf) -> Row | None:
    """Find the first evaluation that is as good as the last one of the target, and no worse than ``least``.

    >>> dev = pd.DataFrame({"step": [10, 20, 30], "dev": [0.5, 0.7, 0.8]})
    >>> first_as_good(dev, target=pd.DataFrame({"step": [10, 20], "dev": [0.9, 0.6]}))["step"]
    20.0

    Args:
        dev, target: of two runs, from ``evaluations``; the target has one at least.
        least: the level of the untrained model, below which there is nothing to reach.

    Returns:
        The line of the evaluation, or None if the run never gets there.
    """
    there = dev[dev["dev"] >= max(target["dev"].iloc[-1], least)] if len(dev) else dev
    return None if there.empty else there.iloc[0].to_dict()


def reached(slice_: Slice, row: str, reference: str | None) -> Row:
    """Measure what it costs a row to be as good as the reference's run with the same seeds in the end.

    Nobody is credited for a level that the untrained model has, with or without a threshold from dev.

    Args:
        slice_: where both rows are.
        row: its runs are measured.
        reference: another row, or the same; without one nothing is reached.

    Returns:
        ``reached_runs`` of ``reached_of`` runs got there, after ``reached_steps``, ``reached_forwards`` and
        ``reached_cpu_hours`` or ``reached_gpu_hours``, means over those that did. Hours are those of training, spread
        evenly over its steps.
    """
    arrivals: list[Row] = []
    of = 0
    targets = {} if reference is None else by_seeds(_runs(slice_, reference))
    devs = dict(list(evaluations(slice_.lines, slice_.metric).groupby("directory"))) if targets else {}
    for seeds, run in by_seeds(_runs(slice_, row)).items():
        if seeds not in targets:
            continue
        dev, target = devs.get(run["directory"]), devs.get(targets[seeds]["directory"])
        if dev is None or target is None:
            continue
        of += 1
        line = first_as_good(dev, target, max(untrained_level(run), untrained_level(targets[seeds])))
        if line is not None:
            share = line["step"] / run["steps"] if run["steps"] else float("nan")
            arrivals.append({"steps": line["step"], "forwards": line["forwards"], "cpu_hours": share * run["cpu_hours"],
                          "gpu_hours": share * run["gpu_hours"]})  # fmt: skip
    means = pd.DataFrame(arrivals, columns=list(_COSTS)).mean()
    return {"reached_runs": len(arrivals), "reached_of": of, **{f"reached_{name}": means[name] for name in _COSTS}}


def _runs(slice_: Slice, row: str) -> pd.DataFrame:
    untrained = [name for name in slice_.best.columns if name.startswith("zero_shot/dev/")]
    wanted = ["directory", "metric", "steps", "cpu_hours", "gpu_hours", *SEEDS, *untrained]
    return slice_.best.loc[slice_.best["row"].eq(row), wanted]
