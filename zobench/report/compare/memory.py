"""How a run's peak memory was measured, and whether it can stand beside that of other runs."""

from typing import Any

import pandas as pd

from zobench.errors import UserError
from zobench.report.compare.comparable import text

#: the high water of a process that may have had other runs before: it grows with the run's place in its sweep
_SHARED = "VmHWM of the process since the run began"
SHARED = "the peak of a process that may have had other runs before, which grows with the place in the sweep"


def of_the_run_alone(measured_by: Any) -> bool:
    """Whether a record's ``memory_measured_by`` tells of a peak that is the run's own; one that is unknown does not.

    >>> of_the_run_alone("torch.cuda.max_memory_allocated, summed over the GPUs"), of_the_run_alone(None)
    (True, False)
    """
    return isinstance(measured_by, str) and bool(measured_by) and not measured_by.startswith(_SHARED)


#: what decides a run's memory, beside its method's and its tuning's settings
_SETTINGS = ("task", "model", "dtype", "device", "batch_size", "micro_batch_size")
_PEAKS = ("peak_gib", "weights_gib", "method_state_gib", "cache_gib", "rest_gib", "memory_measured_by")


def with_memory(runs: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Give runs the peak memory of other runs with the same settings, which may have been short.

    Memory depends neither on seeds nor on the learning rate, and is what it is after the first steps. Of several runs
    with the same settings the largest peak counts; runs without one keep their own.

    Args:
        runs: from ``load``.
        measured: from ``load``; runs whose peaks are their own (``of_the_run_alone``).

    Raises:
        UserError: if no run is given a peak.
    """
    told = measured.reindex(columns=[*measured.columns.union(_PEAKS)])
    told = told[told["state"].eq("finished") & told["memory_measured_by"].map(of_the_run_alone)]
    keys = ["method", *_SETTINGS]
    keys += [name for name in runs.columns.intersection(told.columns) if name.startswith(("method.", "tuning."))]
    keys = [name for name in keys if name != "method.lr"]
    told = told.sort_values("peak_gib")  # of equal keys the last stays
    peaks = dict(zip(_texts(told, keys), told[[*_PEAKS]].to_dict("records"), strict=True))
    own = runs.reindex(columns=[*_PEAKS]).to_dict("records")
    wanted = _texts(runs, keys)
    given = [peaks.get(key, row) for key, row in zip(wanted, own, strict=True)]
    if peaks.keys().isdisjoint(wanted):
        raise UserError("no run has the method, model and settings of one whose memory was measured")
    result = runs.assign(**{name: [row[name] for row in given] for name in _PEAKS})
    result.attrs = runs.attrs
    return result


def _texts(frame: pd.DataFrame, keys: list[str]) -> list[tuple[str, ...]]:
    return [tuple(map(text, row)) for row in frame.reindex(columns=keys).itertuples(index=False)]
