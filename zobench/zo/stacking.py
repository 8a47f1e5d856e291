"""Losses at several offsets from one forward pass: where that is possible, and whether a model allows it.

Which offsets share a forward pass depends on settings, batch and perturbation alone. Whether the model keeps the rows
of its batch in order, so that each group meets its own offset, is tried once, with an offset that shows.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from zobench.zo.closure import Closure, knows_batch, most_copies, stacks_of
from zobench.zo.direction import ZERO, Direction
from zobench.zo.placement import Placement
from zobench.zo.shifted import ShiftedWeights
from zobench.zo.side import NotStackable
from zobench.zo.slot import Slot

#: how much larger than one that a step measures the offset of the trial is at first, and what it then changes by
EXAGGERATED, FACTOR, TRIES = 64.0, 8.0, 8
#: what the losses may differ by, as a share of the loss and of the difference that the offset makes
SHARE = {torch.float64: 1e-9, torch.float32: 1e-4}
#: the difference shows if it is so many times larger than what the losses may differ by
SHOWS = 5.0


class Stacking:
    """How an oracle computes losses at several offsets in one forward pass, once a model was found to allow it."""

    def __init__(self) -> None:
        self._allowed: bool | None = None  # by the model; None before the trial
        self._context: ShiftedWeights | None = None  # shows all slots, where the latest offsets can be stacked

    def stacks(
        self, placement: Placement, closure: Closure, offsets: Sequence[Direction], stack_rows: int
    ) -> list[Sequence[Direction]]:
        """Consecutive offsets that may share a forward pass, whatever the model allows."""
        most = most_copies(closure, stack_rows)
        self._context = placement.stackable() if most > 1 else None
        return stacks_of(offsets, most if self._context is not None else 1)

    def losses(
        self, placement: Placement, closure: Closure, offsets: Sequence[Direction], examples: bool
    ) -> list[float] | None:
        """The losses at one of these stacks, or those of its examples, from one forward pass; None where none can be.

        A slot that is moved for one offset is moved for all: what a walk leaves in the weights must not depend on how
        losses were evaluated, of which those who replay a step know nothing.
        """
        probe = next((offset for offset in offsets if offset), None)
        if len(offsets) < 2 or probe is None or self._allowed is False or not knows_batch(closure):
            return None
        if len(placement.shown) < len(placement.slots) or (context := self._context) is None:
            return None
        if self._allowed is None:
            self._allowed = keeps_groups(context, closure.losses, probe)
        if self._allowed:
            with suppress(NotStackable), torch.inference_mode(), context.at(*offsets):
                return closure.losses(len(offsets), examples).flatten().tolist()
        return None


@torch.inference_mode()
def keeps_groups(context: ShiftedWeights, losses: Callable[[int], Tensor], offset: Direction) -> bool:
    """Whether one forward pass of two groups of rows gives the losses of two forward passes.

    A model may gather rows in an order of its own, as mixtures of experts do, or read weights by other means than
    torch functions. The offset is made so large that the loss shows it, but stays finite: without a difference between
    the groups nothing is proved. The forward passes are a check and nobody's measurement.

    Args:
        context: shows all slots (``Placement.stackable``).
        losses: ``losses(copies)`` of a batch, repeated so many times, copy after copy: one loss per copy.
        offset: of a step, not ``ZERO``.
    """

    def at(*offsets: Direction) -> list[float]:
        with context.at(*offsets):
            return [float(x) for x in losses(len(offsets))]

    def together(scale: float) -> list[float]:
        found = at(ZERO, offset * scale)
        if context.seen != {slot.index for slot in context.slots}:
            raise NotStackable("some weights are read by other means")
        return found

    still = at(ZERO)
    return agree(context.slots, together, lambda scale: still + at(offset * scale), still * 2)


def agree(
    slots: Sequence[Slot],
    together: Callable[[float], Sequence[float]],
    alone: Callable[[float], Sequence[float]],
    still: Sequence[float],
) -> bool:
    """Whether two ways to evaluate losses give the same, at offsets that are so large that the losses show them.

    Args:
        slots: whose dtypes bound how well losses agree.
        together: gives losses at offsets times a factor; may raise ``NotStackable``, which is a no.
        alone: gives them by the other way.
        still: those at the weights themselves.
    """
    share, scale, grew = max(SHARE.get(slot.param.dtype, 2e-2) for slot in slots), EXAGGERATED, False
    size = max(map(abs, still))
    for _ in range(TRIES):
        try:
            found, expected = together(scale), alone(scale)
        except NotStackable:
            return False
        finite = all(map(math.isfinite, (*found, *expected)))
        difference = max(abs(a - b) for a, b in zip(expected, still, strict=True))
        if finite and difference > SHOWS * share * size:
            allowed = share * (size + difference)
            return all(abs(a - b) <= allowed for a, b in zip(found, expected, strict=True))
        if grew and not finite:
            return False
        grew = finite
        scale *= FACTOR if finite else 1.0 / FACTOR
    return False
