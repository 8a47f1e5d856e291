"""Directions under a mask: a choice of weights, made once a step from the weights themselves, is all that moves."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.perturbation import Perturbation
from zobench.zo.perturbations.wrapper import Wrapper
from zobench.zo.scratch import scratch
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

#: weights per byte
_BITS = 8


class Masked(Wrapper):
    """``u = m ∘ z`` with z of another distribution and a mask m of zeros and ones that stands still within a step.

    ``begin`` makes the mask from the weights before they move, and keeps it: recomputed from weights that stand at an
    offset it would be another one. It is a function of the weights, so that a replay and all processes make the same.
    Weights outside the mask keep their bits, weight decay apart. For Sparse-MeZO (arXiv:2402.15751) it is the weights
    of small magnitude.

    State: one bit per weight of the slots that have a mask.

    Args:
        base: the distribution of z; neither its lift nor its rows know of the mask.
        choose: slot → its mask, booleans of the slot's shape, or None, which moves all of it. What it hangs on besides
            the weights belongs into ``state_dict`` of a subclass.

    Example:
        >>> from zobench.zo import Gaussian, make_slots
        >>> slots = make_slots([("w", torch.tensor([[0.1, -2.0], [3.0, 0.2]]))])
        >>> space = Masked(Gaussian(), lambda slot: slot.param.abs() < 1)
        >>> space.begin(0, slots)
        >>> (space.estimate(slots[0], Direction.ray(7)) != 0).tolist()
        [[True, False], [False, True]]
    """

    def __init__(self, base: Perturbation, choose: Callable[[Slot], Tensor | None]):
        super().__init__(base)
        self.choose = choose
        self._masks: dict[int, Tensor] = {}  # of packed bits, uint8

    @torch.no_grad()
    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        super().begin(step, slots)
        self._masks = {}
        for slot in slots:
            if (chosen := self.choose(slot)) is not None:
                self._masks[slot.index] = _packed(chosen)

    def support(self, slot: Slot, rows: Rows = None) -> Tensor | None:
        mask = self._masks.get(slot.index)
        return None if mask is None else _unpacked(mask, slot, rows).view(torch.bool)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        lifted = torch.zeros_like(out)
        super().add_(slot, core, lifted, scale)
        out.add_(self._mask_(slot, lifted, None))

    def core(self, slot: Slot, direction: Direction) -> Tensor:
        return self.estimate(slot, direction) if self.dense(slot) else super().core(slot, direction)

    def reaches(self, slot: Slot, direction: Direction) -> bool:
        mask = self._masks.get(slot.index)
        return super().reaches(slot, direction) and (mask is None or bool(mask.any()))

    def factor_rank(self, slot: Slot) -> int | None:
        return None if slot.index in self._masks else super().factor_rank(slot)

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        if slot.index not in self._masks:
            super().accumulate_(slot, direction, total, rows)
            return
        lifted = scratch("masked", total, sum_dtype(slot.param)).zero_()
        super().accumulate_(slot, direction, lifted, rows)
        total.add_(self._mask_(slot, lifted, rows))

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        write_ = Perturbation.write_ if slot.index in self._masks else Wrapper.write_
        write_(self, slot, direction, out, keep, rows)

    def _mask_(self, slot: Slot, tensor: Tensor, rows: Rows) -> Tensor:
        mask = self._masks.get(slot.index)
        return tensor if mask is None else tensor.mul_(_unpacked(mask, slot, rows))

    def state_bytes(self) -> int:
        return super().state_bytes() + sum(mask.numel() for mask in self._masks.values())


def _packed(mask: Tensor) -> Tensor:
    """A boolean mask as bits, on its device."""
    flat = mask.reshape(-1).view(torch.uint8)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy(), bitorder="little"))
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % _BITS)).view(-1, _BITS)
    return (padded << _places(padded.device)).sum(1, dtype=torch.uint8)


def _unpacked(packed: Tensor, slot: Slot, rows: Rows) -> Tensor:
    """The mask of some rows of a slot, as bytes that are 0 or 1."""
    shape, width = pick(slot.param, rows).shape, slot.param[0].numel() if slot.param.ndim else 1
    if isinstance(rows, slice):  # the bytes that hold these rows, and no others
        start, stop, _ = rows.indices(len(slot.param))
        first, end = start * width, stop * width
        bits = _bits(packed[first // _BITS : -(-end // _BITS)])
        return bits[first % _BITS :][: end - first].view(shape)
    bits = _bits(packed)[: slot.param.numel()].view(slot.param.shape)
    return pick(bits, rows)


def _bits(packed: Tensor) -> Tensor:
    if packed.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(packed.numpy(), bitorder="little"))
    return ((packed[:, None] >> _places(packed.device)) & 1).reshape(-1)


def _places(device: torch.device) -> Tensor:
    return torch.arange(_BITS, dtype=torch.uint8, device=device)
