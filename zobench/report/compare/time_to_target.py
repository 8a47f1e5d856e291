"""How soon a run is as good as the reference in the end, read at dev evaluations: no finer than these are apart."""

import pandas as pd

from zobench.report.compare.comparable import seeds_of
from zobench.report.compare.slices import Slice
from zobench.report.typeset.table import Row


def evaluations(lines: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The dev evaluations among a run's logged lines, with the metric's value as ``dev``."""
    name = f"dev/{metric}"
    return lines[lines[name].notna()].assign(dev=lambda found: found[name]) if name in lines else lines.iloc[:0]


def first_at(dev: pd.DataFrame, level: float) -> Row | None:
    """The first of some ``evaluations`` that reaches a level; None if none does."""
    there = dev[dev["dev"] >= level] if len(dev) else dev
    return None if there.empty else there.iloc[0].to_dict()


def reached(slice_: Slice, row: str, reference: str | None) -> Row:
    """Steps, forward passes and hours until the last dev metric of the reference's run with the same seeds is reached.

    Means are over the runs that got there: ``reached_runs`` of ``reached_of``. Hours are those of training, spread
    evenly over its steps.
    """
    found: list[Row] = []
    of = 0
    last = {} if reference is None else {seeds: _dev(slice_, run) for seeds, run in _runs(slice_, reference)}
    for seeds, run in _runs(slice_, row):
        dev, level = _dev(slice_, run), last.get(seeds)
        if dev.empty or level is None or level.empty:
            continue
        of += 1
        line = first_at(dev, level["dev"].iloc[-1])
        if line is not None:
            share = line["step"] / run["steps"] if run["steps"] else float("nan")
            found.append({"steps": line["step"], "forwards": line["forwards"], "cpu_hours": share * run["cpu_hours"],
                          "gpu_hours": share * run["gpu_hours"]})  # fmt: skip
    means = pd.DataFrame(found, columns=["steps", "forwards", "cpu_hours", "gpu_hours"]).mean()
    return {"reached_runs": len(found), "reached_of": of, **{f"reached_{name}": means[name] for name in means.index}}


def _runs(slice_: Slice, row: str) -> list[tuple[tuple[str, ...], Row]]:
    runs = slice_.best[slice_.best["row"].eq(row)]
    return list(zip(seeds_of(runs), runs.to_dict("records"), strict=True))


def _dev(slice_: Slice, run: Row) -> pd.DataFrame:
    return evaluations(slice_.lines[slice_.lines["directory"].eq(run["directory"])], run["metric"])
