"""Rows of one slice against one another, paired by seeds and by test examples."""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from zobench.report.compare.comparable import seeds_of
from zobench.report.compare.slices import Slice
from zobench.report.compare.stats import ALPHA, Interval, over_examples, paired, pairs_needed, resolution_of
from zobench.report.frames.runs import predictions

POINTS = 0.02  # the difference that the power statement speaks of
ENOUGH = 3  # seeds that a claim needs


@dataclass(frozen=True)
class PairedResult:
    """One row less another.

    Args:
        seeds: the difference over shared seeds.
        examples_p: the p value over shared test examples; NaN without predictions.
    """

    seeds: Interval
    examples_p: float

    @property
    def supported(self) -> bool:
        """Whether every test that can be made says that the rows differ, over three seeds or more."""
        by_examples = np.isnan(self.examples_p) or self.examples_p < ALPHA
        return self.seeds.n >= ENOUGH and self.seeds.p < ALPHA and bool(by_examples)


class Pairs:
    """The runs of a slice at their chosen learning rates, paired by all their seeds."""

    def __init__(self, slice_: Slice):
        self.slice = slice_
        self._best = slice_.best.assign(key=_keys(slice_.best))
        self.rows: list[str] = list(self._best["row"].unique())

    @cached_property
    def _scores(self) -> dict[str, pd.Series]:
        return {row: runs.set_index("key")["test_metric"].dropna() for row, runs in self._best.groupby("row")}

    @cached_property
    def _answers(self) -> dict[str, pd.Series]:
        """Row -> the score of each (seeds, example) of its runs."""
        known = self._best[["directory", "row", "key"]]
        answers = predictions(self._best).astype({"directory": known["directory"].dtype}).merge(known, on="directory")
        return {row: lines.set_index(["key", "index"])["score"] for row, lines in answers.groupby("row")}

    def versus(self, a: str, b: str) -> PairedResult:
        """Compare two rows: ``a`` less ``b``, over the seeds and the test examples that they share."""
        one, other = _shared(self._scores.get(a), self._scores.get(b))
        seeds = paired(one.tolist(), other.tolist(), self._resolution)
        one, other = (scores.groupby(level="index").mean() for scores in self._shared_answers(a, b))
        return PairedResult(seeds, over_examples(one.tolist(), other.tolist()) if len(one) else np.nan)

    @cached_property
    def _resolution(self) -> float:
        """The step in which a run's test metric moves: one row of the smallest test set."""
        return resolution_of(self._best["test/n"].min())

    def _shared_answers(self, a: str, b: str) -> tuple[pd.Series, pd.Series]:
        return _shared(self._answers.get(a), self._answers.get(b))

    def best_row(self) -> tuple[str | None, bool]:
        """Find the row with the highest mean test metric, and whether it is better than every other by both tests.

        Returns:
            The row, None where there are fewer than two, and whether it is ``supported`` against all others.
        """
        means = {row: scores.mean() for row, scores in self._scores.items() if len(scores)}
        if len(means) < 2:
            return None, False
        top = max(means, key=lambda row: means[row])
        return top, all(self.versus(top, row).supported for row in means if row != top)

    def power(self) -> str:
        """Say how many seeds and test examples would show a difference of two points, at the spread found here."""
        here = self._best.groupby("row").size().max()
        seeds = _pooled([_spread(*_shared(self._scores[a], self._scores[b])) for a, b in self._trained()])
        answers = [_shared(self._answers.get(a), self._answers.get(b)) for a, b in self._trained()]
        examples = _pooled([_spread(*pair) for pair in answers])
        seeds = max(seeds, self._resolution) if seeds == seeds else seeds
        unknown = "none shared by two runs" if seeds != seeds else "no spread seen"
        said = f"{_needed(seeds)} seeds (here {here})" if seeds > 0 else f"seeds unknown ({unknown})"
        n = self._best["test/n"].max()
        has = f" (here {n:.0f})" if n == n else ""
        if examples > 0:
            return f"{said}, {_needed(examples)} test examples{has}"
        # Independent answers differ more than those of two models to the same examples.
        apart = float(np.sqrt(2 * (self._best["test_metric_stderr"] ** 2 * self._best["test/n"]).mean()))
        told = f"at most {_needed(apart)} test examples{has}" if apart > 0 else "test examples unknown"
        return f"{said}, {told}"

    def _trained(self) -> list[tuple[str, str]]:
        untrained = set(self._best.loc[self._best["trains"].eq(False), "row"])
        return list(combinations([row for row in self.rows if row not in untrained], 2))


def _keys(runs: pd.DataFrame) -> "pd.Series[Any]":
    return pd.Series(map(" ".join, seeds_of(runs)), index=runs.index, dtype=object)


def _shared(a: pd.Series | None, b: pd.Series | None) -> tuple[pd.Series, pd.Series]:
    if a is None or b is None:
        nothing = pd.Series([], index=pd.MultiIndex.from_arrays([[], []], names=["key", "index"]), dtype=float)
        return nothing, nothing
    index = a.index.intersection(b.index)
    return a.loc[index], b.loc[index]


def _spread(a: pd.Series, b: pd.Series) -> tuple[int, float]:
    """Compute degrees of freedom and variance of the differences."""
    differences = a.to_numpy(float) - b.to_numpy(float)
    return (len(differences) - 1, float(differences.var(ddof=1))) if len(differences) > 1 else (0, 0.0)


def _pooled(spreads: list[tuple[int, float]]) -> float:
    """Pool the spreads of all pairs of rows into one standard deviation, NaN without any."""
    freedom = sum(n for n, _ in spreads)
    return float(np.sqrt(sum(n * variance for n, variance in spreads) / freedom)) if freedom else float("nan")


def _needed(spread: float) -> str:
    return f"{pairs_needed(POINTS, spread):,}"
