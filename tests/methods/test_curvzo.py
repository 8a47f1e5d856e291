"""CurvZO (arXiv:2603.21725) against its mathematics: sampling, correction, scores and budget."""

import itertools
import math

import numpy as np
import pytest
import torch

from zobench.methods.curvzo import CurvZO
from zobench.testing.definition import moved
from zobench.zo import ZERO, Direction, Oracle, Perturbation, central_difference, make_slots, mix
from zobench.zo.perturbations.block_sampling import SampledBlocks, corrected, inclusion_probabilities
from zobench.zo.perturbations.block_scores import (
    BlockScores,
    Budget,
    effective_support,
    rank_correlation,
    sharpness,
)

U = Direction.ray(77)


def blocks_of(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return {f"b{i}.weight": torch.randn(shape, generator=generator).to(dtype) for i, shape in enumerate(shapes)}


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def quadratic(parameters):
    """A smooth loss on all blocks, with couplings between them."""

    def loss():
        sums = torch.stack([(p.double() * (i + 1)).sin().sum() for i, p in enumerate(parameters.values())])
        return sums.sum() + (sums**2).mean()

    return loss


def opt_2_7b_sizes():
    d = 2560
    layer = [d * d, d] * 4 + [d, d] * 2 + [4 * d * d, 4 * d, 4 * d * d, d]
    return [50272 * d, 2050 * d, d, d, *(layer * 32)]


class Quadrature(SampledBlocks):
    """The same distribution with a node of a quadrature rule in place of a draw."""

    node: tuple[float, ...] = ()

    def draw(self, slot, key):
        return torch.full(slot.param.shape, self.node[slot.index], dtype=torch.float64)

    splits, accumulate_ = Perturbation.splits, Perturbation.accumulate_

    def alone(self, slot):
        return False


def expectation(g, pi, power):
    """E[estimate^power] per block of one weight, exact: all masks times Gauss-Hermite nodes, through the oracle."""
    parameters = {f"b{i}": torch.zeros(1, dtype=torch.float64) for i in range(len(g))}
    perturbation = Quadrature()
    oracle = Oracle(make_slots(parameters.items()), perturbation)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    total = np.zeros(len(g))
    for mask in itertools.product((0, 1), repeat=len(g)):
        chance = math.prod(p if m else 1 - p for m, p in zip(mask, pi, strict=True))
        for places in itertools.product(range(3), repeat=len(g)):
            perturbation.node = tuple(nodes[i] for i in places)
            perturbation.pi = {b: pi[b] for b, m in enumerate(mask) if m}
            oracle.begin(lambda: sum(gi * p.sum() for gi, p in zip(g, parameters.values(), strict=True)))
            projected = central_difference(oracle, U, 1e-3)
            oracle.settle()
            estimate = [float(perturbation.estimate(s, projected * corrected(U))) for s in oracle.slots]
            total += chance * math.prod(weights[i] for i in places) * np.array(estimate) ** power
    return total


def test_the_estimator_is_unbiased():
    """Exactly: E[Δ m u / π] = g for a linear loss."""
    g, pi = (1.5, -0.7, 0.4), (0.9, 0.2, 0.05)
    np.testing.assert_allclose(expectation(g, pi, 1), g, atol=1e-9)


def test_the_second_moment():
    """Exactly: E[g̃_i²] = (3 g_i² + Σ_{j≠i} π_j g_j²) / π_i."""
    g, pi = (1.5, -0.7, 0.4), (0.9, 0.2, 0.05)
    rest = sum(p * x * x for p, x in zip(pi, g, strict=True))
    expected = [(3 * x * x + rest - p * x * x) / p for p, x in zip(pi, g, strict=True)]
    np.testing.assert_allclose(expectation(g, pi, 2), expected, rtol=1e-8)


@pytest.mark.parametrize("expected_blocks", [1, 3])
def test_the_drawn_estimator_is_unbiased(expected_blocks):
    """Unbiased with drawn samples and noise: every coordinate's mean is within 4.5 standard errors of g.

    With one expected block of eight, a third of the samples would be empty; the correction of the block that then
    replaces them is part of what is tested.
    """
    parameters = blocks_of(*[(2,)] * 8)
    slots = make_slots(parameters.items())
    g = torch.linspace(-1.0, 2.0, 16, dtype=torch.float64).view(8, 2)
    pi = inclusion_probabilities(torch.arange(1.0, 9.0, dtype=torch.float64).sqrt(), expected_blocks)
    perturbation, rows = SampledBlocks(), []
    for t in range(8000):
        perturbation.redraw(slots, pi, mix(1, t))
        u = Direction.ray(mix(2, t))
        projected = sum(float(g[b] @ perturbation.estimate(slots[b], u)) for b in perturbation.pi)
        row = torch.zeros(8, 2, dtype=torch.float64)
        for b in perturbation.pi:
            row[b] = perturbation.estimate(slots[b], projected * corrected(u))
        rows.append(row)
    drawn = torch.stack(rows)
    z = (drawn.mean(0) - g) / (drawn.std(0) / math.sqrt(len(drawn)))
    assert z.abs().max() < 4.5


def test_blocks_are_sampled_independently_with_their_probabilities():
    slots = make_slots(blocks_of(*[(1,)] * 6).items())
    pi = tensor(1.0, 0.9, 0.6, 0.5, 0.2, 0.01)
    n, perturbation = 20000, SampledBlocks()
    hits = torch.zeros(n, 6, dtype=torch.float64)
    for t in range(n):
        perturbation.redraw(slots, pi, mix(3, t))
        hits[t, list(perturbation.pi)] = 1.0
        assert all(perturbation.pi[b] == float(pi[b]) for b in perturbation.pi)
    assert ((hits.mean(0) - pi).abs() <= 4.5 * (pi * (1 - pi) / n).sqrt()).all()
    both, product = hits.T @ hits / n, torch.outer(pi, pi)
    error = (both - product).abs() - 4.5 * (product * (1 - product) / n).sqrt()
    assert error[~torch.eye(6, dtype=torch.bool)].max() <= 1e-12


def test_an_empty_sample_becomes_the_most_probable_block():
    """its recorded π is the chance with which it is really in the sample."""
    slots = make_slots(blocks_of(*[(1,)] * 3).items())
    pi, n, perturbation = tensor(0.3, 0.4, 0.1), 20000, SampledBlocks()
    count, recorded = 0, set()
    for t in range(n):
        perturbation.redraw(slots, pi, mix(4, t))
        assert perturbation.pi
        count += 1 in perturbation.pi
        recorded |= {perturbation.pi[1]} if 1 in perturbation.pi else set()
    (truth,) = recorded
    assert truth == pytest.approx(0.4 + 0.7 * 0.6 * 0.9, abs=1e-15)
    assert abs(count / n - truth) < 4.5 * math.sqrt(truth * (1 - truth) / n)


def test_the_sample_depends_on_the_key_and_the_names_alone():
    parameters = blocks_of(*[(2,)] * 20)
    there, back = make_slots(parameters.items()), make_slots(reversed(parameters.items()))
    pi = torch.linspace(0.05, 0.9, 20, dtype=torch.float64)
    one, two, three = SampledBlocks(), SampledBlocks(), SampledBlocks()
    one.redraw(there, pi, 5)
    two.redraw(back, pi.flip(0), 5)
    three.redraw(there, pi, 6)
    assert {there[b].name for b in one.pi} == {back[b].name for b in two.pi}
    assert set(one.pi) != set(three.pi)


def test_the_square_root_rule_minimises_the_variance():
    """Σ F/π is least for π ∝ √F at equal Σπ; the official power of 1 is worse."""
    generator = torch.Generator().manual_seed(1)
    fisher = torch.rand(40, generator=generator, dtype=torch.float64) + 0.2
    best = inclusion_probabilities(fisher**0.5, 10)
    assert best.max() < 1
    for _ in range(100):
        other = inclusion_probabilities(torch.rand(40, generator=generator, dtype=torch.float64) + 0.01, 10)
        assert other.sum() == pytest.approx(10)
        assert (fisher / best).sum() < (fisher / other).sum()
    assert (fisher / best).sum() < (fisher / inclusion_probabilities(fisher, 10)).sum()


def test_water_filling_meets_the_budget():
    """Σ min(1, c w) = B to 1e-6 B, proportional below 1."""
    generator = torch.Generator().manual_seed(2)
    for n, skew in itertools.product((1, 2, 7, 516), (0.0, 1.0, 6.0)):
        w = (skew * torch.randn(n, generator=generator, dtype=torch.float64)).exp()
        for expected in {1, max(1, n // 3), max(1, n - 1), n}:
            pi = inclusion_probabilities(w, expected)
            assert float(pi.sum()) == pytest.approx(expected, rel=1e-6)
            assert pi.max() <= 1
            ratio = (pi / w)[pi < 1]
            assert len(ratio) == 0 or ratio.max() / ratio.min() < 1 + 1e-9


def test_the_released_budget_falls_short_under_skew():
    """Σπ = min(k, Σp / max p)."""
    for n, k, total in ((50, 20, 1.49), (516, 206, 6.15)):
        scores = torch.full((n,), 0.01, dtype=torch.float64)
        scores[3] = 1.0
        pi = inclusion_probabilities(scores, k, "pmax")
        assert float(pi.sum()) == pytest.approx(total, abs=1e-6)
        assert float(inclusion_probabilities(scores, k).sum()) == pytest.approx(k, rel=1e-6)
    flat = inclusion_probabilities(torch.ones(50, dtype=torch.float64), 20, "pmax")
    torch.testing.assert_close(flat, torch.full((50,), 0.4, dtype=torch.float64))
    whole = inclusion_probabilities(torch.tensor([8.0, 1.0, 1.0]), 3, "pmax")  # budget_max=1 asks for all blocks
    assert whole.tolist() == [1.0, 0.125, 0.125]


def test_support_and_sharpness():
    """Both by their closed forms, flat and one-hot, and within their bounds."""
    n = 516
    flat, one_hot = torch.full((n,), 0.3, dtype=torch.float64), torch.full((n,), 1e-12, dtype=torch.float64)
    one_hot[5] = 1.0
    assert effective_support(flat) == pytest.approx(n, abs=1e-6)
    assert sharpness(flat) == pytest.approx(0.0, abs=1e-6)
    assert effective_support(one_hot) == pytest.approx(1.001, abs=1e-4)
    assert sharpness(one_hot) == pytest.approx(1.0, abs=1e-6)
    assert sharpness(tensor(0.7)) == 0.0
    generator = torch.Generator().manual_seed(3)
    for n, skew in itertools.product((2, 9, 300), (0.1, 2.0, 10.0)):
        scores = (skew * torch.randn(n, generator=generator, dtype=torch.float64)).exp()
        assert 1 <= effective_support(scores) <= n
        assert 0 <= sharpness(scores) <= 1


def test_a_move_of_the_budget():
    """flat scores 0.4 → 0.419, one-hot scores 0.4 → 0.3911; never outside its bounds."""
    n = 516
    one_hot = torch.full((n,), 1e-12, dtype=torch.float64)
    one_hot[0] = 1.0
    for scores, share in ((torch.ones(n, dtype=torch.float64), 0.419), (one_hot, 0.3911)):
        budget = Budget()
        budget.adapt(scores)
        assert budget.share == pytest.approx(share, abs=1e-4)
    tight = Budget(budget_min=0.39, budget_max=0.41, budget_weight=1.0, budget_ema=1.0)
    tight.adapt(one_hot)
    assert tight.share == pytest.approx(0.39, abs=1e-4)
    assert Budget(budget_init=0.1).blocks(4) == 1


def test_the_first_update_of_the_scores():
    """S_b = 0.009 + w_b for the sampled blocks, unchanged for the others."""
    parameters = blocks_of((4, 3), (7,), (5, 5), (2,), (6, 2), (3,), (8, 2), (9,))
    method = CurvZO(parameters.items(), lr=1e-3, seed=1)
    method.step(quadratic(parameters))
    u, chosen = method.keys(0), method.sample.pi
    energy = {b: float(method.sample.draw(method.slots[b], u).double().square().sum()) / chosen[b] ** 2 for b in chosen}
    assert 0 < len(chosen) < 8
    for b in range(8):
        expected = 0.009 + energy[b] / sum(energy.values()) if b in chosen else 0.01
        assert float(method.scores.values[b]) == pytest.approx(expected, abs=1e-5)


def test_squared_scores():
    scores = BlockScores([4, 4], score="squared", score_power=1.0, gradient_ema=0.5)
    scores.gradient = 1.0
    scores.learn(-3.0, {0: 1.0, 1: 3.0})
    assert scores.gradient == 2.0
    torch.testing.assert_close(scores.values, tensor(0.009 + 0.1 * 2.25 * 0.25, 0.009 + 0.1 * 2.25 * 0.75))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_other_blocks_are_not_touched(dtype, mode):
    """bit-identical, and in place not even written (torch counts the writes to a tensor)."""
    parameters = blocks_of(*[(6, 4)] * 9, (5,), dtype=dtype)
    before = {name: p.clone() for name, p in parameters.items()}
    versions = {name: p._version for name, p in parameters.items()}
    method = CurvZO(parameters.items(), lr=1e-2, seed=2, mode=mode)
    method.step(quadratic(parameters))
    assert 0 < len(method.sample.pi) < 10
    for slot in method.slots:
        untouched = slot.index not in method.sample.pi
        assert torch.equal(slot.param, before[slot.name]) == untouched
        if mode == "in_place":
            assert (slot.param._version == versions[slot.name]) == untouched


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-6)])
def test_sampled_blocks_are_restored(dtype, tolerance):
    """to 1e-6 of a weight of size 1 in fp32, two units in the last place in bf16."""
    parameters = blocks_of((40, 30), (30,), (50, 8), dtype=dtype)
    before = {name: p.clone() for name, p in parameters.items()}
    method = CurvZO(parameters.items(), lr=0.0, budget_init=0.8, seed=3)
    method.step(quadratic(parameters))
    assert len(method.sample.pi) >= 2
    for name, p in parameters.items():
        torch.testing.assert_close(p, before[name], rtol=tolerance, atol=tolerance / 2)


def null_dynamics(power, cap):
    """8000 steps on the blocks of OPT-2.7B with a |Δ| that tells nothing about the sample."""
    sizes = torch.tensor(opt_2_7b_sizes(), dtype=torch.float64)
    scores, budget = BlockScores(sizes.tolist(), score_power=power), Budget()
    generator = torch.Generator().manual_seed(4)
    logs, expected_blocks, sampled_weights = [], [], []
    for t in range(8000):
        pi = inclusion_probabilities(scores.shares(), budget.blocks(len(sizes)), cap)
        chosen = (torch.rand(len(sizes), generator=generator, dtype=torch.float64) < pi).nonzero()[:, 0]
        energies = (sizes[chosen] / pi[chosen] ** 2).tolist()
        scores.learn(float(torch.randn((), generator=generator)), dict(zip(chosen.tolist(), energies, strict=True)))
        if t % 20 == 0:
            budget.adapt(scores.floored())
        if t >= 3000:
            logs.append(scores.values.log())
            expected_blocks.append(float(pi.sum()))
            sampled_weights.append(float(sizes[chosen].sum() / sizes.sum()))
    x, y = sizes.log() - sizes.log().mean(), torch.stack(logs).mean(0)
    slope = float(x @ (y - y.mean()) / x.square().sum())
    return slope, scores.size_correlation(), budget.share, np.mean(expected_blocks), np.mean(sampled_weights)


def test_official_scores_without_a_signal_settle_at_the_cube_root_of_size():
    """With the numbers of the specification's own simulation."""
    assert len(opt_2_7b_sizes()) == 516
    slope, correlation, share, expected_blocks, sampled_weights = null_dynamics(1.0, "pmax")
    assert 0.25 <= slope <= 0.40
    assert correlation > 0.8
    assert share == pytest.approx(0.45, abs=0.02)
    assert expected_blocks == pytest.approx(95, rel=0.1)
    assert sampled_weights == pytest.approx(0.5, abs=0.1)


def test_paper_scores_without_a_signal_settle_at_the_square_root_of_size():
    """For π ∝ √S: a share numel/π² fixes S ∝ numel^(1/(1+2·power)), here 1/2."""
    slope, correlation, *_ = null_dynamics(0.5, "waterfill")
    assert slope == pytest.approx(0.5, abs=0.08)
    assert correlation > 0.8


@pytest.mark.parametrize(("power", "exponent"), [(0.0, 1.0), (0.5, 0.5), (1.0, 1 / 3)])
def test_scores_by_size_alone_do_not_learn(power, exponent):
    scores = BlockScores([8, 27], score="size", score_power=power)
    scores.learn(3.0, {0: 1.0})
    torch.testing.assert_close(scores.values, tensor(8.0**exponent, 27.0**exponent))


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_a_step_by_hand(variant):
    """Three steps in dense linear algebra from the drawn sample and noise, budget move included."""
    parameters = blocks_of((4, 3), (7,), (5, 5), (2,), (6, 2), (3,))
    method = CurvZO(parameters.items(), lr=1e-3, eps=1e-3, seed=4, variant=variant, adapt_every=2)
    theta = [p.numpy().copy() for p in parameters.values()]
    scores, gradient, share = np.full(6, 0.01), 1e-8, 0.4

    def loss(values):
        sums = np.array([np.sin(v * (i + 1)).sum() for i, v in enumerate(values)])
        return sums.sum() + (sums**2).mean()

    for t in range(3):
        method.step(quadratic(parameters))
        w = np.sqrt(scores) if variant == "paper" else scores
        k = max(1, math.floor(6 * share))
        low, high = 0.0, 1.0 / w.min() if variant == "paper" else 1.0 / w.max()
        for _ in range(200):
            c = (low + high) / 2
            low, high = (c, high) if np.minimum(1, c * w).sum() < k else (low, c)
        pi = np.minimum(1, c * w)
        pi[pi.argmax()] += np.prod(1 - pi)
        chosen = sorted(method.sample.pi)
        np.testing.assert_allclose([method.sample.pi[b] for b in chosen], pi[chosen], rtol=1e-6)
        z = {b: method.sample.draw(method.slots[b], method.keys(t)).double().numpy() for b in chosen}
        plus = loss([v + 1e-3 * z[b] if b in z else v for b, v in enumerate(theta)])
        minus = loss([v - 1e-3 * z[b] if b in z else v for b, v in enumerate(theta)])
        rho = (plus - minus) / 2e-3
        gradient = 0.9 * gradient + 0.1 * abs(rho)
        energy = {b: (z[b] ** 2).sum() / pi[b] ** 2 for b in chosen}
        for b in chosen:
            scores[b] = 0.9 * scores[b] + 0.1 * abs(rho) / gradient * energy[b] / sum(energy.values())
            theta[b] = theta[b] - 1e-3 * rho * z[b] / pi[b]
        if t % 2 == 0:
            q = scores / scores.sum()
            flatness = np.sqrt(scores).sum() ** 2 / scores.sum() / 6
            raw = 0.1 + 0.7 * (0.7 * flatness + 0.3 * (1 + (q * np.log(q)).sum() / np.log(6)))
            share = min(0.8, max(0.1, 0.9 * share + 0.1 * raw))
        np.testing.assert_allclose(method.scores.values.numpy(), scores, rtol=1e-6)
        assert method.budget.share == pytest.approx(share, rel=1e-7)
        for slot, expected in zip(method.slots, theta, strict=True):
            np.testing.assert_allclose(slot.param.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3,), (7, 5), (600, 1000)])
def test_the_fused_move_equals_its_definition_bit_for_bit(dtype, shape):
    fused = make_slots(blocks_of(shape, shape, dtype=dtype).items())
    perturbation = SampledBlocks()
    perturbation.pi = {0: 0.3}
    direction = -2e-3 * corrected(U) + 0.37 * U + Direction.ray(5)
    for slot in fused:
        expected = moved(perturbation, slot, direction, keep=0.99)
        perturbation.move_(slot, direction, keep=0.99)
        assert torch.equal(slot.param, expected)
    torch.testing.assert_close(
        perturbation.estimate(fused[0], corrected(U)), perturbation.estimate(fused[0], U) / 0.3, rtol=1e-6, atol=0
    )
    assert perturbation.local(fused[1], direction) == ZERO
    assert not perturbation.estimate(fused[1], direction).any()


def test_energies_are_those_of_the_draws():
    slots = make_slots(blocks_of((600, 1000), (7,), (4, 4), dtype=torch.float32).items())
    perturbation = SampledBlocks()
    perturbation.pi = {0: 0.3, 1: 0.5}
    found = perturbation.energies(slots, U)
    for b, pi in perturbation.pi.items():
        whole = float(perturbation.draw(slots[b], 77).double().square().sum())
        assert found[b] == pytest.approx(whole / pi**2, rel=1e-6)
    assert set(found) == {0, 1}


def test_variants_and_ablations():
    parameters = blocks_of(*[(3, i + 2) for i in range(10)])
    paper, official = CurvZO(parameters.items(), lr=0.0), CurvZO(parameters.items(), lr=0.0, variant="official")
    mixed = CurvZO(parameters.items(), lr=0.0, variant="official", score_power=0.5)
    assert (paper.scores.power, paper.budget_cap) == (0.5, "waterfill")
    assert (official.scores.power, official.budget_cap) == (1.0, "pmax")
    assert (mixed.scores.power, mixed.budget_cap) == (0.5, "pmax")
    uniform = CurvZO(parameters.items(), lr=1e-3, score_power=0.0)
    even = CurvZO(parameters.items(), lr=1e-3, uniform_mix=1.0)
    fixed = CurvZO(parameters.items(), lr=1e-3, adapt_every=0)
    for _ in range(25):
        expected = uniform.budget.blocks(10) / 10
        for method in (uniform, even, fixed, paper):
            method.step(quadratic(parameters))
        bumped = expected + (1 - expected) ** 10
        assert all(abs(pi - expected) < 1e-9 or abs(pi - bumped) < 1e-9 for pi in uniform.sample.pi.values())
        assert paper.oracle.notes["expected_blocks"] == pytest.approx(4)
    assert uniform.scores.values.std() > 0
    assert even.sample.pi.keys() == uniform.sample.pi.keys()
    assert fixed.budget.share == 0.4 != paper.budget.share


def test_embeddings_can_be_excluded():
    parameters = {"embed.weight": torch.randn(6, 4), "layer.weight": torch.randn(4, 4)}
    method = CurvZO(parameters.items(), lr=1e-3, exclude_embeddings=True)
    assert [slot.name for slot in method.slots] == ["layer.weight"]


def test_notes():
    parameters = blocks_of((4, 3), (7,), (5, 5), (2,), (6, 2))
    method = CurvZO(parameters.items(), lr=1e-3)
    method.step(quadratic(parameters))
    notes, sizes = method.oracle.notes, method.scores.sizes
    assert notes["sampled_blocks"] == len(method.sample.pi)
    assert notes["sampled_weights"] == pytest.approx(sum(sizes[b] for b in method.sample.pi) / 58)
    assert notes["budget"] == method.budget.share
    assert notes["score_size_correlation"] == rank_correlation(method.scores.values, torch.tensor(sizes))


def test_rank_correlation():
    scipy_stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(5)
    for _ in range(5):
        x = torch.randint(0, 6, (30,), generator=generator)
        y = x + torch.randint(0, 9, (30,), generator=generator)
        truth = scipy_stats.spearmanr(x.numpy(), y.numpy()).statistic
        assert rank_correlation(x, y) == pytest.approx(truth, abs=1e-12)
    assert rank_correlation(torch.ones(4), torch.arange(4)) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 0.0}, "eps=0.0: must be positive"),
        ({"variant": "released"}, "expected one of paper, official"),
        ({"budget_cap": "none"}, "budget_cap=none: expected one of waterfill, pmax"),
        ({"score_power": -1.0}, "score_power=-1.0: must be 0 or positive"),
        ({"score": "fisher"}, "expected one of magnitude, squared, size"),
        ({"score_init": 0.0}, "score_init=0.0"),
        ({"score_ema": 1.5}, "score_ema=1.5"),
        ({"uniform_mix": -0.1}, "uniform_mix=-0.1"),
        ({"budget_init": 0.9}, "must lie between budget_min=0.1 and budget_max=0.8"),
        ({"adapt_every": -1}, "adapt_every=-1"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        CurvZO([("w", torch.zeros(2, 2))], lr=1e-3, **arguments)
