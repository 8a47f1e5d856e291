"""Whether a loss may be computed at several offsets in one forward pass: tried once, with an offset that shows."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from zobench.zo.direction import ZERO, Direction
from zobench.zo.shifted import ShiftedWeights
from zobench.zo.side import NotStackable

#: how much larger the offset is than one that a step measures
EXAGGERATED = 64.0
#: what the losses may differ by, as a share of the loss and of the difference that the offset makes
SHARE = {torch.float64: 1e-9, torch.float32: 1e-4}


@torch.inference_mode()
def stacks(context: ShiftedWeights, losses: Callable[[int], Tensor], offset: Direction) -> bool:
    """Whether one forward pass of two groups of rows gives the losses of two forward passes.

    A model may gather rows in an order of its own, as mixtures of experts do, or read weights by other means than
    torch functions. Three forward passes of one group or two; they are a check and nobody's measurement.

    Args:
        context: shows all slots (``Placement.stackable``).
        losses: ``losses(copies)`` of a batch, repeated so many times, copy after copy: one loss per copy.
        offset: of a step, not ``ZERO``; it is made ``EXAGGERATED`` times larger.
    """
    far = offset * EXAGGERATED
    try:
        with context.at(ZERO, far):
            together = [float(x) for x in losses(2)]
            read = context.seen == {slot.index for slot in context.slots}
    except NotStackable:
        return False
    alone = [float(losses(1)[0])]
    with context.at(far):
        alone.append(float(losses(1)[0]))
    if not read or not all(map(math.isfinite, (*together, *alone))):
        return False
    share = max(SHARE.get(slot.param.dtype, 2e-2) for slot in context.slots)
    allowed = share * (abs(alone[0]) + abs(alone[1] - alone[0]))
    return all(abs(a - b) <= allowed for a, b in zip(together, alone, strict=True))
