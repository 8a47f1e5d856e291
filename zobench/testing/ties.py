"""The contract of flat losses: a slope of 0 that was measured is not one that was never measured.

In half precision two losses are often the same number. Whatever has a memory must then move it as it would for a slope
next to 0: momentum decays, scores fall, and so does weight decay its work.
"""

import math
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import SkipTest

import torch
from torch import Tensor

from zobench.config import instantiate
from zobench.record import checkpoint
from zobench.testing.cases import Case
from zobench.testing.evidence import Broken, same_state, same_weights
from zobench.testing.problem import Problem, StepLoss
from zobench.zo import Jaguar, Method, Sign, UpdateRule
from zobench.zo.method import StateDict
from zobench.zo.spectral import Spectral

#: by how much one loss of a nearly flat step exceeds the one before, and what of the state may hang on it
RISE, ALLOWED = 1e-13, 1e-6


def ties(case: Case) -> None:
    """Where all losses of a step tie, weights, state and the keys of the estimate are those of slopes next to 0."""
    flat, near, other = (Problem(torch.float64, case.device) for _ in range(3))
    tied, rising, again = (_made(case, problem) for problem in (flat, near, other))
    if not tied.trains or tied.backwards_per_step:
        raise SkipTest("makes no zeroth-order estimates")
    for problem, method, rise in ((flat, tied, 0.0), (near, rising, RISE)):
        problem.train(method, 4)
        level = _level(problem, method, rise)
        method.oracle.further = lambda first, count, level=level: level
        method.step(level)
    if tied.applied is None or rising.applied is None or set(tied.applied) != set(rising.applied):
        raise Broken(
            "a step whose losses tie handed apply() other keys than one whose losses hardly differ: keep the keys of "
            "weight 0, which were measured (0.0 * u has them), and do not leave out what is 0"
        )
    if tied.normalises and any(tied.applied.values()):
        raise Broken("a step whose losses tie moves along its directions: what it divides by is 0, so weigh them by 0")
    if not tied.normalises and not _has(tied.rule, (Sign, Jaguar, Spectral)):  # whose steps jump at 0
        _close({**flat.copy()}, {**near.copy()}, "the weights")
    if not tied.normalises and not _has(tied.rule, (Sign, Spectral)):
        _close(tied.state_dict(), rising.state_dict(), "the state")
    with TemporaryDirectory() as folder:
        checkpoint.save_snapshot(Path(folder), tied.slots, tied.state_dict())
        snapshot = checkpoint.load_snapshot(Path(folder), tied.t)
    assert snapshot is not None
    checkpoint.restore(again.slots, snapshot.weights)
    again.load_state_dict(snapshot.method)
    for problem, method in ((flat, tied), (other, again)):
        problem.train(method, 2)
    what, hint = "gone on from a step whose losses tie", "keys of weight 0 belong into state_dict(), too"
    same_weights(flat.parameters, other.parameters, what, hint)
    same_state(tied.state_dict(), again.state_dict(), what, "the run that never stopped")


def _level(problem: Problem, method: Method, rise: float) -> StepLoss:
    """A loss of 1 that reads the weights, and rises a little with every evaluation."""
    seen = count()

    def level(losses: Tensor) -> Tensor:
        order = [next(seen) for _ in range(len(losses) if losses.ndim else 1)]  # a forward pass may have several
        rises = losses.new_tensor(order, dtype=torch.float64).mul(rise).add(1.0)
        return losses.double() * 0 + rises.view(losses.shape[:1] + (1,) * (losses.ndim - 1))

    return StepLoss(problem, method.t, level)


def _made(case: Case, problem: Problem) -> Method:
    """The method, with weight decay where the case sets none."""
    known = instantiate.keyword_arguments(instantiate.locate(case.node["_target_"], "method"))
    free = known.get("weight_decay") is not None and case.node.get("weight_decay") == 0.0
    return case.method(problem, **({"weight_decay": 0.1} if free else {}))


def _has(rule: UpdateRule, kinds: tuple[type[UpdateRule], ...]) -> bool:
    """Whether a rule, or the one within, is of some kinds."""
    return isinstance(rule, kinds) or (hasattr(rule, "rule") and _has(rule.rule, kinds))


def _close(tied: StateDict, rising: StateDict, what: str) -> None:
    """Raise Broken where two sets of numbers differ, but for the slopes themselves, which a state may hold."""
    for name, value in tied.items():
        if name.startswith(("perturbation.weight.", "perturbation.observed.")):
            continue
        off = float((torch.as_tensor(value) - torch.as_tensor(rising.get(name, math.nan))).abs().max())
        if not off <= ALLOWED:
            raise Broken(
                f"{name}: where all losses of a step tie, {what} end {off:.1e} from where slopes next to 0 bring them; "
                "an estimate of weight 0 was measured: do not skip what a step does because its slope is 0"
            )
