"""Entries of one workload, or of several, set against one another over seeds and test examples."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, reduce
from itertools import combinations
from operator import add
from typing import Any

import numpy as np
import pandas as pd

from zobench.report.compare.comparable import seeds_of
from zobench.report.compare.crossed import (
    ENOUGH,
    MANY,
    Components,
    Difference,
    MeanSquares,
    Usual,
    difference,
    mean_of,
    over_seeds,
)
from zobench.report.compare.groups import holm, of_pairs, ranks
from zobench.report.frames.runs import predictions


def keys_of(runs: pd.DataFrame) -> "pd.Series[Any]":
    """What names the seeds of each run: those that share it are paired."""
    return pd.Series(map(" ".join, seeds_of(runs)), index=runs.index, dtype=object)


def scores_of(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Read the scores of single test examples.

    Args:
        runs: from ``load``, with the name of the entry in ``row`` and ``keys_of`` in ``key``.

    Returns:
        For each entry with stored predictions a table of scores, a line for each seed and a column for each example.
    """
    known = runs[["directory", "row", "key"]]
    answers = predictions(runs).astype({"directory": known["directory"].dtype}).merge(known, on="directory")
    scores = answers.groupby(["row", "key", "index"])["score"].mean()
    return {str(row): of_row.droplevel("row").unstack() for row, of_row in scores.groupby(level="row")}


class Comparison(ABC):
    """Entries that are compared in pairs.

    Args:
        names: of the entries.
    """

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self._known: dict[tuple[str, str], Difference] = {}

    @abstractmethod
    def mean(self, name: str) -> float:
        """The mean score of an entry; NaN where there is none."""

    @abstractmethod
    def _versus(self, one: str, other: str) -> Difference: ...

    def versus(self, one: str, other: str) -> Difference:
        """Compare two entries: ``one`` less ``other``."""
        if (one, other) not in self._known:
            self._known[one, other] = self._versus(one, other)
        return self._known[one, other]

    def against(self, reference: str) -> pd.DataFrame:
        """Set every entry against a reference, in tests that are right together, 19 times in 20.

        Returns:
            For each other entry, best first: ``mean`` difference, ``low``, ``high``, ``p``, ``holm`` (p adjusted for
            the number of entries), ``seeds``, ``examples``.
        """
        found = {name: self.versus(name, reference) for name in self.names if name != reference}
        columns = ("mean", "low", "high", "p", "seeds", "examples")
        frame = pd.DataFrame(
            {column: {name: getattr(each, column) for name, each in found.items()} for column in columns}
        )
        return frame.assign(holm=holm(frame["p"])).sort_values("mean", ascending=False)

    @cached_property
    def p(self) -> pd.DataFrame:
        """The p value of each pair of entries, adjusted for the number of pairs; NaN where nothing is tested."""
        return of_pairs(self.names, holm([self.versus(*pair).p for pair in combinations(self.names, 2)]))

    def ranks(self) -> pd.DataFrame:
        """Rank the entries that have scores, with intervals and groups: see ``groups.ranks``.

        Entries that share too few seeds for a claim are not told apart.
        """
        means = pd.Series({name: self.mean(name) for name in self.names}, dtype=float).dropna()
        pairs = [self.versus(*pair) for pair in combinations(self.names, 2)]
        enough = of_pairs(self.names, [each.seeds for each in pairs]) >= ENOUGH
        above = of_pairs(self.names, [each.mean for each in pairs]).to_numpy()
        differences = pd.DataFrame(np.triu(above) - np.tril(above), index=self.names, columns=self.names)
        return ranks(means, self.p.where(enough), differences)


class Entries(Comparison):
    """Entries of one workload.

    >>> draw = np.random.default_rng(0)
    >>> right = {"mezo": 0.7, "loren": 0.8, "pgap": 0.7}
    >>> tables = {name: pd.DataFrame(draw.random((5, 500)) < share) for name, share in right.items()}
    >>> found = Entries(tables)
    >>> found.ranks()[["rank", "best", "worst", "groups"]].values.tolist()
    [[1, 1, 1, 'a'], [2, 2, 3, 'b'], [3, 2, 3, 'b']]

    Args:
        scores: of each entry, a line for each seed and a column for each test example.
        metrics: the metric of each seed, for entries whose scores were not kept.
        resolution: the step in which that moves; 0 if it is not known.
        untrained: entries that do not train, from which nothing is learnt of the spread over seeds.
    """

    def __init__(
        self,
        scores: Mapping[str, pd.DataFrame],
        metrics: "Mapping[str, pd.Series[float]] | None" = None,
        resolution: float = 0.0,
        untrained: Collection[str] = (),
    ):
        super().__init__(list(dict.fromkeys([*(metrics or {}), *scores])))
        self.scores = {name: table.astype(float) for name, table in scores.items()}
        self._metrics, self._resolution, self._untrained = metrics or {}, resolution, untrained

    def mean(self, name: str) -> float:
        """The mean metric over seeds; NaN where there is none."""
        if name in self._metrics:
            return float(self._metrics[name].mean())
        return float(self.scores[name].to_numpy().mean())

    def _versus(self, one: str, other: str) -> Difference:
        if (found := self._squares(one, other)) is not None:
            return difference(found, Usual() if {one, other} & set(self._untrained) else self.usual)
        metrics = [self._metrics.get(name, pd.Series(dtype=float)) for name in (one, other)]
        seeds = metrics[0].index.intersection(metrics[1].index)
        one_by_seed, other_by_seed = (values[seeds].tolist() for values in metrics)
        return over_seeds(one_by_seed, other_by_seed, self._resolution)

    def _squares(self, one: str, other: str) -> MeanSquares | None:
        """The mean squares of a pair; None without two seeds that share two examples."""
        if one not in self.scores or other not in self.scores:
            return None
        differences = (self.scores[one] - self.scores[other]).dropna(how="all").dropna(axis="columns")
        level = (self._level[one] + self._level[other]) / 2
        return MeanSquares.of(differences, level) if min(differences.shape) > 1 else None

    @cached_property
    def _level(self) -> dict[str, float]:
        return {name: float(np.nanmean(table.to_numpy())) for name, table in self.scores.items()}

    @cached_property
    def _trained(self) -> list[MeanSquares]:
        return self._of_pairs(name for name in self.names if name not in self._untrained)

    def _of_pairs(self, names: Iterable[str]) -> list[MeanSquares]:
        return [found for pair in combinations(names, 2) if (found := self._squares(*pair)) is not None]

    @cached_property
    def usual(self) -> Usual:
        """What the pairs of trained entries share of the spread over seeds."""
        return Usual.of(self._trained, sum(name in self.scores for name in self.names if name not in self._untrained))

    @cached_property
    def components(self) -> Components | None:
        """The variances that differences consist of, for their power; None where no pair of trained entries has any.

        Of ``MANY`` entries they are those of the better half, among which one wants to tell a difference.
        """
        trained = [name for name in self.names if name not in self._untrained and name in self.scores]
        middle = float(np.median([self._level[name] for name in trained])) if len(trained) >= MANY else -np.inf
        found = self._of_pairs(name for name in trained if self._level[name] >= middle)
        return Components.of(found, self.usual) if found else None


class Overall(Comparison):
    """Entries over several workloads: the mean of their differences on these workloads, which are no sample of others.

    Args:
        workloads: entries of each workload, of which those that are in all are compared. Workloads with the same test
            rows and seeds are no independent samples: give them as one list in the list.
    """

    def __init__(self, workloads: Sequence[Entries | Sequence[Entries]]):
        sets = [[each] if isinstance(each, Entries) else list(each) for each in workloads]
        everywhere = [set(each.names) for together in sets for each in together]
        names = [name for name in sets[0][0].names if all(name in names for names in everywhere)]
        super().__init__(names)
        self._parts = [(len(each), each[0] if len(each) == 1 else _averaged(each, names)) for each in sets]

    def mean(self, name: str) -> float:
        """The mean metric over the workloads."""
        return float(np.average([each.mean(name) for _, each in self._parts], weights=[w for w, _ in self._parts]))

    def _versus(self, one: str, other: str) -> Difference:
        return mean_of([(weight, each.versus(one, other)) for weight, each in self._parts])


def _averaged(workloads: Sequence[Entries], names: Sequence[str]) -> Entries:
    """Entries whose scores are the means over workloads with the same test rows, where all have seed and row."""
    untrained = {name for each in workloads for name in each._untrained}
    summed = {name: reduce(add, (each.scores[name] for each in workloads)) for name in names}
    means = {name: each.dropna(how="all").dropna(axis="columns") / len(workloads) for name, each in summed.items()}
    return Entries(means, untrained=untrained)
