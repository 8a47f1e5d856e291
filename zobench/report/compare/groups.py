"""Groups and ranks: what many pairwise tests say together, and what they do not."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from zobench.report.compare.stats import ALPHA


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


def groups(names: Sequence[str], apart: pd.DataFrame) -> list[list[str]]:
    """The largest groups of names of which no two are apart, in the order of the names.

    A name may be in several: a is not told from b, nor b from c, and yet a from c. (The compact letter display, by
    insertion and absorption: Piepho, Journal of Computational and Graphical Statistics 13, 2004.)

    >>> apart = pd.DataFrame(False, index=list("abc"), columns=list("abc"))
    >>> apart.loc["a", "c"] = apart.loc["c", "a"] = True
    >>> groups(["a", "b", "c"], apart)
    [['a', 'b'], ['b', 'c']]

    Args:
        names: best first.
        apart: whether two names are told apart; symmetric.
    """
    found = [frozenset(names)] if names else []
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if not apart.loc[one, other]:
                continue
            split = [part for each in found if {one, other} <= each for part in (each - {one}, each - {other})]
            rest = [each for each in found if not {one, other} <= each]
            found = rest + [part for part in dict.fromkeys(split) if not any(part < each for each in [*rest, *split])
                            and part not in rest]  # fmt: skip
    place = {name: i for i, name in enumerate(names)}
    listed = [sorted(each, key=place.__getitem__) for each in found]
    return sorted(listed, key=lambda each: [place[name] for name in each])


def letters(count: int) -> list[str]:
    """Names for groups: a to z, then aa.

    >>> letters(3), letters(28)[-2:]
    (['a', 'b', 'c'], ['aa', 'ab'])
    """
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return [(alphabet[i // 26 - 1] if i >= 26 else "") + alphabet[i % 26] for i in range(count)]


def ranks(means: "pd.Series[float]", p: pd.DataFrame) -> pd.DataFrame:
    """Rank names by their means, with intervals and groups that are right together, 19 times in 20.

    The best rank that a name may have is one more than the number of names told to be better; the worst leaves below
    it only those told to be worse. (Mogstad, Romano, Shaikh and Wilhelm, Review of Economic Studies 91, 2024.)

    Args:
        means: of each name; more is better.
        p: the p value of each pair of names, symmetric, adjusted for the number of pairs.

    Returns:
        The names, best first, with ``mean``, ``rank``, the ends ``best`` and ``worst`` of its interval, and ``groups``:
        a letter for each group that it is in. Names that share a letter cannot be told apart.
    """
    names = list(means.sort_values(ascending=False, kind="stable").index)
    apart = p.loc[names, names] < ALPHA
    less = means[names].to_numpy()[:, None] < means[names].to_numpy()
    better, worse = (apart & less).sum(axis=1), (apart & ~less).sum(axis=1)
    found = groups(names, apart)
    of = {name: "".join(letter for letter, each in zip(letters(len(found)), found, strict=True) if name in each)
          for name in names}  # fmt: skip
    return pd.DataFrame(
        {"mean": means[names], "rank": range(1, len(names) + 1), "best": 1 + better, "worst": len(names) - worse,
         "groups": pd.Series(of)}, index=names,
    )  # fmt: skip
