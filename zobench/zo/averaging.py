"""Update rules around another rule: per-tensor norm clipping before it, primal averaging after it."""

import torch
from torch import Tensor

from zobench.zo.rules import State, UpdateRule
from zobench.zo.slot import Slot


class ClipNorm(UpdateRule):
    """``g_l ← g_l · min(1, clip / ‖g_l‖)`` for each tensor by itself, then ``rule``. No state."""

    elementwise = False

    def __init__(self, rule: UpdateRule, clip: float):
        if not clip > 0:
            raise ValueError(f"clip={clip}: must be positive")
        self.rule, self.clip = rule, clip

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        factor = (self.clip / torch.linalg.vector_norm(estimate)).clamp(max=1.0)
        return self.rule(slot, estimate * factor, state, step)


class PrimalAveraging(UpdateRule):
    """``c ← c − lr·rule(g)``, ``x ← c/β + (1 − 1/β) x`` with ``β = 1 + t/averaging``: the weights x are averages of c.

    The gradient is to be measured at ``y = c/β + (1 − 1/β) x``, which is the weights minus ``lr · weight(t) · lag``.
    Instead of c the rule holds ``lag = (x − c) / lr``: one tensor per slot, small where c and x are close, so that
    half-precision weights do not lose it. At a constant learning rate the two forms are the same; otherwise, this
    one moves c with the rate.
    """

    def __init__(self, rule: UpdateRule, averaging: float):
        if not averaging > 0:
            raise ValueError(f"averaging={averaging}: must be positive")
        self.rule, self.averaging = rule, averaging
        self.elementwise = rule.elementwise

    def weight(self, step: int) -> float:
        """``1/β`` of a step."""
        return self.averaging / (self.averaging + step)

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        moved = self.rule(slot, estimate, state, step)
        if "lag" in state:
            moved = moved + state["lag"]
        state["lag"] = moved * (1.0 - self.weight(step))
        return moved * self.weight(step)
