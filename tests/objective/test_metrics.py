"""Metrics against brute force and textbook formulas."""

import math

import numpy as np
import pytest

from zobench.objective import metrics


def tied_data(seed, n=40, levels=6):
    """Margins on few levels, so that many tie, and labels that lean with them."""
    generator = np.random.default_rng(seed)
    margins = generator.integers(0, levels, n) / 2.0 - 1.0
    flags = generator.random(n) < 0.2 + 0.6 * (margins > 0)
    flags[:2] = (True, False)
    return margins.tolist(), flags.tolist()


def pair_count(margins, flags):
    rows = list(zip(margins, flags, strict=True))
    pairs = [(p, n) for p, positive in rows if positive for n, other in rows if not other]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(10))
def test_auc_counts_pairs(seed):
    margins, flags = tied_data(seed)
    assert metrics.auc(margins, flags) == pytest.approx(pair_count(margins, flags), abs=1e-12)
    flipped = metrics.auc([-m for m in margins], flags)
    assert flipped == pytest.approx(1.0 - metrics.auc(margins, flags), abs=1e-12)
    shifted = metrics.auc([3.0 + 2.0 * m for m in margins], flags)  # a label bias does not move it
    assert shifted == metrics.auc(margins, flags)


def test_auc_at_the_edges():
    assert metrics.auc([1.0, 2.0, 3.0, 4.0], [False, False, True, True]) == 1.0
    assert metrics.auc([1.0, 1.0, 1.0], [False, True, True]) == 0.5
    assert metrics.auc([1.0, 2.0], [True, True]) is None
    assert metrics.auc([1.0, 2.0], [False, False]) is None


def test_auc_stderr_is_hanley_and_mcneils():
    area, p, n = 0.8, 30, 50
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    expected = math.sqrt((area * (1 - area) + (p - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (p * n))
    assert metrics.auc_stderr(area, p, n) == pytest.approx(expected)
    # Published: area 0.893 with 51 abnormal and 58 normal cases has SE 0.032 (Hanley and McNeil 1982, Table II data).
    assert metrics.auc_stderr(0.893, 51, 58) == pytest.approx(0.032, abs=1e-3)
    assert metrics.auc_stderr(1.0, 5, 5) == 0.0
    assert metrics.auc_stderr(0.0, 5, 5) == 0.0


def test_auc_stderr_is_the_spread_of_repeated_samples():
    generator = np.random.default_rng(0)
    flags = [True] * 60 + [False] * 60
    draws = [np.concatenate([generator.exponential(3.0, 60), generator.exponential(1.0, 60)]) for _ in range(600)]
    areas = [metrics.auc(draw, flags) for draw in draws]
    # The formula is exact for exponential scores: there AUC = 3 / (3 + 1).
    assert np.mean(areas) == pytest.approx(0.75, abs=0.01)
    assert metrics.auc_stderr(0.75, 60, 60) == pytest.approx(np.std(areas), rel=0.1)


def accuracy(threshold, margins, flags):
    return sum((m > threshold) == f for m, f in zip(margins, flags, strict=True)) / len(flags)


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_matches_the_label_shares(seed):
    generator = np.random.default_rng(seed)
    margins, flags = generator.normal(size=30), generator.random(30) < generator.random()
    threshold = metrics.matching_threshold(margins, flags)
    assert int((margins > threshold).sum()) == int(flags.sum())


def test_the_threshold_removes_a_bias():
    """Shifting all margins shifts the threshold, so the accuracy under it does not change."""
    margins, flags = [3.0, 1.0, 2.0, 5.0], [True, False, False, True]
    assert metrics.matching_threshold(margins, flags) == 2.5
    assert metrics.matching_threshold([m + 10 for m in margins], flags) == 12.5


@pytest.mark.parametrize(("n", "k"), [(10, 3), (872, 436), (5, 5), (1, 1)])
def test_stderr_of_a_share(n, k):
    p = k / n
    assert metrics.stderr([1.0] * k + [0.0] * (n - k)) == pytest.approx(math.sqrt(p * (1 - p) / n))


def test_stderr_is_the_spread_of_repeated_means():
    generator = np.random.default_rng(1)
    means = generator.normal(2.0, 3.0, (4000, 50)).mean(axis=1)
    large = generator.normal(2.0, 3.0, 50_000)
    assert metrics.stderr(large) * math.sqrt(1000) == pytest.approx(np.std(means), rel=0.05)


@pytest.mark.parametrize(
    ("prediction", "answers", "f1", "exact"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1.0, 1.0),
        ("in Paris France", ["Paris", "Paris, France"], 0.8, 0.0),
        ("paris paris", ["Paris"], 2 / 3, 0.0),
        ("nothing", ["Paris"], 0.0, 0.0),
        ("", ["the"], 0.0, 1.0),
        ("東京", ["東京"], 1.0, 1.0),
    ],
)
def test_answer_scores(prediction, answers, f1, exact):
    assert metrics.answer_f1(prediction, answers) == pytest.approx(f1)
    assert metrics.exact_match(prediction, answers) == exact
