"""The noise engine: its bits are defined, the same on every path, and pass for random."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from zobench.methods.mezo import MeZO
from zobench.zo import Gaussian, Rademacher, make_slots, noise, philox
from zobench.zo.keys import mix

CPU = torch.device("cpu")
SIZES = [(0, 1), (0, 2047), (5, 2049), (2048, 4096), (511, 3), (12345, 5000)]
DISTRIBUTIONS = ["normal", "sign"]


@pytest.fixture
def torch_only(monkeypatch):
    """Call it to leave only the torch operations."""

    def switch():
        monkeypatch.setenv("ZOBENCH_NOISE", "torch")
        noise._fused.cache_clear()

    yield switch
    monkeypatch.undo()
    noise._fused.cache_clear()


def numbers(distribution, key, first, count):
    return {"normal": philox.normals, "sign": philox.signs}[distribution](key, first, count, CPU)


def test_philox_gives_the_published_words():
    """The vectors that Salmon et al. publish with their code, for 7 rounds: key and counter 0."""
    found = [int(word[0, 0]) for word in philox.words(0, 0, 1, CPU)]
    assert found == [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]


def test_normals_are_box_and_muller_of_the_words():
    x, y, v, w = (word.double() for word in philox.words(77, 3, 2, CPU))
    found = philox.normals(77, 3 * philox.SPAN, 2 * philox.SPAN, CPU).double().view(2, 4, philox.LANES)
    for radial, angular, pair in ((x, y, found[:, :2]), (v, w, found[:, 2:])):
        r = (-2 * torch.log((radial + 0.5) * 2.0**-32)).sqrt()
        angle = angular * (2 * math.pi * 2.0**-32) - math.pi / 4
        expected = torch.stack([r * angle.cos(), r * angle.sin()], dim=1)
        torch.testing.assert_close(pair, expected, rtol=0, atol=1e-4)  # u near 1 has 24 bits
        assert float((pair - expected).abs().mean()) < 2e-7


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("first", "count"), SIZES)
def test_compiled_loops_give_the_defined_bits(distribution, dtype, first, count):
    """One pass over three draws and a factor equals the separate operations, to the bit."""
    draws = {11: 0.3, 2**62 + 5: -1.7, 3: 1e-3}
    start = torch.linspace(-1, 1, count, dtype=dtype)
    found, expected = start.clone(), start.mul(0.9)
    noise.add_(found, 42, draws, keep=0.9, first=first, distribution=distribution)
    for key, weight in draws.items():
        expected.add_(numbers(distribution, mix(key, 42), first, count).to(dtype).mul(weight))
    assert noise._fused(CPU, dtype, philox.NORMALS) is not None
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("first", "count"), SIZES)
def test_bf16_is_summed_in_fp32_and_rounded_once(first, count):
    draws = {11: 0.3, 3: -1.7}
    start = torch.linspace(-300, 300, count).bfloat16()
    start[0] = float("nan")
    start[-1] = float("inf") if count > 1 else start[-1]
    found, expected = start.clone(), start.float().mul(0.9)
    noise.add_(found, 42, draws, keep=0.9, first=first)
    for key, weight in draws.items():
        expected.add_(numbers("normal", mix(key, 42), first, count).mul(weight))
    torch.testing.assert_close(found, expected.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_any_slice_is_a_part_of_the_whole_on_any_number_of_threads(distribution):
    n, threads = 600_001, torch.get_num_threads()
    found = {}
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found[count] = noise.draw(5, 6, torch.Size([n]), CPU, distribution)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[1], found[3])
    for first, count in ((0, 10), (300_000, 4097), (n - 1, 1)):
        part = torch.zeros(count)
        noise.add_(part, 6, {5: 1.0}, first=first, distribution=distribution)
        assert torch.equal(part, found[1][first : first + count])


def test_a_stream_reads_the_draw_in_blocks_of_any_size():
    whole = noise.gaussian(8, 9, torch.Size([5000]), CPU)
    stream = noise.GaussianStream(8, 9, CPU)
    assert torch.equal(torch.cat([stream.next(n).clone() for n in (1, 1999, 2500, 500)]), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_a_run_without_the_compiled_loops_has_the_same_weights(dtype, distribution, torch_only):
    def weights():
        parameters = {"w": torch.linspace(-1, 1, 70_000).view(700, 100).to(dtype), "b": torch.ones(33, dtype=dtype)}
        method = MeZO(parameters.items(), lr=1e-4, probes=2, weight_decay=0.1, distribution=distribution)
        for _ in range(3):
            method.step(lambda: sum(p.double().square().mean() for p in parameters.values()))
        return parameters

    compiled = weights()
    torch_only()
    assert noise._fused(CPU, torch.float32, philox.NORMALS) is None
    for name, tensor in weights().items():
        assert torch.equal(tensor, compiled[name])
    assert not torch.equal(compiled["w"], torch.linspace(-1, 1, 70_000).view(700, 100).to(dtype))


@pytest.mark.parametrize("perturbation", [Gaussian(), Rademacher()])
def test_one_pass_equals_the_definition_and_tells_autograd(perturbation):
    slots = [make_slots([("w", torch.ones(300, 700))])[0] for _ in range(2)]
    before = slots[0].param._version
    direction = {1: 0.5, 2: -0.25}
    perturbation.move_(slots[0], perturbation.local(slots[0], direction), keep=0.5)
    slots[1].param.mul_(0.5)
    for key, weight in direction.items():
        perturbation.add_(slots[1], perturbation.draw(slots[1], key), slots[1].param, weight)
    assert torch.equal(slots[0].param, slots[1].param)
    assert slots[0].param._version > before


def test_normal_moments_and_tails():
    n = 1 << 22
    z = noise.gaussian(1, 2, torch.Size([n]), CPU).double().numpy()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 4 * math.sqrt(variance / n), power
    for bound in (2.0, 3.0, 4.0, 4.5):
        expected = n * math.erfc(bound / math.sqrt(2))
        assert abs((np.abs(z) > bound).sum() - expected) < 4.5 * math.sqrt(expected) + 1
    assert stats.kstest(z[: 1 << 18], "norm").pvalue > 1e-4


def test_signs_are_balanced_and_cost_no_variance():
    n = 1 << 22
    z = noise.draw(1, 2, torch.Size([n]), CPU, "sign")
    assert set(z[:100].tolist()) == {-1.0, 1.0}
    assert abs(float(z.double().mean())) < 4 / math.sqrt(n)
    assert torch.equal(z.abs(), torch.ones(n))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_draws_of_neighbours_are_uncorrelated(distribution):
    """Neighbouring keys and slots, neighbouring elements, and the two distributions of one key; also their squares."""
    n = 1 << 18

    def draw(key, slot_id=7):
        return noise.draw(key, slot_id, torch.Size([n]), CPU, distribution).double()

    base = draw(100)
    others = [
        draw(101),
        draw(100 ^ 1 << 40),
        draw(100, 8),
        base.roll(1),
        base.roll(512),
        base.roll(1024),
        base.roll(2048),
    ]
    others.append(noise.draw(100, 7, torch.Size([n]), CPU, "sign" if distribution == "normal" else "normal").double())
    for other in others:
        assert abs(float((base * other).mean())) < 4.5 / math.sqrt(n)
        if distribution == "normal":
            squares = (base.square() - 1) * (other.square() - other.square().mean())
            assert abs(float(squares.mean())) < 4.5 * max(2.0, float(squares.std())) / math.sqrt(n)


@pytest.fixture(scope="module")
def words():
    """Raw 32-bit words: 2¹⁹ of one key, and the first spans of 256 successive keys."""
    one = torch.stack(philox.words(mix(1, 2), 0, 256, CPU)).view(-1)
    many = torch.cat([torch.stack(philox.words(mix(key, 2), 0, 1, CPU)).view(-1) for key in range(256)])
    return {"one key": one.numpy().astype(np.uint32), "many keys": many.numpy().astype(np.uint32)}


@pytest.mark.parametrize("source", ["one key", "many keys"])
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
