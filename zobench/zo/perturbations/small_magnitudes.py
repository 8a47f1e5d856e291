"""Directions that move the weights of small magnitude alone: those below a threshold that is fixed before training."""

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import within
from zobench.zo.independent import Gaussian
from zobench.zo.perturbations.masked import Masked
from zobench.zo.slot import Slot

#: bits of a magnitude that one pass over a tensor tells apart
_DIGIT = 16


class SmallMagnitudes(Masked):
    """``u = m ∘ z`` with ``z ~ N(0, I)`` and ``m = 1{|θ| ≤ h}``, where each tensor has its own threshold h.

    h is the magnitude below which a share ``density`` of the tensor's weights lies at the first step, and stays. Where
    it is 0, as in LoRA's B, which starts at 0, there are no small weights to tell from large ones: all of it moves.

    State: one bit per weight of the tensors that have a mask, and a number each.

    Args:
        density: the share of the weights that move.
        mask_vectors: biases and norms have a mask, too; else all of them moves.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(self, *, density: float = 0.25, mask_vectors: bool = False):
        within("(0, 1]", density=density)
        super().__init__(Gaussian(), self.small)
        self.density, self.mask_vectors = density, mask_vectors
        self.thresholds: dict[str, float] = {}

    def small(self, slot: Slot) -> Tensor | None:
        """The mask of a slot, made from its weights as they are; None where all of it moves."""
        if slot.kind == "vector" and not self.mask_vectors:
            return None
        if slot.name not in self.thresholds:
            count = max(1, round(self.density * slot.param.numel()))
            self.thresholds[slot.name] = kth_magnitude(slot.param, count)
        h = self.thresholds[slot.name]
        return (slot.param <= h) & (slot.param >= -h) if h > 0 else None

    def state_dict(self) -> dict[str, Tensor | int | float]:
        return super().state_dict() | {f"threshold.{name}": h for name, h in self.thresholds.items()}

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        heads = ((*key.partition("threshold."), value) for key, value in state.items())
        self.thresholds = {name: float(value) for _, head, name, value in heads if head}


def kth_magnitude(tensor: Tensor, k: int) -> float:
    """The k-th smallest magnitude of a tensor's numbers, exactly, in memory that does not grow with the tensor.

    Numbers that are not negative are in the order of their bits: each pass counts the next digit of those that share
    the digits found so far.

    >>> kth_magnitude(torch.tensor([0.5, -0.1, 3.0, -2.0]), 3)
    2.0

    Args:
        k: from 1.
    """
    floats, bits, size = (
        (torch.float64, torch.int64, 64) if tensor.dtype == torch.float64 else (torch.float32, torch.int32, 32)
    )
    found = 0
    for shift in range(size - _DIGIT, -1, -_DIGIT):
        counts = torch.zeros(1 << _DIGIT, dtype=torch.int64, device=tensor.device)
        for block in noise.blocks(tensor.detach().reshape(-1)):
            digits = block.to(floats).abs().view(bits)
            digits = digits[digits >> shift + _DIGIT == found] if found or shift + _DIGIT < size else digits
            counts += torch.bincount(digits >> shift & (1 << _DIGIT) - 1, minlength=1 << _DIGIT)
        below = counts.cumsum(0)
        digit = int((below < k).sum())
        k -= int(below[digit - 1]) if digit else 0
        found = found << _DIGIT | digit
    return float(torch.tensor(found, dtype=bits).view(floats))
