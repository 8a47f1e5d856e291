"""The base of perturbations that change another one."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.factors import Factors
from zobench.zo.perturbation import Perturbation
from zobench.zo.slot import Rows, Slot


class Wrapper(Perturbation):
    """Passes everything on to another perturbation; a subclass overrides what it changes.

    Args:
        base: the other perturbation.
    """

    def __init__(self, base: Perturbation):
        self.base = base

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        self.base.begin(step, slots)

    def draw(self, slot: Slot, key: int) -> Tensor:
        return self.base.draw(slot, key)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        self.base.add_(slot, core, out, scale)

    def inner(self, slot: Slot, direction: Direction) -> Direction:
        """A direction in draws of the base; itself unless a subclass renames or drops keys."""
        return direction

    def reaches(self, slot: Slot, direction: Direction) -> bool:
        return self.base.reaches(slot, self.inner(slot, direction))

    def support(self, slot: Slot, rows: Rows = None) -> Tensor | None:
        return self.base.support(slot, rows)

    def core(self, slot: Slot, direction: Direction) -> Tensor:
        return self.base.core(slot, self.inner(slot, direction))

    def dense(self, slot: Slot) -> bool:
        return self.base.dense(slot)

    def refreshes(self, slot: Slot) -> int:
        return self.base.refreshes(slot)

    def transport(self, slot: Slot, core: Tensor, since: int) -> Tensor:
        return self.base.transport(slot, core, since)

    def keep_lifts(self, on: bool) -> None:
        self.base.keep_lifts(on)

    def lifted_variances(self, slot: Slot, variances: Tensor) -> Iterator[tuple[Rows, Tensor]]:
        return self.base.lifted_variances(slot, variances)

    def splits(self, slot: Slot) -> bool:
        return self.base.splits(slot)

    def shares(self, slot: Slot) -> bool:
        return self.base.shares(slot)

    def stepped(self, slot: Slot, rows: Rows) -> None:
        self.base.stepped(slot, rows)

    def factor_rank(self, slot: Slot) -> int | None:
        return self.base.factor_rank(slot)

    def largest_factor_rank(self, slot: Slot) -> int | None:
        return self.base.largest_factor_rank(slot)

    def factors(self, slot: Slot, direction: Direction) -> Factors | None:
        return self.base.factors(slot, self.base.local(slot, self.inner(slot, direction)))

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        self.base.accumulate_(slot, self.base.local(slot, self.inner(slot, direction)), total, rows)

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        self.base.write_(slot, self.inner(slot, direction), out, keep, rows)

    def after(self, step: int, slots: Sequence[Slot]) -> None:
        self.base.after(step, slots)

    def state_dict(self) -> dict[str, Tensor | int | float]:
        return self.base.state_dict()

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        self.base.load_state_dict(state)

    def state_bytes(self) -> int:
        return self.base.state_bytes()
