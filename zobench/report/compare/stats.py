"""Paired tests, intervals and sample sizes. Everything is two-sided at ``ALPHA``.

One guard holds for all of them: a metric over n test rows moves in steps of 1/n, so values that spread less than its
``resolution`` say nothing of how sure they are. The spread is then taken to be the resolution. Where that is not known
either there is no interval and no p value, and no p value is 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special  # scipy.stats takes seconds to import

ALPHA = 0.05
POWER = 0.8
_MANY = 100_000  # from here on the normal approximation is exact to the digit
_SURE = 30.0  # standard errors, beyond which no power is short of 1
_ROUNDING = 1e-12  # relative: accuracies are multiples of 1/rows, and what rounding leaves of equal ones is no spread


@dataclass(frozen=True)
class Interval:
    """Student's interval for the mean of ``n`` values, and the p value of the test that it is 0.

    ``std`` is the sample's. Where it is below the resolution (``unseen``) the interval and p are those of a spread of
    one resolution; they are NaN where that is not known, and for fewer than two values.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float
    p: float
    unseen: bool


def interval(values: Sequence[float], resolution: float = 0.0, level: float = 1 - ALPHA) -> Interval:
    """Compute Student's interval for a mean.

    >>> one_answer_of_56 = [-1 / 56] * 3
    >>> found = interval(one_answer_of_56, resolution=1 / 56)
    >>> f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}], {found.unseen}"
    '-0.018 [-0.062, 0.027], True'

    Args:
        values: one for each repetition.
        resolution: the smallest step in which a value can move; 0 if it is not known.
        level: of the interval.
    """
    sample = np.asarray(values, float)
    n = len(sample)
    mean = float(sample.mean()) if n else math.nan
    std = float(sample.std(ddof=1)) if n > 1 else math.nan
    unseen = n > 1 and std < max(resolution, _ROUNDING * float(np.abs(sample).max()), math.ulp(0.0)) * (1 - 1e-9)
    spread = resolution if unseen else std
    if not spread > 0:
        return Interval(n, mean, std, math.nan, math.nan, math.nan, unseen)
    error = spread / math.sqrt(n)
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * error
    return Interval(n, mean, std, mean - half, mean + half, p_of(mean / error, n - 1), unseen)


def paired(a: Sequence[float], b: Sequence[float], resolution: float = 0.0) -> Interval:
    """Compare two samples of the same length, in the same order, by Student's paired test: ``a - b``.

    >>> result = paired([0.8, 0.9, 0.7], [0.7, 0.7, 0.6])
    >>> f"{result.mean:.3f} [{result.low:.3f}, {result.high:.3f}], p = {result.p:.3f}"
    '0.133 [-0.010, 0.277], p = 0.057'

    Args:
        a, b: values that were made under the same conditions.
        resolution: the smallest step in which they can move; 0 if it is not known.
    """
    values = np.abs(np.concatenate([a, b])).max(initial=0.0)
    differences = np.asarray(a, float) - np.asarray(b, float)
    if len(differences) > 1 and np.ptp(differences) <= _ROUNDING * values:
        differences = np.full_like(differences, differences.mean())
    return interval(differences.tolist(), resolution)


def resolution_of(n: float) -> float:
    """The step in which a metric over n test rows moves: one row; 0 if n is not known.

    >>> resolution_of(50), resolution_of(float("nan"))
    (0.02, 0.0)
    """
    return 1 / n if n > 0 else 0.0


def power(n: int, difference: float, std: float) -> float:
    """Compute the chance that the paired t-test of ``n`` pairs sees a true mean difference.

    Args:
        difference: the true mean.
        std: standard deviation of the differences, in the same unit.
    """
    if n < 2:
        return 0.0
    return power_of(math.sqrt(n) * difference / std, n - 1)


def power_of(shift: float, freedom: float) -> float:
    """Compute the chance that a t-test sees a true mean.

    Args:
        shift: the true mean in standard errors.
        freedom: degrees of freedom.
    """
    limit = float(special.stdtrit(freedom, 1 - ALPHA / 2))
    if freedom > _MANY or shift > _SURE:
        return float(special.ndtr(shift - limit))
    other = float(special.nctdtr(freedom, shift, -limit))  # NaN from scipy where it is next to nothing
    return float(1 - special.nctdtr(freedom, shift, limit)) + (0.0 if math.isnan(other) else other)


def pairs_needed(difference: float, std: float) -> int:
    """Find the smallest number of pairs at which ``power`` is at least ``POWER``.

    >>> pairs_needed(difference=0.02, std=0.02)  # a spread as large as the difference
    10

    Args:
        difference: true mean difference, above 0.
        std: standard deviation of the differences, in the same unit.

    Raises:
        ValueError: if the deviation is not above 0: a spread that was not seen tells no number.
    """
    if not std > 0:
        raise ValueError(f"std={std}: must be above 0")
    z = float(special.ndtri(1 - ALPHA / 2) + special.ndtri(POWER))
    n = max(2, math.floor((z * std / difference) ** 2))  # what the normal approximation asks is always too few
    while power(n, difference, std) < POWER:
        n += 1
    return n


def p_of(t: float, freedom: float) -> float:
    """The two-sided p value of Student's t. One that underflows is small, and not 0."""
    return max(float(2 * special.stdtr(freedom, -abs(t))), float(np.finfo(float).tiny))
