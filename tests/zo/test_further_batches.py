"""Losses of several batches in a step: what they are, what they count as, and what is made again of them."""

import pytest
import torch

from zobench import DiZO, MeZOSVRG
from zobench.protocols import Clean, MezoExact
from zobench.testing.problem import Problem
from zobench.zo import Gaussian, Oracle, make_slots


def test_losses_on_further_batches_are_those_of_these_batches():
    problem = Problem()
    oracle = Oracle(make_slots(problem.parameters.items()), Gaussian())
    oracle.further = lambda first, count: problem.further(0, first, count)
    oracle.begin(lambda: problem.loss(0))
    with oracle.on(first=1, count=3):
        large = oracle.loss()
        with oracle.on(first=0):
            small = oracle.loss()
    own = oracle.loss()
    assert large == pytest.approx(sum(float(problem.loss(step)) for step in (2, 3, 4)) / 3, rel=1e-6)
    assert (small, own) == (float(problem.loss(1)), float(problem.loss(0)))
    assert oracle.seen == [large, small, own]
    assert oracle.forwards == 5


def test_the_loss_of_a_step_is_that_of_its_own_batch():
    problem = Problem(torch.float64)
    method = DiZO(problem.parameters.items(), lr=0.0, interval=1, inner_steps=2)
    method.oracle.further = lambda first, count: problem.further(0, first, count)
    loss = method.step(lambda: problem.loss(0))
    assert loss == pytest.approx(float(problem.loss(0)), abs=1e-5)
    assert len(method.oracle.seen) == 6


def test_without_further_batches_the_step_says_how_to_give_some():
    problem = Problem()
    before, method = problem.copy(), MeZOSVRG(problem.parameters.items(), lr=1e-2)
    with pytest.raises(RuntimeError, match=r"further batches of its step: set method\.oracle\.further to"):
        method.step(lambda: problem.loss(0))
    assert all(torch.allclose(p, before[name], atol=1e-6) for name, p in problem.parameters.items())


def test_an_anchor_that_is_an_offset_is_where_the_weights_were():
    problem = Problem(torch.float64)
    method = MeZOSVRG(problem.parameters.items(), lr=1e-2, seed=3, interval=4)
    anchor = problem.copy()
    problem.train(method, 4)
    for slot in method.slots:
        there = slot.param + method.perturbation.estimate(slot, method.anchor)
        assert torch.allclose(there, anchor[slot.name], rtol=0, atol=1e-14)
    assert len(method.anchor) == 4


@pytest.mark.parametrize("protocol", [Clean(), MezoExact()], ids=["clean", "mezo_exact"])
def test_the_further_batches_of_a_step_are_all_examples_in_an_order_of_its_own(protocol):
    n, size, orders = 10, 4, set()
    for step in range(3):
        batches = [protocol.further_batch(step, number, n, size, order_seed=1) for number in range(3)]
        assert [len(batch) for batch in batches] == [4, 4, 2]
        order = [i for batch in batches for i in batch]
        assert sorted(order) == list(range(n))
        orders.add(tuple(order))
    assert len(orders) == 3
    assert protocol.further_batch(0, 1, n, size, 1) == protocol.further_batch(0, 1, n, size, 1)
