"""What it takes an entry to reach a workload's target, read at dev evaluations: no finer than these are apart."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from zobench.report.frames.runs import Row, curves


def arrivals(runs: pd.DataFrame, dev_loss: float, seconds: pd.Series) -> list[Row]:
    """Find the first dev evaluation of each run whose loss is at most the target's.

    Args:
        runs: of one entry on one workload, from ``load``.
        dev_loss: the target.
        seconds: that each run's training took, in any unit.

    Returns:
        For each run ``seed``, ``forwards``, in which a backward pass counts as two, and ``seconds``. Backward passes
        and seconds are spread evenly over its steps. Infinity for a run that never gets there.
    """
    lines = curves(runs)
    reached = lines[lines["dev/loss"].le(dev_loss)] if "dev/loss" in lines else lines.iloc[:0]
    first = reached.drop_duplicates("directory").set_index("directory")
    found = []
    for run, whole in zip(runs.to_dict("records"), seconds, strict=True):
        there = first.loc[run["directory"]] if run["directory"] in first.index else None
        forwards = time = math.inf
        if there is not None:
            share, backwards = there["step"] / run["steps"], run.get("backwards")
            forwards = float(there["forwards"]) + 2 * share * (0 if pd.isna(backwards) else backwards)
            time = share * whole
        found.append({"seed": run["seed"], "forwards": forwards, "seconds": time})
    return found


def median(values: Sequence[float]) -> float:
    """The middle value, of which infinite ones are the largest; of an even number the larger of both in the middle.

    >>> median([900.0, 400.0, float("inf")]), median([400.0, float("inf")]), median([])
    (900.0, inf, inf)
    """
    return float(np.sort(values)[len(values) // 2]) if len(values) else math.inf
