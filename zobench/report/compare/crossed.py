"""How sure a difference is: whether it would show with other seeds and other test examples too.

Two rows of a table, scored on the same test examples with the same seeds, differ by a table with a line for each of S
seeds and a column for each of N examples. Seeds and examples are each a sample of many, so it is read as crossed random
effects::

    difference[s, n] = mean + seed[s] + example[n] + rest[s, n]

The mean's variance then is ``(M_seeds + M_examples - M_rest) / (S N)``, in the mean squares M of the two-way analysis
of variance: that over seeds and that over examples, less what both count. Each mean square has degrees of freedom, from
which Satterthwaite's formula makes those of Student's t. A plain test over seeds takes the test rows for all rows that
there are, and one over examples takes the seeds for all seeds. docs/statistics.md has sizes and powers of all three.

Sources: Satterthwaite, Biometrics Bulletin 2 (1946); Cameron, Gelbach and Miller, Journal of Business & Economic
Statistics 29 (2011), for the same variance; Smyth, Statistical Applications in Genetics and Molecular Biology 3 (2004),
for the spread that many differences share.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # scipy.stats takes seconds to import

from zobench.report.compare.stats import ALPHA, POWER, p_of, paired, power_of, resolution_of

ENOUGH = 3  # seeds that a claim needs
MANY = 8  # rows from which a trend can be learnt
_MOST_SEEDS = 1000  # that are worth naming


@dataclass(frozen=True)
class Difference:
    """A mean difference and how sure it is.

    Args:
        mean: one row less another.
        error: the standard error; NaN where nothing tells it, as with one seed.
        freedom: degrees of freedom of Student's t.
        seeds, examples: how many there are; 0 examples where scores of single examples are not known.
        std: sample standard deviation over seeds.
        unseen: whether that is below the step in which the metric moves, so that the step was taken for it.
    """

    mean: float
    error: float
    freedom: float
    seeds: int
    examples: int = 0
    std: float = math.nan
    unseen: bool = False

    @property
    def p(self) -> float:
        """The p value of the two-sided test that the true difference is 0; never 0."""
        return p_of(self.mean / self.error, self.freedom) if self.error > 0 else math.nan

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.mean - self._half

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.mean + self._half

    @property
    def _half(self) -> float:
        return float(special.stdtrit(self.freedom, 1 - ALPHA / 2)) * self.error if self.error > 0 else math.nan

    @property
    def supported(self) -> bool:
        """Whether three seeds or more say that the rows differ."""
        return self.seeds >= ENOUGH and self.p < ALPHA


@dataclass(frozen=True)
class MeanSquares:
    """A table of differences in short: what the test is made of.

    >>> found = MeanSquares.of([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    >>> round(found.seeds, 3), round(found.examples, 3), round(found.rest, 3)
    (0.167, 0.5, 0.167)

    Args:
        mean: of all differences.
        n_seeds, n_examples: S and N.
        seeds, examples, rest: the mean squares.
        level: the mean score of the two rows.
    """

    mean: float
    n_seeds: int
    n_examples: int
    seeds: float
    examples: float
    rest: float
    level: float = 0.0

    @classmethod
    def of(cls, differences: ArrayLike, level: float = 0.0) -> "MeanSquares":
        """Take a table of differences, seeds x examples, of two seeds and two examples or more, and their level."""
        table = np.asarray(differences, float)
        s, n = table.shape
        by_seed, by_example, mean = table.mean(1), table.mean(0), table.mean()
        rest = table - by_seed[:, None] - by_example + mean
        return cls(float(mean), s, n, float(n * by_seed.var(ddof=1)), float(s * by_example.var(ddof=1)),
                   float((rest**2).sum() / ((s - 1) * (n - 1))), level)  # fmt: skip


@dataclass(frozen=True)
class Usual:
    """The ratio of the mean squares over seeds and of the rest that many differences share.

    It is a ratio since rows whose answers hardly differ, such as a method and its ablation, spread less in both. It
    follows the level of the scores where there are rows enough to see that: what trains badly spreads more.

    Args:
        ratio: its usual value, at ``level``.
        freedom: the degrees of freedom that it is worth beside those of a difference's own; 0 where nothing is shared.
        slope: how its logarithm changes with the level.
        level: the middle of the levels that it was learnt from, which are from ``lowest`` to ``highest``.
    """

    ratio: float = 0.0
    freedom: float = 0.0
    slope: float = 0.0
    level: float = 0.0
    lowest: float = 0.0
    highest: float = 0.0

    @classmethod
    def of(cls, found: Iterable[MeanSquares], rows: int) -> "Usual":
        """Learn it from the differences between all pairs of rows, by the moments of their logarithms.

        Args:
            found: the mean squares of the pairs; those without a spread are passed over.
            rows: how many rows the pairs are made of. Three or more tell something, and from ``MANY`` on a trend.
        """
        seen = [each for each in found if each.rest > 0]
        if rows < 3 or len(seen) < 3:
            return cls()
        half = np.array([(each.n_seeds - 1) / 2 for each in seen])
        ratios = np.array([max(1.0, each.seeds / each.rest) for each in seen])
        logs = np.log(ratios) - special.digamma(half) + np.log(half)
        levels = np.array([each.level for each in seen])
        away = levels - levels.mean()
        trend = rows >= MANY and away.any()
        slope = float(away @ logs / (away @ away)) if trend else 0.0
        spread = float((logs - slope * away).var(ddof=1 + trend) - special.polygamma(1, half).mean())
        most = (rows - 2 - trend) * 2 * float(half.mean())
        shared = min(most, 2 * _trigamma_inverse(spread)) if spread > 0 else most
        shift = float(special.digamma(shared / 2) - np.log(shared / 2)) if spread > 0 else 0.0
        ends = float(levels.mean()), float(levels.min()), float(levels.max())
        return cls(float(np.exp(logs.mean() + shift)), shared, slope, *ends)

    def at(self, level: float) -> float:
        """The ratio that rows at a level have; beyond the levels that were seen, that of the nearest of them."""
        return self.ratio * math.exp(self.slope * (min(max(level, self.lowest), self.highest) - self.level))


_OWN = Usual()


def difference(found: MeanSquares, usual: Usual = _OWN) -> Difference:
    """Test a difference over seeds and examples.

    The mean square over seeds, of few degrees of freedom, is never taken to be less than the differences of the same
    workload usually have at its level, beside their rest, less than that of the rest, or less than that of seeds which
    spread by one test row: a spread that was not seen is luck, no certainty. Examples are taken to spread no less than
    if one of them differed from the others by a whole answer.

    >>> two_points = np.tile([0.0] * 96 + [1.0, 1.0, 1.0, -1.0], (5, 1))  # every seed the same: 3 answers to 1
    >>> found = difference(MeanSquares.of(two_points))
    >>> f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}], {found.unseen}"
    '0.020 [-0.021, 0.061], True'
    """
    s, n, own = found.n_seeds, found.n_examples, found.seeds
    step = resolution_of(n)
    freedom = s - 1 + usual.freedom
    shared = (usual.freedom * usual.at(found.level) * found.rest + (s - 1) * own) / freedom
    std = math.sqrt(own / n)
    unseen = std < step * (1 - 1e-9)
    seeds = max(own, shared, found.rest, n * step**2)
    examples = max(found.examples, found.rest, s * step)
    total = seeds + examples - found.rest
    parts = seeds**2 / freedom + examples**2 / (n - 1) + found.rest**2 / ((s - 1) * (n - 1))
    return Difference(found.mean, math.sqrt(total / (s * n)), total**2 / parts, s, n, std, unseen)


def over_seeds(a: Sequence[float], b: Sequence[float], resolution: float = 0.0) -> Difference:
    """Test a difference over seeds alone, by Student's paired test: for runs whose answers were not kept.

    Args:
        a, b: the metric of each seed, in the same order.
        resolution: the step in which it moves; 0 if it is not known.
    """
    found = paired(a, b, resolution)
    error = (resolution if found.unseen else found.std) / math.sqrt(max(found.n, 1))
    return Difference(found.mean, error if error > 0 else math.nan, found.n - 1, found.n, 0, found.std, found.unseen)


def mean_of(parts: Sequence[tuple[float, Difference]]) -> Difference:
    """Average differences of independent samples, such as workloads: these ones, not others like them.

    >>> one = Difference(0.02, 0.01, 8, 5)
    >>> both = mean_of([(1, one), (1, one)])
    >>> round(both.error, 4), both.freedom
    (0.0071, 16.0)

    Args:
        parts: weight and difference of each.
    """
    total = sum(weight for weight, _ in parts)
    squares = [(weight * each.error / total) ** 2 for weight, each in parts]
    variance = sum(squares)
    spreads = zip(squares, parts, strict=True)
    freedom = variance**2 / sum(square**2 / each.freedom for square, (_, each) in spreads) if variance > 0 else 0.0
    return Difference(
        sum(weight * each.mean for weight, each in parts) / total, math.sqrt(variance), freedom,
        min(each.seeds for _, each in parts), sum(each.examples for _, each in parts),
        unseen=any(each.unseen for _, each in parts),
    )  # fmt: skip


@dataclass(frozen=True)
class Components:
    """The variances that differences of a workload consist of, pooled over pairs of rows.

    Args:
        seed, example, rest: the variances.
        shared: how many times a pair's own degrees of freedom over seeds the test has, from what the pairs share.
    """

    seed: float
    example: float
    rest: float
    shared: float = 1.0

    @classmethod
    def of(cls, found: Sequence[MeanSquares], usual: Usual = _OWN) -> "Components":
        """Pool the mean squares of pairs, one or more."""
        seed = np.mean([(each.seeds - each.rest) / each.n_examples for each in found])
        example = np.mean([(each.examples - each.rest) / each.n_seeds for each in found])
        own = np.mean([each.n_seeds - 1 for each in found])
        shared = 1 + usual.freedom / own
        return cls(max(0.0, float(seed)), max(0.0, float(example)), float(np.mean([each.rest for each in found])),
                   float(shared))  # fmt: skip

    def expected(self, seeds: int, examples: int) -> MeanSquares:
        """The mean squares to expect of a table of this size."""
        return MeanSquares(0.0, seeds, examples, self.rest + examples * self.seed, self.rest + seeds * self.example,
                           self.rest)  # fmt: skip

    def power(self, points: float, seeds: int, examples: int) -> float:
        """The chance to see a true difference of ``points`` (0.02 for two points of accuracy).

        >>> round(Components(seed=0.02**2, example=0.02, rest=0.12).power(0.02, seeds=5, examples=872), 2)
        0.31
        """
        return power_to_see(points, self.anticipated(seeds, examples)) if seeds > 1 else 0.0

    def anticipated(self, seeds: int, examples: int) -> Difference:
        """The difference of two equal rows that is to be expected from two seeds or more, with its error."""
        shared = Usual(0.0, (self.shared - 1) * (seeds - 1))  # the expected spread is the usual one
        return difference(self.expected(seeds, examples), shared)

    def seeds_needed(self, points: float, examples: int) -> int | None:
        """The seeds at which ``power`` is 80 %; None where no thousand of them is enough for so few test examples.

        >>> Components(seed=0.02**2, example=0.02, rest=0.12).seeds_needed(0.02, examples=872)
        21
        """
        enough = (s for s in range(2, _MOST_SEEDS + 1) if self.power(points, s, examples) >= POWER)
        return next(enough, None) if self.power(points, _MOST_SEEDS, examples) >= POWER else None


def power_to_see(points: float, found: Difference) -> float:
    """The chance that a true difference of ``points`` is seen by a test with the error of this one."""
    return power_of(points / found.error, found.freedom)


def _trigamma_inverse(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method, which converges from this start for every positive value."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x
