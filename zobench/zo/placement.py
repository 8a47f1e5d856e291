"""Which of the slots an oracle moves to an offset, and which it lets functions see there."""

from collections.abc import Collection, Sequence
from typing import Literal

from zobench.zo.perturbation import Perturbation
from zobench.zo.shifted import ShiftedWeights
from zobench.zo.slot import Slot

Mode = Literal["in_place", "exact"]

#: numbers of an embedding from which on its rows are drawn as they are looked up; below, watching costs more
TABLE = 1 << 20


class Placement:
    """Slots in ``shown``, by index, are seen by ``shifted`` and stay where they are; the others are moved.

    Args:
        missed: names of the slots that the first look does not ask for, where that is known; None to find out.
    """

    def __init__(
        self, slots: Sequence[Slot], perturbation: Perturbation, mode: Mode, missed: Collection[str] | None = None
    ):
        self.mode = mode
        shown = [s for s in slots if mode == "exact" or (_is_table(s) and perturbation.splits(s))]
        self.shifted = ShiftedWeights([s for s in shown if s.name not in (missed or ())], perturbation)
        self._looked = missed is not None

    @property
    def shown(self) -> set[int]:
        return {slot.index for slot in self.shifted.slots}

    def serve(self, perturbation: Perturbation, mode: Mode) -> bool:
        """Whether they are made for these."""
        return self.shifted.perturbation is perturbation and self.mode == mode

    def missed(self) -> list[Slot] | None:
        """After the first look: the slots that it did not ask for; they are to be moved from now on. Else None."""
        if self._looked:
            return None
        self._looked = True
        slots, seen = self.shifted.slots, self.shifted.seen
        self.shifted = ShiftedWeights([slot for slot in slots if slot.index in seen], self.shifted.perturbation)
        return [slot for slot in slots if slot.index not in seen]


def _is_table(slot: Slot) -> bool:
    return slot.kind == "embedding" and slot.param.numel() >= TABLE
