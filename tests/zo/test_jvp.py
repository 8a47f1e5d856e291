"""Directional derivatives by forward mode: the limit of the projected gradient, and what they count as."""

import pytest
import torch
from helpers import matrix
from helpers.families import build

from zobench import ForwardGradient
from zobench.objective import Objective
from zobench.testing.problem import Problem
from zobench.zo import Direction, Gaussian, Oracle, central_difference, make_slots
from zobench.zo.perturbations.low_rank import LowRank

U = 0.7 * Direction.ray(7) - 0.2 * Direction.ray(8)


@pytest.mark.parametrize("space", [Gaussian(), LowRank(rank=2)], ids=["gaussian", "low rank"])
def test_the_derivative_is_the_limit_of_the_projected_gradient_and_that_of_backpropagation(space):
    problem = Problem(torch.float64)
    batch = problem.batch
    problem.batch = lambda *which: (batch(*which)[0], batch(*which)[1].double())
    loss = problem.loss
    oracle = Oracle(make_slots(problem.parameters.items()), space)

    def closure():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            return loss(0)

    oracle.begin(closure)
    slope = oracle.jvp(U)
    errors = [abs(central_difference(oracle, U, eps) - slope) for eps in (1e-3, 1e-4)]
    oracle.settle()
    assert errors[1] < 1e-6
    assert errors[1] < errors[0] / 50  # O(ε²)
    for p in problem.parameters.values():
        p.requires_grad_(True)
    oracle.begin(closure)
    oracle.backward()
    exact = sum(float((slot.param.grad * space.estimate(slot, U)).sum()) for slot in oracle.slots)
    assert slope == pytest.approx(exact, rel=1e-12)


def test_it_counts_three_forward_passes_and_shows_the_loss_and_the_slope():
    problem = Problem()
    oracle = Oracle(make_slots(problem.parameters.items()), Gaussian())
    oracle.begin(lambda: problem.loss(0))
    slope = oracle.jvp(U)
    assert oracle.forwards == 3
    assert oracle.seen == [float(problem.loss(0)), slope]
    assert oracle.mean_loss == float(problem.loss(0))


@pytest.mark.parametrize("name", ["opt", "gpt2", "llama", "gemma2"])
def test_a_language_model_has_derivatives_by_forward_mode(name):
    model = build(name, dtype=torch.float64)
    objective = Objective(model, None, matrix.CLASSIFICATION)
    oracle = Oracle(make_slots(model.named_parameters()), Gaussian(), "exact")

    def closure():
        total, weight = objective.loss_sum(matrix.BATCHES[0])
        return total / weight

    oracle.begin(closure)
    u = Direction.ray(7)
    slope, difference = oracle.jvp(u), central_difference(oracle, u, 1e-4)
    assert slope == pytest.approx(difference, rel=1e-3, abs=1e-4)


def test_what_has_no_forward_mode_is_said_in_a_line():
    class NoFormula(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum()

    weight = torch.ones(3)
    method = ForwardGradient([("w", weight)], lr=0.1)
    with pytest.raises(RuntimeError, match=r"the loss has no derivative by forward mode: .* take a central difference"):
        method.step(lambda: NoFormula.apply(weight * 1.0))
    assert torch.equal(weight, torch.ones(3))


def test_a_weight_that_is_read_by_other_means_is_named():
    weight = torch.ones(3)
    view, method = weight.view(3), ForwardGradient([("w", weight)], lr=0.1)
    with pytest.raises(RuntimeError, match="w: the loss does not read it by torch functions"):
        method.step(lambda: view.sum())
