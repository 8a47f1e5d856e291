"""Update rules in core space: the memory of momentum or Adam has a core's shape, and the step is a core that is lifted.

On a slot where directions are ``lift(core)``, an estimate is the lift of the sum of its cores. A rule may work on that
sum: for r × r cores of an m × n matrix, momentum then takes r² numbers instead of m n. A linear rule makes the same
step either way for as long as the lift stays; an element-wise one (Adam) is another algorithm. Where the lift is
renewed, the perturbation's ``transport`` carries over what the memory holds.
"""

import torch
from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.perturbation import Perturbation
from zobench.zo.rules import State, UpdateRule
from zobench.zo.slot import Slot, sum_dtype

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

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        return self.rule(slot, estimate, state, step)

    def unmeasured(self, slot: Slot, nothing: Tensor, state: State, step: int) -> Tensor:
        return self.rule.unmeasured(slot, nothing, state, step)


def core_step(
    rule: UpdateRule, perturbation: Perturbation, slot: Slot, estimate: Direction, state: State, step: int
) -> Tensor:
    """The step of a rule in core space, as a core; its state is carried to the present lift first."""
    core = perturbation.core(slot, estimate)
    _carry(rule, perturbation, slot, core, state)
    make = rule if perturbation.reaches(slot, estimate) else rule.unmeasured
    return make(slot, core, state, step)


def descend_core(perturbation: Perturbation, slot: Slot, core: Tensor, lr: float, keep: float) -> None:
    """``θ ← keep·θ − lr·lift(core)`` on one slot, summed in fp32 (fp64 for fp64 weights) and rounded once."""
    total = slot.param.to(sum_dtype(slot.param), copy=True, memory_format=torch.contiguous_format).mul_(keep)
    perturbation.add_(slot, core, total, -lr)
    slot.param.copy_(total)


def _carry(rule: UpdateRule, perturbation: Perturbation, slot: Slot, core: Tensor, state: State) -> None:
    """Bring a slot's state to the present lift, where that is another one than at the last step.

    What is linear in the estimates is transported. The rest (Adam's mean of squares) stays as it is; its mean fills the
    new shape where cores have another one.
    """
    now, since = perturbation.refreshes(slot), int(state.pop(REFRESHES, torch.zeros(())))
    for name in list(state) if now != since else ():
        if name in rule.linear_state:
            state[name] = perturbation.transport(slot, state[name], since)
        elif state[name].shape != core.shape:
            state[name] = state[name].mean().expand(core.shape).clone()
    state[REFRESHES] = torch.tensor(now)
