"""A slice: the runs whose methods are compared with one another, such as those of one task."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from zobench.report.compare.comparable import parts
from zobench.report.compare.selection import rates, results, tuned
from zobench.report.frames.runs import curves


@dataclass(frozen=True)
class Slice:
    """Comparable runs, and what follows from them.

    Args:
        key: the values of rows and columns that its runs share, the method apart: ``{"task": "sst2"}``.
        runs: its finished and diverged runs, from ``results``.
        mixed: what they differ in all the same; empty if they may be compared.
        said: what a reader must know of the identity of models and data in the whole table, a line for each.
    """

    key: dict[str, str]
    runs: pd.DataFrame
    mixed: Sequence[str] = ()
    said: Sequence[str] = ()

    @cached_property
    def tried(self) -> pd.DataFrame:
        """Every learning rate of every row, from ``rates``."""
        return rates(self.runs)

    @cached_property
    def best(self) -> pd.DataFrame:
        """The finished runs at the chosen rate of their row, MeZO first."""
        return tuned(self.runs, self.tried)

    @cached_property
    def lines(self) -> pd.DataFrame:
        """What the runs of ``best`` logged, with their row and metric."""
        known = self.best[["directory", "row", "metric"]]
        lines = curves(self.best)
        return known.merge(lines.astype({"directory": known["directory"].dtype}), on="directory")  # also of no runs

    @cached_property
    def metric(self) -> str:
        """The name of the metric, or ``metric`` where the slice mixes several."""
        names = self.runs["metric"].dropna().unique()
        return names[0] if len(names) == 1 else "metric"

    @cached_property
    def title(self) -> str:
        """Task, model and further values of the key: ``sst2, opt-125m, tuning=lora``."""
        one = self.runs.iloc[0]
        names = [self.key.get(name, one[name]) for name in ("task", "model")]
        return ", ".join([*names, *(f"{k}={v}" for k, v in self.key.items() if k not in ("task", "model"))])

    def reference(self, name: str) -> str | None:
        """Find the row of a name, or the only row of the method of that name; None if there is none, or it is mixed."""
        rows = self.best.drop_duplicates("row")
        of_method = rows.loc[rows["method"].eq(name), "row"].tolist()
        if self.mixed:
            return None
        return name if name in set(rows["row"]) else of_method[0] if len(of_method) == 1 else None


def slices(frame: pd.DataFrame, axes: Sequence[str] = ("method",), allow_mixed: bool = False) -> list[Slice]:
    """Split the runs of a table into those that are compared with one another.

    Args:
        frame: from ``load``.
        axes: keys that rows and columns are made of; runs of a slice agree in all but the method.
        allow_mixed: let runs differ that should agree.

    Raises:
        Mixed: if the runs are not comparable, or if two have the same settings and seeds.
        ConfigError: if no run has one of the keys.
        UserError: if no run is finished or diverged.
    """
    runs = results(frame, axes, allow_mixed)
    mixed, said = runs.attrs["mixed"], runs.attrs["said"]
    return [Slice(key, part, mixed, said) for key, part in parts(runs, [axis for axis in axes if axis != "method"])]
