"""Differences over seeds and test examples: against formulas, in degenerate tables, and on data with a known effect."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.modules import module_of
from scipy import stats as scipy_stats

from zobench.report.compare.crossed import (
    Components,
    Difference,
    MeanSquares,
    Usual,
    difference,
    mean_of,
    over_seeds,
)
from zobench.report.compare.stats import ALPHA, POWER

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "size_and_power.py"


def drawn(seed=0, seeds=5, examples=60, mean=0.02, of=(0.02, 0.3, 0.4)):
    """A table of differences, with these standard deviations over seeds, over examples and of the rest."""
    generator = np.random.default_rng(seed)
    parts = [generator.normal(0, 1, size) for size in ((seeds, 1), examples, (seeds, examples))]
    return mean + sum(size * part for size, part in zip(of, parts, strict=True))


def crossed(table, usual=None):
    return difference(MeanSquares.of(table), usual or Usual())


@pytest.fixture(scope="module")
def simulation():
    return module_of(SCRIPT)


def test_the_mean_squares_are_those_of_the_two_way_analysis_of_variance():
    table, found = drawn(), MeanSquares.of(drawn())
    s, n = table.shape
    between_seeds = n * sum((row.mean() - table.mean()) ** 2 for row in table)
    between_examples = s * sum((column.mean() - table.mean()) ** 2 for column in table.T)
    rest = ((table - table.mean()) ** 2).sum() - between_seeds - between_examples
    expected = (between_seeds / (s - 1), between_examples / (n - 1), rest / ((s - 1) * (n - 1)))
    assert (found.seeds, found.examples, found.rest) == pytest.approx(expected)
    assert found.mean == pytest.approx(table.mean())


def test_without_a_rest_the_error_is_that_of_two_independent_means_with_welchs_degrees_of_freedom():
    a, b = np.random.default_rng(0).normal(0, 1, 5), np.random.default_rng(1).normal(0, 0.5, 40)
    found, expected = crossed(a[:, None] - b), scipy_stats.ttest_ind(a, b, equal_var=False)
    assert found.freedom == pytest.approx(expected.df)
    assert found.mean / found.error == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def test_where_seeds_make_all_the_difference_it_is_the_paired_test_over_seeds():
    table = drawn(of=(0.5, 1e-4, 1e-4))
    assert crossed(table).p == pytest.approx(scipy_stats.ttest_1samp(table.mean(1), 0).pvalue, rel=0.01)


def test_the_other_way_round_it_is_the_same_with_another_sign():
    one, other = crossed(drawn()), crossed(-drawn())
    assert (one.p, one.low, one.mean) == pytest.approx((other.p, -other.high, -other.mean))


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("examples", [4, 56, 872])
def test_no_interval_is_narrower_than_one_row_allows_and_no_p_is_0(seeds, examples):
    generator, normal = np.random.default_rng(seeds * examples), scipy_stats.norm.ppf(0.975)
    one = np.zeros((seeds, examples))
    one[:, 0] = -1.0
    for table in (np.zeros_like(one), one, np.ones_like(one), generator.integers(-1, 2, one.shape)):
        found = crossed(table)
        assert found.high - found.low >= 2 * normal / examples
        assert 0 < found.p <= 1
        assert found.unseen == (table.mean(1).std(ddof=1) < (1 - 1e-9) / examples)
    assert crossed(np.zeros_like(one)).p == pytest.approx(1.0)


def test_answers_that_differ_alike_in_all_examples_are_tested_as_if_one_were_otherwise():
    assert crossed(np.full((3, 3), 1 / 3)).p > ALPHA
    assert crossed(np.ones((3, 9000))).p < 1e-100
    assert crossed(np.zeros((3, 872))).high == pytest.approx(2 * math.sqrt(4 / 3) / 872, rel=0.02)


def test_less_than_two_seeds_are_no_test_and_less_than_three_no_claim():
    alone = over_seeds([0.8], [0.7], 0.01)
    assert all(math.isnan(value) for value in (alone.p, alone.low, alone.high))
    assert alone.mean == pytest.approx(0.1)
    assert not alone.supported
    two, three = (crossed(np.ones((seeds, 9000))) for seeds in (2, 3))
    assert (two.p < ALPHA, two.supported, three.supported) == (True, False, True)


def test_over_seeds_alone_it_is_scipys():
    a, b = [0.779, 0.792, 0.764, 0.781], [0.752, 0.776, 0.760, 0.755]
    found = over_seeds(a, b, 1 / 872)
    assert found.p == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    assert found.std == pytest.approx(np.std(np.subtract(a, b), ddof=1))


def squares(seed, pairs, seeds, sizes):
    """Mean squares of independent pairs, with true ratios of seeds and rest of each pair's own."""
    drawn = np.random.default_rng(seed).chisquare(seeds - 1, pairs) / (seeds - 1)
    return [MeanSquares(0.0, seeds, 872, 0.1 * float(x), 0.2, 0.1) for x in sizes * drawn]


def test_spreads_that_are_alike_are_shared_and_those_that_are_not_are_not():
    alike = Usual.of(squares(0, 400, 5, 50.0), rows=30)
    uneven = Usual.of(squares(0, 400, 5, 50.0 * np.exp(np.random.default_rng(1).normal(size=400))), rows=30)
    assert alike.ratio == pytest.approx(50, rel=0.1)
    assert alike.freedom > 20
    assert 1 < uneven.freedom < 4  # trigamma(f / 2) = 1, the variance of the logarithms, at f = 2.85
    assert Usual.of(squares(0, 400, 5, 50.0), rows=2) == Usual()
    assert Usual.of(squares(0, 400, 5, 50.0), rows=4).freedom == 8


def test_what_trains_badly_spreads_more_where_there_are_rows_enough_to_see_it():
    levels = np.linspace(0.6, 0.9, 400)
    found = squares(0, 400, 5, 50.0 * np.exp(-8 * (levels - 0.75)))
    found = [replace(each, level=float(level)) for each, level in zip(found, levels, strict=True)]
    trend, few = Usual.of(found, rows=30), Usual.of(found, rows=7)
    assert (trend.at(0.65), trend.at(0.85)) == pytest.approx((50 * math.exp(0.8), 50 * math.exp(-0.8)), rel=0.15)
    assert (trend.at(0.1), trend.at(1.0)) == (trend.at(0.6), trend.at(0.9))
    assert few.at(0.65) == few.at(0.85) == few.ratio
    assert trend.freedom > 3 * few.freedom
    low, high = (difference(replace(found[0], level=level, seeds=0.2), trend).error for level in (0.6, 0.9))
    assert low > 2 * high


def test_a_spread_below_the_usual_is_luck_and_one_above_is_taken_as_it_is():
    found = MeanSquares(0.03, 5, 872, seeds=0.5, examples=0.2, rest=0.12)
    low, high = (difference(found, Usual(square, 40.0)) for square in (1.0, 20.0))
    assert low.error == difference(found).error
    assert high.error > low.error
    assert low.freedom > difference(found).freedom


def test_a_power_is_known_however_many_seeds_there_are():
    known = Components(0.035**2, 0.0036, 0.18, shared=36.0)
    powers = [known.power(0.02, seeds, 2000) for seeds in (5, 10, 100, 1000)]
    assert powers == sorted(powers)
    assert powers[-1] == pytest.approx(1.0)
    assert known.seeds_needed(0.02, 2000) in range(20, 40)


def test_a_mean_over_workloads_adds_variances():
    one, other = Difference(0.04, 0.02, 6, 5), Difference(0.00, 0.01, 12, 5)
    found = mean_of([(1, one), (1, other)])
    assert (found.mean, found.error) == pytest.approx((0.02, math.hypot(0.02, 0.01) / 2))
    assert found.freedom == pytest.approx((0.02**2 + 0.01**2) ** 2 / (0.02**4 / 6 + 0.01**4 / 12))
    assert mean_of([(3, one)]) == Difference(0.04, pytest.approx(0.02), pytest.approx(6), 5)
    assert math.isnan(mean_of([(1, one), (1, Difference(0.0, math.nan, 0, 1))]).p)


def test_power_is_what_simulation_finds():
    known, generator, draws = Components(0.02**2, 0.02, 0.12), np.random.default_rng(0), 4000
    expected = known.expected(5, 872)
    squares = ((expected.seeds, 4), (expected.examples, 871), (expected.rest, 4 * 871))
    drawn = [value * generator.chisquare(freedom, draws) / freedom for value, freedom in squares]
    means = generator.normal(0.03, difference(expected).error, draws)
    seen = [difference(MeanSquares(mean, 5, 872, *parts)).p < ALPHA for mean, *parts in zip(means, *drawn, strict=True)]
    assert known.power(0.03, 5, 872) == pytest.approx(np.mean(seen), abs=0.04)
    assert known.power(0.03, 5, 872) < Components(0.02**2, 0.02, 0.12, shared=8).power(0.03, 5, 872)
    assert known.power(0.03, 1, 872) == 0.0


def test_the_seeds_needed_are_the_fewest_that_suffice_and_none_where_examples_are_too_few():
    known = Components(0.02**2, 0.02, 0.12)
    needed = known.seeds_needed(0.02, 872)
    assert known.power(0.02, needed, 872) >= POWER > known.power(0.02, needed - 1, 872)
    assert known.seeds_needed(0.02, 50) is None


def test_equal_entries_are_told_apart_no_oftener_than_said_and_others_as_often_as_power_says(simulation):
    model = simulation.Model.like(Components(0.02**2, 0.02, 0.12))
    found = simulation.simulate(model, 5, 500, uneven=0.0, sets=150)
    # Three equal entries share a reference; were all their tests one, 150 of them would have this bound.
    most = scipy_stats.binom.ppf(0.999, 150, ALPHA) / 150
    assert found.rejected("crossed", 0) < most
    assert found.any_wrong("crossed") < most
    expected = Components(0.02**2, 0.02, 0.12).power(0.03, 5, 500)
    assert found.rejected("crossed", 3) == pytest.approx(expected, abs=0.15)
    assert found.ranks[1] > 0.95 > found.resampled[1]  # of all ranks at once


def test_the_simulated_answers_have_the_components_that_were_asked_for(simulation):
    asked = Components(0.02**2, 0.02, 0.12)
    model, generator = simulation.Model.like(asked), np.random.default_rng(0)
    sets = [model.draw(generator, 8, 872, 0.0) for _ in range(20)]
    found = Components.of([MeanSquares.of(scores[0] - scores[i]) for scores in sets for i in range(1, 10)])
    assert (found.seed, found.example, found.rest) == pytest.approx((asked.seed, asked.example, asked.rest), rel=0.15)
    assert np.mean([scores.mean((1, 2)) for scores in sets], axis=0)[:4] == pytest.approx([0.75] * 4, abs=0.015)
