"""The report's statistics against scipy on fixed data, against counting, and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from zobench.report.compare.stats import (
    ALPHA,
    POWER,
    paired,
    pairs_needed,
    power,
    resolution_of,
)

A = [0.779, 0.792, 0.764, 0.781, 0.770]
B = [0.752, 0.776, 0.760, 0.755, 0.771]


def test_the_paired_test_is_scipys():
    found, expected = paired(A, B), scipy_stats.ttest_rel(A, B)
    differences = np.subtract(A, B)
    low, high = scipy_stats.t.interval(0.95, 4, differences.mean(), scipy_stats.sem(differences))
    assert (found.n, found.mean, found.p) == pytest.approx((5, differences.mean(), expected.pvalue))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert paired(B, A).p == pytest.approx(found.p)


def test_the_interval_excludes_zero_where_the_test_rejects():
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        found = paired(*generator.normal([[0.8], [0.0]], 1.0, size=(2, 6)))
        seen.add(found.p < ALPHA)
        assert (found.p < ALPHA) == (not found.low <= 0 <= found.high)
    assert seen == {True, False}


@pytest.mark.parametrize(("a", "b"), [([], []), ([0.5], [0.4]), ([0.7, 0.8, 0.9], [0.6, 0.7, 0.8])])
def test_without_spread_there_is_no_test(a, b):
    found = paired(a, b)
    assert found.n == len(a)
    assert all(math.isnan(value) for value in (found.p, found.low, found.high))


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("rows", [4, 56, 872])
def test_no_interval_is_narrower_than_one_row_allows_and_no_p_is_0(n, rows):
    """Seeds whose accuracies differ by the same number of answers, by one more or less, or not at all."""
    generator = np.random.default_rng(n * rows)
    step = resolution_of(rows)
    narrowest = 2 * scipy_stats.t.ppf(0.975, n - 1) * step / math.sqrt(n)
    for answers in (np.zeros(n), np.full(n, -1.0), np.full(n, rows), generator.integers(0, 2, n), np.arange(n)):
        found = paired((10 + answers) * step, np.full(n, 10.0) * step, step)
        assert found.high - found.low >= narrowest * (1 - 1e-9)
        assert 0 < found.p <= 1
        assert found.unseen == (np.std(answers, ddof=1) < 1 - 1e-9)


def test_power_is_what_simulation_finds():
    n, difference, spread = 6, 0.02, 0.015
    draws = np.random.default_rng(0).normal(difference, spread, size=(20_000, n))
    seen = (scipy_stats.ttest_1samp(draws, 0.0, axis=1).pvalue < ALPHA).mean()
    assert power(n, difference, spread) == pytest.approx(seen, abs=0.01)


@pytest.mark.parametrize("spread", [0.004, 0.02, 0.1, 0.6])
def test_the_pairs_needed_are_the_fewest_that_suffice(spread):
    n = pairs_needed(0.02, spread)
    assert power(n, 0.02, spread) >= POWER
    assert n == 2 or power(n - 1, 0.02, spread) < POWER


def test_the_pairs_needed_of_textbooks():
    # One standard deviation: 10 pairs; a half: 34 (Machin et al., Sample Size Tables, two-sided 5 %, 80 %).
    assert pairs_needed(1.0, 1.0) == 10
    assert pairs_needed(0.5, 1.0) == 34
    with pytest.raises(ValueError, match="must be above 0"):
        pairs_needed(1.0, 0.0)
