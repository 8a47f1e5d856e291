"""Sparse-MeZO: which weights move, the mean and the second moment of its estimate, and its thresholds."""

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from zobench.methods.mezo import MeZO
from zobench.methods.sparse_mezo import SparseMeZO
from zobench.testing.problem import Problem
from zobench.zo import Direction, make_slots, noise
from zobench.zo.perturbations.small_magnitudes import SmallMagnitudes, kth_magnitude

F64 = torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1,), (37, 11), (700, 500)])
def test_the_kth_magnitude_is_that_of_the_sorted_ones(dtype, shape):
    """With many ties and zeros in half precision; the last shape takes several blocks."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=F64).mul(1e-3).to(dtype)
    numbers.view(-1)[::3] = 0.0
    ranked = numbers.abs().flatten().sort().values
    for k in {1, -(-numbers.numel() // 4), numbers.numel()}:
        assert kth_magnitude(numbers, k) == float(ranked[k - 1])
        assert kth_magnitude(numbers.T.contiguous().T if numbers.ndim > 1 else numbers, k) == float(ranked[k - 1])


def test_thresholds_stand_still_and_masks_follow_the_weights():
    """Weights leave the mask and come into it as they move; those outside keep their bits within the step."""
    problem = Problem(F64)
    method = SparseMeZO(problem.parameters.items(), lr=0.05, density=0.5)
    problem.train(method, 1)
    thresholds, first = dict(method.perturbation.thresholds), {}
    for slot in method.slots:
        first[slot.name] = method.perturbation.support(slot)
    assert first["layer.bias"] is None
    changed = 0
    for _ in range(10):
        before = problem.copy()
        problem.train(method, 1)
        for slot in method.slots:
            if (mask := method.perturbation.support(slot)) is not None:
                assert torch.equal(mask, before[slot.name].abs() <= thresholds[slot.name])
                assert torch.equal(slot.param[~mask], before[slot.name][~mask])
                assert (slot.param != before[slot.name])[mask].all()
                changed += int((mask != first[slot.name]).sum())
    assert changed
    assert method.perturbation.thresholds == thresholds


def test_a_quarter_of_each_matrix_moves_by_default():
    slots = make_slots([("w", torch.randn(40, 10)), ("embed", torch.randn(16, 5) * 9), ("b", torch.randn(8))])
    for mask_vectors, of_vector in ((False, None), (True, 2)):
        space = SmallMagnitudes(mask_vectors=mask_vectors)
        space.begin(0, slots)
        counts = [None if (mask := space.support(slot)) is None else int(mask.sum()) for slot in slots]
        assert counts == [100, 20, of_vector]


def test_mean_and_second_moment_on_a_linear_loss(monkeypatch):
    """``E g = m ∘ G`` and ``E|g|² = (d̂ + 2) |m ∘ G|²``, exactly, over a grid of Gaussian nodes."""
    weight = torch.tensor([[0.1, 5.0], [-0.2, 0.3]], dtype=F64)
    gradient = torch.tensor([[1.0, 2.0], [3.0, -0.5]], dtype=F64)
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=F64)
    nodes, weights = hermegauss(3)
    grid = torch.cartesian_prod(*[torch.tensor(nodes)] * 4)
    chance = torch.cartesian_prod(*[torch.tensor(weights / weights.sum())] * 4).prod(1)
    method = SparseMeZO([("w", weight)], lr=0.0, density=0.75, mode="exact")
    (slot,), mean, second = method.slots, torch.zeros(2, 2, dtype=F64), 0.0
    for z, p in zip(grid.view(-1, 2, 2), chance, strict=True):
        monkeypatch.setattr(noise, "add_rows_", lambda to, stream, u, rows, z=z, **_: to.add_(z * sum(u.values())))
        method.step(lambda: torch.mul(slot.param, gradient).sum())
        estimate = method.perturbation.estimate(slot, method.applied)
        mean += p * estimate
        second += float(p * estimate.square().sum())
    torch.testing.assert_close(mean, mask * gradient, rtol=0, atol=1e-9)
    assert second == pytest.approx(float((3 + 2) * (mask * gradient).square().sum()), rel=1e-9)


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_with_all_weights_in_the_mask_a_step_is_mezos_to_the_bit(mode):
    one, other = Problem(), Problem()
    common = {"lr": 1e-2, "seed": 4, "mode": mode}
    one.train(SparseMeZO(one.parameters.items(), density=1.0, **common), 1)
    other.train(MeZO(other.parameters.items(), **common), 1)
    assert all(torch.equal(p, other.parameters[name]) for name, p in one.parameters.items())


def test_a_tensor_that_starts_at_zero_moves_whole():
    """LoRA's B: a threshold of 0 would stop it after its first step."""
    weights = {"lora_A": torch.randn(2, 6, generator=torch.Generator().manual_seed(0)), "lora_B": torch.zeros(6, 2)}
    method = SparseMeZO(weights.items(), lr=1e-2)
    for _ in range(3):
        before = {name: p.clone() for name, p in weights.items()}
        method.step(lambda: (weights["lora_B"] @ weights["lora_A"]).sum() + weights["lora_B"].sum())
    assert (weights["lora_B"] != before["lora_B"]).all()
    assert 0 < int((weights["lora_A"] != before["lora_A"]).sum()) <= 3


def test_thresholds_are_kept_with_the_state():
    slots = make_slots([("w", torch.arange(1.0, 9.0).view(2, 4))])
    one, other = SmallMagnitudes(density=0.5), SmallMagnitudes(density=0.5)
    one.begin(0, slots)
    other.load_state_dict(one.state_dict())
    slots[0].param.mul_(0.5)
    other.begin(1, slots)
    assert other.thresholds == {"w": 4.0}
    assert torch.equal(other.estimate(slots[0], Direction.ray(7)) != 0, torch.ones(2, 4, dtype=torch.bool))


@pytest.mark.parametrize("density", [0.0, 1.5, -0.1])
def test_bad_settings_are_named(density):
    with pytest.raises(ValueError, match=f"density={density}: must lie in"):
        SparseMeZO([("w", torch.zeros(2, 2))], lr=1.0, density=density)
