"""Rows of one slice against one another, paired by seeds and by test examples."""

from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from zobench.report.compare.crossed import Difference
from zobench.report.compare.entries import Entries, keys_of, scores_of
from zobench.report.compare.slices import Slice
from zobench.report.compare.stats import ALPHA, pairs_needed, resolution_of

POINTS = 0.02  # the difference that the power statement speaks of


class Pairs:
    """The runs of a slice at their chosen learning rates, paired by all their seeds."""

    def __init__(self, slice_: Slice):
        self.slice = slice_
        self._best = slice_.best.assign(key=keys_of(slice_.best))
        self.rows: list[str] = list(self._best["row"].unique())

    @cached_property
    def entries(self) -> Entries:
        """The rows as entries of one workload."""
        resolution = resolution_of(self._best["test/n"].min())  # one row of the smallest test set
        return Entries(scores_of(self._best), self._metrics, resolution, self._untrained)

    @cached_property
    def _metrics(self) -> "dict[str, pd.Series[float]]":
        return {row: runs.set_index("key")["test_metric"].dropna() for row, runs in self._best.groupby("row")}

    @cached_property
    def _untrained(self) -> set[str]:
        return set(self._best.loc[self._best["trains"].eq(False), "row"])

    def versus(self, a: str, b: str) -> Difference:
        """Compare two rows: ``a`` less ``b``, over the seeds and the test examples that they share."""
        return self.entries.versus(a, b)

    def apart(self, a: str, b: str) -> bool:
        """Whether two rows differ in a test that is adjusted for all pairs of rows, over three seeds or more."""
        return self.versus(a, b).supported and bool(self.entries.p.loc[a, b] < ALPHA)

    def best_row(self) -> tuple[str | None, bool]:
        """Find the row with the highest mean test metric, and whether it is better than every other.

        Returns:
            The row, None where there are fewer than two, and whether it is ``supported`` against all others.
        """
        means = {row: scores.mean() for row, scores in self._metrics.items() if len(scores)}
        if len(means) < 2:
            return None, False
        top = max(means, key=lambda row: means[row])
        return top, all(self.versus(top, row).supported for row in means if row != top)

    def power(self) -> str:
        """Say how likely the test sees a difference of two points, and how many seeds would do, at the spread here."""
        here = int(self._best.groupby("row").size().max())
        examples = self._best["test/n"].max()
        if (found := self.entries.components) is not None:
            needed = found.seeds_needed(POINTS, int(examples))
            asked = f"{needed:,} seeds" if needed else "no number of seeds suffices, it takes more test examples"
            return f"{asked} (here {here}, power {found.power(POINTS, here, int(examples)):.2f})"
        spread = self._spread_over_seeds()
        if spread > 0:
            return f"{pairs_needed(POINTS, spread):,} seeds (here {here}, over seeds alone)"
        return f"seeds unknown ({'none shared by two runs' if spread != spread else 'no spread seen'})"

    def _spread_over_seeds(self) -> float:
        """Pool the spreads over seeds of all pairs of trained rows; NaN without any."""
        trained = [row for row in self.rows if row not in self._untrained]
        found = [each for each in (self.versus(*pair) for pair in combinations(trained, 2)) if each.seeds > 1]
        if not found:
            return float("nan")
        pooled = np.sqrt(np.average([each.std**2 for each in found], weights=[each.seeds - 1 for each in found]))
        return max(float(pooled), resolution_of(self._best["test/n"].min()))
