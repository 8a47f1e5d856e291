"""Groups and ranks: what many pairwise tests say together, and what they do not."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from zobench.report.compare.stats import ALPHA

_DIGITS = 12  # of means that are one value


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjust p values for their number by Holm's step-down rule: those below 0.05 are right together, 19 times in 20.

    NaN, of what could not be tested, is none of them and stays NaN.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, float)
    order = np.argsort(values)  # NaN last
    steps = np.maximum.accumulate(values[order] * np.arange(np.isfinite(values).sum(), np.isnan(values).sum() * -1, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def of_pairs(names: Sequence[Hashable], values: ArrayLike) -> pd.DataFrame:
    """Make a symmetric table of a value for each pair of names, in the order of ``itertools.combinations``.

    >>> of_pairs(["a", "b", "c"], [1, 2, 3]).loc["c", "a"].item()
    2.0
    """
    table = np.full((len(names), len(names)), np.nan)
    table[np.triu_indices(len(names), 1)] = values
    table.T[np.triu_indices(len(names), 1)] = values
    return pd.DataFrame(table, index=names, columns=names)


def groups(names: Sequence[str], apart: pd.DataFrame) -> list[list[str]]:
    """The groups of neighbours by rank that are not told apart, without those inside a larger one, best first.

    Two names share no group if every name down to the better one is told from every name from the worse one on. A name
    may be in several groups: a is not told from b, nor b from c, and yet a from c.

    >>> apart = pd.DataFrame(False, index=list("abc"), columns=list("abc"))
    >>> apart.loc["a", "c"] = apart.loc["c", "a"] = True
    >>> groups(["a", "b", "c"], apart)
    [['a', 'b'], ['b', 'c']]

    Args:
        names: best first.
        apart: whether two names are told apart; symmetric.
    """
    told = np.logical_and.accumulate(apart.loc[names, names].to_numpy(bool), axis=0)
    told = np.logical_and.accumulate(told[:, ::-1], axis=1)[:, ::-1]  # all before the one from all after the other
    ends = (~told).sum(axis=1)
    starts = [i for i, end in enumerate(ends) if i == 0 or end > ends[i - 1]]
    return [list(names[i : ends[i]]) for i in starts]


def letters(count: int) -> list[str]:
    """Names for groups: a to z, then aa.

    >>> letters(3), letters(28)[-2:]
    (['a', 'b', 'c'], ['aa', 'ab'])
    """
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return [(alphabet[i // 26 - 1] if i >= 26 else "") + alphabet[i % 26] for i in range(count)]


def ranks(means: "pd.Series[float]", p: pd.DataFrame, differences: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rank names by their means, with intervals and groups that are right together, 19 times in 20.

    The best rank that a name may have is one more than the number of names told to be better; the worst leaves below
    it only those told to be worse. (Mogstad, Romano, Shaikh and Wilhelm, Review of Economic Studies 91, 2024.)

    Args:
        means: of each name; more is better.
        p: the p value of each pair of names, symmetric, adjusted for the number of pairs.
        differences: of each pair, row less column, which say who is the better one of two that are told apart: where
            seeds are lacking, another than the means say. The means' unless given.

    Returns:
        The names, best first, with ``mean``, ``rank``, which equal means share, the ends ``best`` and ``worst`` of its
        interval, and ``groups``: a letter for each group that it is in. Names that share a letter cannot be told apart.
    """
    told = means.round(_DIGITS)  # the same answers in another order of summing
    names = list(told.sort_values(ascending=False, kind="stable").index)
    apart = p.loc[names, names] < ALPHA
    values = means[names].to_numpy()
    less = (values[:, None] - values if differences is None else differences.loc[names, names].to_numpy()) < 0
    rank = told[names].rank(ascending=False, method="min").astype(int)
    better, worse = (apart & less).sum(axis=1), (apart & ~less).sum(axis=1)
    found = groups(names, apart)
    of = {name: "".join(letter for letter, each in zip(letters(len(found)), found, strict=True) if name in each)
          for name in names}  # fmt: skip
    return pd.DataFrame(
        {"mean": means[names], "rank": rank, "best": np.minimum(1 + better, rank),
         "worst": np.maximum(len(names) - worse, rank), "groups": pd.Series(of)}, index=names,
    )  # fmt: skip
