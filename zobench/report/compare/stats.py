"""Paired tests, intervals and sample sizes. Everything is two-sided at ``ALPHA``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA = 0.05
POWER = 0.8
_MANY = 100_000  # from here on the normal approximation is exact to the digit


@dataclass(frozen=True)
class Paired:
    """The mean difference ``a - b`` of ``n`` pairs, its 95 % t interval, and the p value of the paired t-test.

    Interval and p are NaN for fewer than two pairs, and where all differences are equal: without spread no test.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float
    p: float


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare two samples of the same length, in the same order, by Student's paired test.

    >>> result = paired([0.8, 0.9, 0.7], [0.7, 0.7, 0.6])
    >>> f"{result.mean:.3f} [{result.low:.3f}, {result.high:.3f}], p = {result.p:.3f}"
    '0.133 [-0.010, 0.277], p = 0.057'
    """
    differences = np.asarray(a, float) - np.asarray(b, float)
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    std = float(differences.std(ddof=1)) if n > 1 else math.nan
    # Accuracies are multiples of 1/rows, so equal differences occur; what rounding leaves of them is no spread.
    if not std > 1e-12 * np.abs(np.concatenate([a, b])).max(initial=0.0):
        return Paired(n, mean, std, math.nan, math.nan, math.nan)
    test = stats.ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(1 - ALPHA)
    return Paired(n, mean, std, float(low), float(high), float(test.pvalue))


def mcnemar(a: Sequence[float], b: Sequence[float]) -> float:
    """Compare right and wrong answers (1 and 0) of two models to the same examples by McNemar's exact test: p value."""
    only_a = sum(x > y for x, y in zip(a, b, strict=True))
    only_b = sum(x < y for x, y in zip(a, b, strict=True))
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def over_examples(a: Sequence[float], b: Sequence[float]) -> float:
    """Compare two models' scores on the same examples: the p value of the test that fits the scores.

    McNemar's where all are 0 or 1, else the paired t-test's: scores between are F1, or shares of the seeds at which an
    answer was right.
    """
    if {*a, *b} <= {0.0, 1.0}:
        return mcnemar(a, b)
    return paired(a, b).p


def power(n: int, difference: float, std: float) -> float:
    """Compute the chance that the paired t-test of ``n`` pairs sees a true mean difference.

    Args:
        difference: the true mean.
        std: standard deviation of the differences, in the same unit.
    """
    if n < 2:
        return 0.0
    shift, limit = math.sqrt(n) * difference / std, stats.t.ppf(1 - ALPHA / 2, n - 1)
    if n > _MANY:
        return float(stats.norm.sf(limit - shift))
    return float(stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift))


def pairs_needed(difference: float, std: float) -> int:
    """Find the smallest number of pairs at which ``power`` is at least ``POWER``.

    >>> pairs_needed(difference=0.02, std=0.02)  # a spread as large as the difference
    10

    Args:
        difference: true mean difference, above 0.
        std: standard deviation of the differences, in the same unit.
    """
    if not std > 0:
        return 2
    z = stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)
    n = max(2, math.floor((z * std / difference) ** 2))  # what the normal approximation asks is always too few
    while power(n, difference, std) < POWER:
        n += 1
    return n
