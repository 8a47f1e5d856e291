"""Which of the slots an oracle moves to an offset, and which it lets functions see there."""

from collections.abc import Sequence
from typing import Literal

from zobench.zo.perturbation import Perturbation
from zobench.zo.shifted import Shifted
from zobench.zo.slot import Slot

Mode = Literal["in_place", "exact"]

#: numbers of an embedding from which on its rows are drawn as they are looked up; below, watching costs more
TABLE = 1 << 20


class Ways:
    """Slots in ``shown``, by index, are seen by ``shifted`` and stay where they are; the others are moved."""

    def __init__(self, slots: Sequence[Slot], perturbation: Perturbation, mode: Mode):
        self.perturbation, self.mode = perturbation, mode
        shown = [s for s in slots if mode == "exact" or (_is_table(s) and perturbation.splits(s))]
        self.shown = {slot.index for slot in shown}
        self.shifted = Shifted(shown, perturbation)
        self._looked = False

    def serve(self, perturbation: Perturbation, mode: Mode) -> bool:
        """Whether they are made for these."""
        return self.perturbation is perturbation and self.mode == mode

    def missed(self) -> list[Slot]:
        """After the first look: the slots that it did not ask for; they are to be moved from now on."""
        found = [] if self._looked else [s for s in self.shifted.slots if s.index not in self.shifted.seen]
        self._looked = True
        if found:
            self.shown -= {slot.index for slot in found}
            self.shifted = Shifted([s for s in self.shifted.slots if s.index in self.shown], self.perturbation)
        return found


def _is_table(slot: Slot) -> bool:
    return slot.kind == "embedding" and slot.param.numel() >= TABLE
