"""Gaussian directions of which some read the same numbers in all tensors."""

from collections.abc import Sequence

from torch import Tensor

from zobench.zo import noise
from zobench.zo.direction import ZERO, Direction
from zobench.zo.perturbation import Perturbation
from zobench.zo.slot import Slot


class FirstStream(Perturbation):
    """Standard normal directions; a key whose lowest bit is set has the first slot's numbers in every slot.

    A generator that is seeded anew for each tensor draws so: tensors share their noise, each from the start of it, and
    in the first one alone it is that of the key without the bit. Draws are made whole. No state.

    Example:
        >>> import torch
        >>> from zobench.zo import make_slots
        >>> slots = make_slots([("a", torch.zeros(2, 3)), ("b", torch.zeros(3, 2))])
        >>> space, z = FirstStream(), FirstStream.own(Direction.ray(7))
        >>> space.begin(0, slots)
        >>> first, second = (space.estimate(slot, FirstStream.shared(z)) for slot in slots)
        >>> first.flatten().equal(second.flatten()), first.equal(space.estimate(slots[0], z))
        (True, True)
    """

    def __init__(self) -> None:
        self._first = 0

    @staticmethod
    def own(direction: Direction) -> Direction:
        """The direction of these keys that has numbers of its own in each slot."""
        return sum((Direction({key & ~1: weight}) for key, weight in direction.items()), ZERO)

    @staticmethod
    def shared(direction: Direction) -> Direction:
        """The direction of these keys whose numbers on the first slot are read by all slots."""
        return sum((Direction({key | 1: weight}) for key, weight in direction.items()), ZERO)

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        self._first = slots[0].id

    def draw(self, slot: Slot, key: int) -> Tensor:
        with noise.holding(None):  # what is held of a stream is held in the shape of one slot
            stream = self._first if key & 1 else slot.id
            return noise.gaussian(key & ~1, stream, slot.param.shape, slot.param.device)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        out.add_(core.to(out.dtype), alpha=scale)

    def dense(self, slot: Slot) -> bool:
        return True
