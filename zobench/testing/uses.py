"""The contracts of what a method asks of the core beyond losses: sums of cores, factors, masks."""

import torch

from zobench.testing.cases import Case
from zobench.testing.evidence import Broken, estimates_of
from zobench.testing.problem import Problem
from zobench.zo import ZERO
from zobench.zo.slot import pick


def cores(case: Case) -> None:
    """The lift of a direction's summed core is the direction, and where no draw reaches, the core is 0 of its shape."""
    problem = Problem(torch.float64, case.device)
    method = case.method(problem)
    problem.train(method, 3)
    space = method.perturbation
    direction = 0.7 * method.direction() - 0.4 * method.direction(1) + 0.0 * method.direction(2)
    for slot in method.slots:
        core, nothing = space.core(slot, direction), space.core(slot, ZERO)
        lifted = torch.zeros_like(slot.param)
        space.add_(slot, core, lifted, 1.0)
        expected = space.estimate(slot, direction)
        if not torch.allclose(lifted, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max())):
            raise Broken(
                f"{slot.name}: add_() of core() is not the direction that estimate() gives, so rules in core space "
                "would step elsewhere: core() is the sum of w_k draw(k), and add_() is linear in it"
            )
        if nothing.shape != core.shape or bool(nothing.any()):
            raise Broken(
                f"{slot.name}: core() of no draw is {tuple(nothing.shape)}, expected zeros {tuple(core.shape)}"
            )
        if space.dense(slot) and not torch.equal(core, expected):
            raise Broken(f"{slot.name}: dense() says that a core is the tensor itself, and core() is not estimate()")


def factors(case: Case) -> None:
    """Where a matrix's directions have factors, these are the direction, of the rank that is said."""
    problem = Problem(torch.float64, case.device)
    method = case.method(problem)
    problem.train(method, 3)
    space = method.perturbation
    direction = 0.7 * method.direction() - 0.4 * method.direction(1)
    for slot in method.slots:
        local, rank = space.local(slot, direction).nonzero(), space.factor_rank(slot)
        if slot.param.ndim != 2 or rank is None or not local:
            continue
        own, expected = space.factors(slot, local), space.estimate(slot, direction)
        if own is None or not torch.allclose(own.U @ own.V.T, expected, rtol=0, atol=1e-9 * float(expected.norm())):
            raise Broken(
                f"{slot.name}: the product of factors() is not the direction that estimate() gives, so losses would be "
                "those of another one: give both factors of the whole sum, or let factor_rank() be None"
            )
        largest = space.largest_factor_rank(slot)
        if own.rank > rank * len(local) or largest is None or largest < rank:
            raise Broken(f"{slot.name}: factors of rank {own.rank}; factor_rank() is {rank}, the largest is {largest}")


def masks(case: Case) -> None:
    """Outside its support a direction is 0, whole and in parts, and steps of linear rules leave the weights' bits."""
    problem = Problem(device=case.device)
    method = case.method(problem)
    space = method.perturbation
    problem.train(method, 2)
    for slot, estimate in zip(method.slots, estimates_of(method, method.direction()), strict=True):
        support = space.support(slot)
        if support is not None and bool(estimate[~support].any()):
            raise Broken(f"{slot.name}: a direction is not 0 outside support(): draw and lift under the mask alone")
        for rows in space.parts(slot) if support is None else (slice(1, 3), torch.tensor([3, 0])):
            part = space.support(slot, rows)
            if support is not None and (part is None or not torch.equal(part, pick(support, rows))):
                raise Broken(f"{slot.name}: support() of some rows is not that of the whole in these rows")
    before = problem.copy()
    problem.train(method, 1)
    for slot in method.slots if method.rule.linear and not method.weight_decay else ():
        support = space.support(slot)
        if support is not None and not torch.equal(slot.param[~support], before[slot.name][~support]):
            raise Broken(
                f"{slot.name}: a step moved weights outside the mask that it drew under: make the mask in begin(), "
                "from weights that have not moved yet, and keep it for the step"
            )
