"""Update rules in core space: the memory of momentum or Adam has a core's shape, and the step is a core that is lifted.

On a slot where directions are ``lift(core)``, an estimate is the lift of the sum of its cores. A rule may work on that
sum: for r × r cores of an m × n matrix, momentum then takes r² numbers instead of m n. A linear rule makes the same
step either way for as long as the lift stays; an element-wise one (Adam) is another algorithm. Where the lift is
renewed, the perturbation's ``transport`` carries over what the memory holds.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.perturbation import Perturbation
from zobench.zo.rules import Adam, State, UpdateRule
from zobench.zo.slot import Slot, pick, sum_dtype

#: of a rule's state: the refreshes of the slot's lift when the state was last used
REFRESHES = "refreshes"


class CoreSpace(UpdateRule):
    """Another rule in core space; on slots whose core is the tensor itself (``Perturbation.dense``) it is that rule.

    LOZO-M (arXiv:2410.07698) is momentum in core space with LOZO's transport, SubZero+ (arXiv:2608.15665) Adam without
    one. State: that of the rule, of the shape of cores, and a number per slot that counts refreshes.

    Args:
        rule: what it does in core space.

    Example:
        >>> from zobench.zo import Momentum
        >>> rule = CoreSpace(rule=Momentum(beta=0.9))
        >>> rule.space, rule.linear, rule.linear_state
        ('core', False, ('m',))
    """

    space = "core"

    def __init__(self, *, rule: UpdateRule):
        self.rule = rule
        self.linear, self.elementwise, self.linear_state = rule.linear, rule.elementwise, rule.linear_state
        self.lift_state = rule.lift_state

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        return self.rule(slot, estimate, state, step)

    def unmeasured(self, slot: Slot, nothing: Tensor, state: State, step: int) -> Tensor:
        return self.rule.unmeasured(slot, nothing, state, step)


class LiftedAdam(Adam):
    """Adam whose moments are cores and whose division is made in the weights' space: TeZO-Adam's (arXiv:2501.19057).

    ``M ← β₁M + (1−β₁)c``, ``S ← β₂S + (1−β₂)c²`` of the estimate's core c; step ``lift(M) / √(lift²(S) + eps)``, where
    ``lift²`` has the squares of the lift's coefficients (``Perturbation.lifted_variances``). No bias correction. The
    step leaves the space of the lifts. State: two cores per slot.

    Args:
        perturbation: whose cores and lifts they are.
        beta1: decay of M.
        beta2: decay of S.
        eps: keeps the divisor off 0.

    Raises:
        ValueError: for an argument out of range.
    """

    space, lifts = "core", True

    def __init__(self, perturbation: Perturbation, *, beta1: float = 0.9, beta2: float = 0.99, eps: float = 1e-8):
        super().__init__(beta1=beta1, beta2=beta2, eps=eps)
        self.perturbation = perturbation

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        m, v = self.moments(estimate, state)
        if self.perturbation.dense(slot):
            return m / (v + self.eps).sqrt_()
        out = torch.zeros(slot.param.shape, dtype=estimate.dtype, device=estimate.device)
        self.perturbation.add_(slot, m, out, 1.0)
        for rows, variances in self.perturbation.lifted_variances(slot, v):
            pick(out, rows).div_(variances.add_(self.eps).sqrt_())
        return out


class Lifted(NamedTuple):
    """The step of a rule in core space that is of the slot's shape already."""

    tensor: Tensor


def core_step(
    rule: UpdateRule, perturbation: Perturbation, slot: Slot, estimate: Direction, state: State, step: int
) -> Tensor | Lifted:
    """The step of a rule in core space, as a core unless the rule lifts; first its state is carried to this lift."""
    core = perturbation.core(slot, estimate)
    now, since = perturbation.refreshes(slot), int(state.pop(REFRESHES, torch.zeros(())))
    if now != since:
        _carry(rule, perturbation, slot, core.shape, state, since)
    state[REFRESHES] = torch.tensor(now)
    make = rule if perturbation.reaches(slot, estimate) else rule.unmeasured
    made = make(slot, core, state, step)
    return Lifted(made) if rule.lifts else made


def descend_core(perturbation: Perturbation, slot: Slot, step: Tensor | Lifted, lr: float, keep: float) -> None:
    """``θ ← keep·θ − lr·lift(step)`` on one slot, summed in fp32 (fp64 for fp64 weights) and rounded once."""
    total = slot.param.to(sum_dtype(slot.param), copy=True, memory_format=torch.contiguous_format).mul_(keep)
    if isinstance(step, Lifted):
        total.sub_(step.tensor, alpha=lr)
    else:
        perturbation.add_(slot, step, total, -lr)
    slot.param.copy_(total)


def leave_core(rule: UpdateRule, perturbation: Perturbation, slot: Slot, state: State) -> None:
    """Carry the state of a slot whose lift has become the identity, where its last step was in core space."""
    if (since := state.pop(REFRESHES, None)) is not None:
        _carry(rule, perturbation, slot, slot.param.shape, state, int(since))


def _carry(
    rule: UpdateRule, perturbation: Perturbation, slot: Slot, shape: torch.Size, state: State, since: int
) -> None:
    """Bring a slot's state to the present lift, under which cores have this shape, from that of the last step.

    What is linear in the estimates is transported, what belongs to a lift dropped. The rest stays as it is; of an
    element-wise rule (Adam's mean of squares), its mean fills the new shape where cores have another one.
    """
    for name in list(state):
        if name in rule.linear_state:
            state[name] = perturbation.transport(slot, state[name], since)
        elif name in rule.lift_state:
            del state[name]
        elif rule.elementwise and state[name].shape != shape:
            state[name] = state[name].mean().expand(shape).clone()
