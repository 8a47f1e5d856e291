"""Losses of a batch's examples, each at an offset of its own: what they are, however they are evaluated."""

import pytest
import torch

from zobench.testing.problem import Problem, StepLoss
from zobench.zo import Direction, Gaussian, Oracle, Unsuited, make_slots, owners
from zobench.zo.perturbations.sign_products import SignProducts


def measured(problem, perturbation, mode="in_place", loss=StepLoss):
    """The losses of one pass, and the oracle."""
    oracle = Oracle(make_slots(problem.parameters.items()), perturbation, mode)
    oracle.begin(loss(problem, 0))
    (found,) = oracle.own_losses([lambda j: 1e-2 * Direction.ray(100 + j)])
    return found, oracle


@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("perturbation", [SignProducts(), Gaussian()], ids=["signs", "normal"])
def test_they_are_the_losses_at_weights_that_were_moved_and_weights_stay(perturbation, mode):
    problem = Problem(torch.float64)
    before = problem.copy()
    found, oracle = measured(problem, perturbation, mode)
    assert all(torch.equal(p, before[name]) for name, p in problem.parameters.items())
    assert oracle.forwards == 1
    assert oracle.evaluation == ("exact, by row" if isinstance(perturbation, SignProducts) else "exact, by example")
    for place, loss in enumerate(found):
        for slot in oracle.slots:
            moved = perturbation.estimate(slot, 1e-2 * Direction.ray(100 + place))
            slot.param.copy_(before[slot.name] + moved)
        assert float(problem.errors(0)[place]) == pytest.approx(loss, rel=1e-9)


class Untold(StepLoss):
    """A loss that does not tell whose rows it runs."""

    def losses(self, copies=1, examples=False):
        found = self.problem.errors(self.step, copies).view(copies, self.size)
        return found if examples else found.mean(-1)


class Mixed(StepLoss):
    """A loss that tells it wrongly: its rows are in another order."""

    def losses(self, copies=1, examples=False):
        with owners.sequences(range(self.size)[::-1], [1] * self.size):
            found = self.problem.errors(self.step, copies).view(copies, self.size)
        return found if examples else found.mean(-1)


@pytest.mark.parametrize("loss", [Untold, Mixed])
def test_where_rows_are_not_told_or_told_wrongly_each_example_runs_alone_for_the_same_count(loss):
    expected, _ = measured(Problem(torch.float64), SignProducts())
    found, oracle = measured(Problem(torch.float64), SignProducts(), loss=loss)
    assert found == pytest.approx(expected, rel=1e-9)
    assert (oracle.evaluation, oracle.forwards) == ("exact, by example", 1)


def test_a_weight_that_is_read_by_other_means_is_refused_in_one_line():
    problem = Problem()
    slots = make_slots([*problem.parameters.items(), ("unused", torch.zeros(3))])
    oracle = Oracle(slots, Gaussian())
    oracle.begin(StepLoss(problem, 0))
    with pytest.raises(Unsuited, match=r"^unused: the loss does not read it by torch's functions[^\n]*$"):
        oracle.own_losses([lambda j: 1e-2 * Direction.ray(j)])


def test_rows_are_told_for_micro_batches_and_parts_of_them():
    with owners.examples([4, 5, 6]), owners.sequences([0, 0, 1, 2], [2, 1, 4, 3]):
        assert owners.runs(10) == [(4, 2), (4, 1), (5, 4), (6, 3)]
        with owners.some([3, 1]):
            assert owners.runs(4) == [(6, 3), (4, 1)]
            assert owners.runs(6) == [(6, 3), (4, 3)]  # padded
            assert owners.runs(5) is None
            assert owners.each(2) == [(6, 2), (4, 2)]
    assert owners.runs(10) is None
