"""How soon a row is as good as the reference is in the end."""

import pandas as pd

from zobench.report.alike import text
from zobench.report.markup import Row
from zobench.report.records import SEEDS
from zobench.report.slices import Slice


def reached(slice_: Slice, row: str, reference: str | None) -> Row:
    """Steps, forward passes and hours until the last dev metric of the reference's run with the same seeds is reached.

    Read at dev evaluations, so no finer than these are apart. Means are over the runs that got there: ``reached_runs``
    of ``reached_of``. Hours are those of training, spread evenly over its steps.
    """
    found: list[Row] = []
    of = 0
    last = {} if reference is None else {_key(run): _dev(slice_, run) for run in _runs(slice_, reference)}
    for run in _runs(slice_, row):
        dev, level = _dev(slice_, run), last.get(_key(run))
        if dev.empty or level is None or level.empty:
            continue
        of += 1
        there = dev[dev[_name(run)] >= level[_name(run)].iloc[-1]]
        if len(there):
            line = there.iloc[0]
            share = line["step"] / run["steps"] if run["steps"] else float("nan")
            found.append({"steps": line["step"], "forwards": line["forwards"], "cpu_hours": share * run["cpu_hours"],
                          "gpu_hours": share * run["gpu_hours"]})  # fmt: skip
    means = pd.DataFrame(found, columns=["steps", "forwards", "cpu_hours", "gpu_hours"]).mean()
    return {"reached_runs": len(found), "reached_of": of, **{f"reached_{name}": means[name] for name in means.index}}


def _runs(slice_: Slice, row: str) -> list[Row]:
    return slice_.best[slice_.best["row"].eq(row)].to_dict("records")


def _key(run: Row) -> tuple[str, ...]:
    return tuple(text(run[seed]) for seed in SEEDS)


def _name(run: Row) -> str:
    return f"dev/{run['metric']}"


def _dev(slice_: Slice, run: Row) -> pd.DataFrame:
    lines = slice_.lines[slice_.lines["directory"].eq(run["directory"])]
    return lines[lines[_name(run)].notna()] if _name(run) in lines else lines.iloc[:0]
