"""A smoothing radius of its own for each tensor: ``r_l z_l`` is measured, ``K(r_l) z_l`` is applied."""

from collections.abc import Callable, Sequence

from torch import Tensor

from zobench.zo.direction import ZERO, Direction
from zobench.zo.perturbation import Perturbation
from zobench.zo.perturbations.smoothing import Kernel
from zobench.zo.perturbations.wrapper import Wrapper
from zobench.zo.slot import Slot, sum_dtype


class TensorRadii(Wrapper):
    """Scales the base's draw of each tensor by ``r_l``, or by ``K(r_l)``; the lowest bit of the key says which.

    ``begin`` freezes the kernel of the step. State: the base's.

    Args:
        base: the distribution of z.
        kernel_at: gives the kernel of a step.
    """

    def __init__(self, base: Perturbation, kernel_at: Callable[[int], Kernel]):
        super().__init__(base)
        self.kernel_at = kernel_at
        self.kernel = kernel_at(0)

    @staticmethod
    def pair(key: int) -> tuple[Direction, Direction]:
        """The directions ``r ⊙ z`` and ``K(r) ⊙ z`` of one key."""
        return Direction.ray(key & ~1), Direction.ray(key | 1)

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        self.kernel = self.kernel_at(step)
        super().begin(step, slots)

    def factor(self, slot: Slot, key: int) -> float:
        """The factor of a key on a slot: ``r_l``, or ``K(r_l)`` if the key's lowest bit is set."""
        r = self.kernel.radius(key & ~1, slot.id)
        return self.kernel(r) if key & 1 else r

    def inner(self, slot: Slot, direction: Direction) -> Direction:
        draws = ZERO
        for key, weight in direction.items():
            draws += Direction({key & ~1: weight * self.factor(slot, key)})
        return draws

    def draw(self, slot: Slot, key: int) -> Tensor:
        return self.base.draw(slot, key & ~1).to(sum_dtype(slot.param)).mul(self.factor(slot, key))
