"""The noise passes for random: moments, tails, correlations, and a battery of tests on the raw words."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from zobench.zo.keys import mix
from zobench.zo.noise import draws, philox

CPU = torch.device("cpu")
DISTRIBUTIONS = ["normal", "sign"]


def test_normal_moments_and_tails():
    n = 1 << 22
    z = draws.gaussian(1, 2, torch.Size([n]), CPU).double().numpy()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 4 * math.sqrt(variance / n), power
    for bound in (2.0, 3.0, 4.0, 4.5):
        expected = n * math.erfc(bound / math.sqrt(2))
        assert abs((np.abs(z) > bound).sum() - expected) < 4.5 * math.sqrt(expected) + 1
    assert stats.kstest(z[: 1 << 18], "norm").pvalue > 1e-4


def test_signs_are_balanced_and_cost_no_variance():
    n = 1 << 22
    z = draws.draw(1, 2, torch.Size([n]), CPU, "sign")
    assert set(z[:100].tolist()) == {-1.0, 1.0}
    assert abs(float(z.double().mean())) < 4 / math.sqrt(n)
    assert torch.equal(z.abs(), torch.ones(n))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_draws_of_neighbours_are_uncorrelated(distribution):
    """Neighbouring keys and slots, neighbouring elements, and the two distributions of one key; also their squares."""
    n = 1 << 18

    def draw(key, slot_id=7):
        return draws.draw(key, slot_id, torch.Size([n]), CPU, distribution).double()

    base = draw(100)
    others = [draw(101), draw(100 ^ 1 << 40), draw(100, 8)]
    others += [base.roll(by) for by in (1, 512, 1024, 2048, 4096, 32 * 2048)]
    others.append(draws.draw(100, 7, torch.Size([n]), CPU, "sign" if distribution == "normal" else "normal").double())
    for other in others:
        assert abs(float((base * other).mean())) < 4.5 / math.sqrt(n)
        if distribution == "normal":
            squares = (base.square() - 1) * (other.square() - other.square().mean())
            assert abs(float(squares.mean())) < 4.5 * max(2.0, float(squares.std())) / math.sqrt(n)


@pytest.fixture(scope="module")
def signs():
    """Signs of several draws, each as bit × word: two keys, neighbouring slots, the start of a draw and its middle.

    Their sums and products are integers below 2²⁴, which fp32 holds exactly.
    """

    def table(key, slot_id, first=0):
        groups = 128
        spans = 32 * first + torch.arange(32 * groups)
        draw = philox.signs(mix(key, slot_id), spans).view(groups, philox.BITS, philox.SPAN)
        return draw.transpose(0, 1).reshape(philox.BITS, -1)

    return [table(1, 2), table(2, 2), table(1, 3), table(1, 2, first=1 << 30)]


def test_each_bit_of_a_word_is_a_balanced_sign(signs):
    for table in signs:
        z = table.sum(dim=1).double() / math.sqrt(table.shape[1])
        assert 1e-5 < stats.chi2.sf(float(z.square().sum()), 32) < 1 - 1e-5


def test_the_bits_of_a_word_are_uncorrelated(signs):
    """All 496 pairs of spans that share their words, and all 1,024 of each two draws."""
    n = signs[0].shape[1]
    for i, one in enumerate(signs):
        for j, other in enumerate(signs[: i + 1]):
            z = (one @ other.T).double() / math.sqrt(n)
            z = z.flatten() if i != j else z[tuple(torch.triu_indices(32, 32, 1))]
            assert float(z.abs().max()) < 5.2
            assert 1e-5 < stats.chi2.sf(float(z.square().sum()), z.numel()) < 1 - 1e-5


def test_no_product_of_neighbouring_bits_is_a_pattern(signs):
    """Products of 3 and 4 neighbouring bits, of a word and of the words beside it; and runs along a word."""
    n = signs[0].shape[1]
    for table in signs:
        pair = table * table.roll(-1, 0)
        near = [pair * table.roll(-2, 0), pair * pair.roll(1, 1), pair * pair.roll(512, 1)]
        for product in near:
            z = product.sum(dim=1).double() / math.sqrt(n)
            assert 1e-5 < stats.chi2.sf(float(z.square().sum()), 32) < 1 - 1e-5
        changes = (table[1:] != table[:-1]).sum(dim=0)
        counts = torch.bincount(changes, minlength=32)[6:26].double().numpy()
        expected = stats.binom.pmf(np.arange(6, 26), 31, 0.5)
        assert 1e-5 < stats.chisquare(counts, expected / expected.sum() * counts.sum()).pvalue < 1 - 1e-5


@pytest.fixture(scope="module")
def words():
    """Raw 32-bit words: 2¹⁹ of one key, as many of its signs, and the first spans of 256 successive keys."""

    def raw(key, groups, stream=philox.NORMALS):
        return torch.stack(philox.words(mix(key, 2), torch.arange(groups), stream)).view(-1).numpy().astype(np.uint32)

    many = np.concatenate([raw(key, 1) for key in range(256)])
    return {"one key": raw(1, 256), "signs": raw(1, 256, philox.SIGNS), "many keys": many}


@pytest.mark.parametrize("source", ["one key", "signs", "many keys"])
class TestBattery:
    """Tests of NIST SP 800-22 and of Marsaglia's Diehard on the raw words; p-values between 1e-5 and 1 − 1e-5."""

    @staticmethod
    def bits(words):
        return np.unpackbits(words.view(np.uint8))

    def test_frequency_of_each_bit(self, words, source):
        ones = [(words[source] >> np.uint32(bit) & 1).sum() for bit in range(32)]
        z = (np.array(ones) - len(words[source]) / 2) / math.sqrt(len(words[source]) / 4)
        assert 1e-5 < stats.chi2.sf((z**2).sum(), 32) < 1 - 1e-5

    def test_runs(self, words, source):
        bits = self.bits(words[source])
        n, share = len(bits), bits.mean()
        runs = 1 + int((bits[1:] != bits[:-1]).sum())
        z = (runs - 2 * n * share * (1 - share)) / (2 * math.sqrt(n) * share * (1 - share))
        assert 2 * stats.norm.sf(abs(z)) > 1e-5

    @pytest.mark.parametrize("shift", [0, 8, 16, 24])
    def test_bytes_and_pairs_of_nibbles(self, words, source, shift):
        byte = (words[source] >> np.uint32(shift)) & np.uint32(255)
        assert 1e-5 < stats.chisquare(np.bincount(byte, minlength=256)).pvalue < 1 - 1e-5
        serial = (byte[:-1] & 15) * 16 + (byte[1:] & 15)
        assert 1e-5 < stats.chisquare(np.bincount(serial[::2], minlength=256)).pvalue < 1 - 1e-5

    def test_rank_of_binary_matrices(self, words, source):
        """32 × 32 matrices over GF(2): full rank 0.2888, one less 0.5776, fewer 0.1336."""
        ranks = np.array([gf2_rank(m) for m in words[source].reshape(-1, 32)[:2000]])
        counts = [(ranks == 32).sum(), (ranks == 31).sum(), (ranks <= 30).sum()]
        expected = np.array([0.2887880952, 0.5775761902, 0.1336357146]) * len(ranks)
        assert 1e-5 < stats.chisquare(counts, expected * sum(counts) / expected.sum()).pvalue < 1 - 1e-5

    def test_birthday_spacings(self, words, source):
        """512 birthdays in a year of 2²⁴ days: equal spacings are Poisson with mean 512³ / 2²⁶ = 2."""
        days = np.sort((words[source] >> np.uint32(8)).reshape(-1, 512), axis=1)
        spacings = np.sort(np.diff(days, axis=1), axis=1)
        equal = (np.diff(spacings, axis=1) == 0).sum(axis=1)
        counts = np.array([(equal == k).sum() for k in range(6)] + [(equal >= 6).sum()])
        expected = np.array([stats.poisson.pmf(k, 2) for k in range(6)] + [stats.poisson.sf(5, 2)]) * len(equal)
        assert 1e-5 < stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue < 1 - 1e-5


def gf2_rank(rows):
    rows, rank = [int(row) for row in rows], 0
    while rows:
        pivot = rows.pop()
        if pivot:
            rank += 1
            low = pivot & -pivot
            rows = [row ^ pivot if row & low else row for row in rows]
    return rank
