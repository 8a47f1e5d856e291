"""Directions under a mask: what moves, what a rule with a memory makes of the rest, and how a mask is kept."""

import pytest
import torch

from zobench.methods.sparse_mezo import SparseMeZO
from zobench.testing.problem import Problem
from zobench.zo import Direction, Gaussian, Jaguar, Momentum, make_slots
from zobench.zo.perturbations.low_rank import LowRank
from zobench.zo.perturbations.masked import Masked

U = Direction.ray(7)


@pytest.mark.parametrize("shape", [(5, 7), (64, 3), (9,), (2, 3, 5)])
def test_a_mask_is_kept_as_bits_and_comes_back_in_any_rows(shape):
    slots = make_slots([("w", torch.randn(shape, generator=torch.Generator().manual_seed(0)))])
    mask = slots[0].param > 0
    space = Masked(Gaussian(), lambda slot: mask)
    space.begin(0, slots)
    assert space.state_bytes() == -(-mask.numel() // 8)
    assert torch.equal(space.support(slots[0]), mask)
    for rows in (slice(0, 1), slice(1, 4), slice(2, None), torch.tensor([1, 0, 1])):
        assert torch.equal(space.support(slots[0], rows), mask[rows])


def test_directions_are_those_of_the_base_under_the_mask_to_the_bit():
    slots = make_slots([("w", torch.zeros(300, 200)), ("b", torch.zeros(4))])
    mask = torch.rand(300, 200, generator=torch.Generator().manual_seed(0)) < 0.3
    space = Masked(Gaussian(), lambda slot: mask if slot.name == "w" else None)
    space.begin(0, slots)
    whole = Gaussian().estimate(slots[0], 0.5 * U)
    assert torch.equal(space.estimate(slots[0], 0.5 * U), whole * mask)
    assert torch.equal(space.estimate(slots[0], 0.5 * U, slice(10, 20)), (whole * mask)[10:20])
    assert torch.equal(space.estimate(slots[1], U), Gaussian().estimate(slots[1], U))


def test_a_matrix_without_a_mask_keeps_its_factors():
    slots = make_slots([("w", torch.zeros(6, 5)), ("free", torch.zeros(6, 5))])
    space = Masked(LowRank(rank=2), lambda slot: torch.eye(6, 5).bool() if slot.name == "w" else None)
    space.begin(0, slots)
    assert [space.factor_rank(slot) for slot in slots] == [None, 2]
    factors = space.factors(slots[1], U)
    assert torch.allclose(factors.U @ factors.V.T, LowRank(rank=2).estimate(slots[1], U), atol=1e-6)


def test_a_walk_does_not_move_the_mask():
    """The mask of weights at an offset would be another one."""
    problem = Problem(torch.float64)
    before = problem.copy()
    method = SparseMeZO(problem.parameters.items(), lr=0.0, eps=0.3, density=0.5)
    problem.train(method, 20)
    assert all(torch.allclose(p, before[name], rtol=0, atol=1e-13) for name, p in problem.parameters.items())


def test_a_memory_holds_where_the_mask_lets_nothing_be_measured():
    problem = Problem()
    method = SparseMeZO(problem.parameters.items(), lr=1e-2, density=0.5, rule=Jaguar())
    problem.train(method, 3)
    held = {slot.index: method._rule_state[slot.index]["m"].clone() for slot in method.slots}
    problem.train(method, 1)
    for slot in method.slots[:2]:
        now, support = method._rule_state[slot.index]["m"], method.perturbation.support(slot)
        assert torch.equal(now[~support], held[slot.index][~support])
        assert not torch.equal(now[support], held[slot.index][support])


def test_momentum_decays_where_nothing_is_measured():
    problem = Problem()
    method = SparseMeZO(problem.parameters.items(), lr=1e-2, density=0.5, rule=Momentum(beta=0.5))
    problem.train(method, 3)
    slot = method.slots[0]
    held = method._rule_state[slot.index]["m"].clone()
    problem.train(method, 1)
    outside = ~method.perturbation.support(slot)
    assert torch.equal(method._rule_state[slot.index]["m"][outside], 0.5 * held[outside])
