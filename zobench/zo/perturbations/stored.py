"""A key that stands for a tensor held elsewhere, so that a direction may lead to a stored point."""

from collections.abc import Callable

from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.keys import tag
from zobench.zo.perturbation import Perturbation
from zobench.zo.perturbations.wrapper import Wrapper
from zobench.zo.slot import Slot

_KEY = tag("stored")


class Stored(Wrapper):
    """The base's directions and one more, ``Stored.ray``, whose tensor for a slot is ``lookup(slot)``.

    The tensors belong to whoever holds them and may change only while the weights stand at θ.

    Args:
        base: the distribution of all other directions.
        lookup: slot → tensor of its shape, or None for zero.
    """

    ray = Direction.ray(_KEY)

    def __init__(self, base: Perturbation, lookup: Callable[[Slot], Tensor | None]):
        super().__init__(base)
        self.lookup = lookup

    def draw(self, slot: Slot, key: int) -> Tensor:
        if key != _KEY:
            return self.base.estimate(slot, Direction.ray(key))
        found = self.lookup(slot)
        return slot.param.new_zeros(slot.param.shape) if found is None else found

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        out.add_(core.to(out.dtype).mul(scale))
