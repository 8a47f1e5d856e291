"""A slice: the runs whose methods are compared with one another, such as those of one task."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from zobench.report.compare.comparable import parts
from zobench.report.compare.selection import cells, results, tuned
from zobench.report.frames.runs import curves


@dataclass(frozen=True)
class Slice:
    """Comparable runs. ``key`` has their values of rows and columns, the method apart; ``found`` is of ``results``.

    ``mixed`` lists what they differ in all the same.
    """

    key: dict[str, str]
    found: pd.DataFrame
    mixed: Sequence[str] = ()

    @cached_property
    def tried(self) -> pd.DataFrame:
        """Every learning rate of every row."""
        return cells(self.found)

    @cached_property
    def best(self) -> pd.DataFrame:
        """The finished runs at the chosen rate of their row, MeZO first."""
        return tuned(self.found)

    @cached_property
    def lines(self) -> pd.DataFrame:
        """What the runs of ``best`` logged, with their row and metric."""
        return self.best[["directory", "row", "metric"]].merge(curves(self.best), on="directory")

    @cached_property
    def metric(self) -> str:
        """The name of the metric, or ``metric`` where the slice mixes several."""
        names = self.found["metric"].dropna().unique()
        return names[0] if len(names) == 1 else "metric"

    @cached_property
    def title(self) -> str:
        """``sst2, opt-125m`` and further values of the key."""
        one = self.found.iloc[0]
        names = [self.key.get(name, one[name]) for name in ("task", "model")]
        return ", ".join([*names, *(f"{k}={v}" for k, v in self.key.items() if k not in ("task", "model"))])

    def reference(self, name: str) -> str | None:
        """The row of this name, or the only row of the method of this name; None in a mixed slice."""
        rows = self.best.drop_duplicates("row")
        of_method = rows.loc[rows["method"].eq(name), "row"].tolist()
        if self.mixed:
            return None
        return name if name in set(rows["row"]) else of_method[0] if len(of_method) == 1 else None


def slices(frame: pd.DataFrame, axes: Sequence[str] = ("method",), allow_mixed: bool = False) -> list[Slice]:
    """The slices of a table. Arguments and errors as ``results``."""
    found = results(frame, axes, allow_mixed)
    mixed = found.attrs["mixed"]
    return [Slice(key, runs, mixed) for key, runs in parts(found, [axis for axis in axes if axis != "method"])]
