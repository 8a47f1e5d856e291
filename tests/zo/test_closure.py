"""What an oracle makes of a closure: losses of examples, and those that were seen before."""

import pytest
import torch
from helpers.per_example import Clipped

from zobench.testing.cases import cases
from zobench.testing.contracts import CONTRACTS, LONG, pairs
from zobench.testing.problem import Problem, StepLoss
from zobench.zo import ZERO, Diverged, Gaussian, Oracle, make_slots
from zobench.zo.direction import Direction

NODE = {"_target_": "helpers.per_example.Clipped", "eps": 1e-2}
HELD = pairs(case for case in cases("Clipped", NODE) if "sgd" in case.name or "momentum" in case.name)


@pytest.mark.parametrize("name", HELD)
def test_a_method_by_example_keeps_the_contracts(name):
    case, contract = HELD[name]
    contract(case)


def test_these_are_all_contracts():
    assert {contract for _, contract in HELD.values()} == {*CONTRACTS, *LONG}


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_losses_of_examples_are_those_at_the_offset_and_count_one_forward_each(mode):
    problem = Problem(torch.float64)
    slots = make_slots(problem.parameters.items())
    oracle = Oracle(slots, Gaussian(), mode)
    offsets = [ZERO, Direction({3: 0.1}), Direction({3: -0.1})]
    oracle.begin(StepLoss(problem, 2))
    found = oracle.example_losses(offsets)
    assert oracle.forwards == 3
    assert oracle.seen == found
    assert oracle.losses(offsets) == pytest.approx(oracle.means[:3], rel=1e-6)
    oracle.settle()
    for offset, losses in zip(offsets, found, strict=True):
        twin = Problem(torch.float64)
        Gaussian().move(make_slots(twin.parameters.items()), offset)
        assert losses == pytest.approx(twin.errors(2).tolist(), rel=1e-6)


def test_a_plain_function_has_none():
    problem = Problem()
    method = Clipped(problem.parameters.items(), lr=1e-2)
    with pytest.raises(
        TypeError, match=r"losses per example were asked of a closure that gives their mean alone"
    ) as error:
        method.step(lambda: problem.loss(0))
    assert "\n" not in str(error.value)
    assert method.oracle.forwards == 0


def test_one_example_whose_loss_is_not_finite_stops_the_step():
    problem = Problem()
    method = Clipped(problem.parameters.items(), lr=1e-2)

    def spoilt(losses):
        return losses.index_fill(1, torch.tensor([3]), torch.inf)

    with pytest.raises(Diverged, match="the loss is inf at forward pass 1"):
        method.step(StepLoss(problem, 0, spoilt))


def test_what_was_seen_is_asked_for_in_the_same_way():
    method = Clipped(Problem().parameters.items(), lr=1e-2)
    for seen, said in (
        ([0.5, 0.25], "losses per example where a loss was seen"),
        ([[0.5, 0.25]], "more losses than were seen"),
        ([[0.5, 0.25]] * 3, "takes 2 losses, not 3"),
    ):
        with pytest.raises(ValueError, match=said):
            method.replay(seen, [])
