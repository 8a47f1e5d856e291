"""A key that stands for a tensor held elsewhere, so that a direction may lead to a stored point."""

from collections.abc import Callable, Collection

from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.keys import tag
from zobench.zo.perturbation import Perturbation
from zobench.zo.perturbations.wrapper import Wrapper
from zobench.zo.slot import Rows, Slot, pick

_KEY = tag("stored")


class Stored(Wrapper):
    """The base's directions and one more, ``Stored.ray``, whose tensor for a slot is ``lookup(slot)``.

    The tensors belong to whoever holds them and may change only while the weights stand at θ. State: the base's.

    Args:
        base: the distribution of all other directions.
        lookup: gives a slot's tensor, of its shape, or None for zero.
    """

    ray = Direction.ray(_KEY)

    def __init__(self, base: Perturbation, lookup: Callable[[Slot], Tensor | None]):
        super().__init__(base)
        self.lookup = lookup
        self.keys: Collection[int] = {_KEY}  # all that stand for held tensors

    def key(self, slot: Slot) -> int:
        """The key of a slot's tensor: one for all slots here."""
        return _KEY

    def draw(self, slot: Slot, key: int) -> Tensor:
        if key != self.key(slot):
            return self.base.estimate(slot, Direction.ray(key))
        held = self.lookup(slot)
        return slot.param.new_zeros(slot.param.shape) if held is None else held

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        out.add_(core.to(out.dtype).mul(scale))

    def factor_rank(self, slot: Slot) -> int | None:
        """None where a tensor is held: directions with it have no factors."""
        return super().factor_rank(slot) if self.lookup(slot) is None else None

    def inner(self, slot: Slot, direction: Direction) -> Direction:
        return Direction({key: weight for key, weight in direction.items() if key not in self.keys})

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        super().accumulate_(slot, direction, total, rows)
        held = self.lookup(slot) if (key := self.key(slot)) in direction else None
        if held is not None:
            total.add_(pick(held, rows).to(total.dtype).mul(direction[key]))

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        write_ = Perturbation.write_ if self.key(slot) in direction else Wrapper.write_
        write_(self, slot, direction, out, keep, rows)
