"""Directions by their definition, one draw after another: what the passes that do the same faster are held to."""

from torch import Tensor

from zobench.zo import Direction, Perturbation, Slot
from zobench.zo.slot import sum_dtype


def moved(perturbation: Perturbation, slot: Slot, direction: Direction, keep: float = 1.0) -> Tensor:
    """``keep·θ + Σ w_k lift(draw(k))``, rounded once to the weights' dtype."""
    total = slot.param.to(sum_dtype(slot.param), copy=True).contiguous()
    if keep != 1.0:
        total.mul_(keep)
    for key, weight in perturbation.local(slot, direction).items():
        perturbation.add_(slot, perturbation.draw(slot, key), total, weight)
    return total.to(slot.param.dtype)
