"""Which slots an oracle moves to an offset, and which stay where they are and are only shown there.

A loss at ``θ + offset`` can be had in two ways: the offset is added to the weights, and later taken away; or the
weights stay and the functions that read them are handed shifted values (``shifted.py``). The first is cheaper for most
tensors. The second costs no rounding, and is cheaper for a large embedding, of which a batch reads a few rows.
"""

from collections.abc import Collection, Sequence
from typing import Literal

from zobench.zo.perturbation import Perturbation
from zobench.zo.shifted import ShiftedWeights
from zobench.zo.slot import Slot

Mode = Literal["in_place", "exact"]

#: numbers of an embedding from which on its rows are drawn as they are looked up; below, watching costs more
TABLE = 1 << 20


class Placement:
    """The slots of an oracle in two groups: those that are shown at an offset, and the others, which are moved there.

    In exact mode all slots are shown, in ``in_place`` mode the large embeddings. A slot that the loss reads by other
    means than torch functions of its own thread cannot be shown: the first evaluation tells which (``missed``), and
    they are moved.

    Args:
        slots: all of the oracle's slots.
        perturbation: what the offsets are drawn from.
        mode: how the oracle perturbs, ``in_place`` or ``exact``.
        missed: names of the slots that cannot be shown, where an earlier run found out; None to find out.

    Attributes:
        shifted: the context in which functions see the shown slots at an offset.
    """

    def __init__(
        self, slots: Sequence[Slot], perturbation: Perturbation, mode: Mode, missed: Collection[str] | None = None
    ):
        self.mode = mode
        shown = [s for s in slots if mode == "exact" or (_is_large_table(s) and perturbation.splits(s))]
        self.shifted = ShiftedWeights([s for s in shown if s.name not in (missed or ())], perturbation)
        self._tried = missed is not None

    @property
    def shown(self) -> set[int]:
        """Indices of the slots that stay where they are."""
        return {slot.index for slot in self.shifted.slots}

    def is_for(self, perturbation: Perturbation, mode: Mode) -> bool:
        """Whether this placement was made for the given perturbation and mode."""
        return self.shifted.perturbation is perturbation and self.mode == mode

    def missed(self) -> list[Slot] | None:
        """The slots that the first evaluation did not read by torch functions: they are moved from now on.

        Returns:
            These slots, maybe none, when called after the first evaluation at an offset; None at every later call.
        """
        if self._tried:
            return None
        self._tried = True
        slots, seen = self.shifted.slots, self.shifted.seen
        self.shifted = ShiftedWeights([slot for slot in slots if slot.index in seen], self.shifted.perturbation)
        return [slot for slot in slots if slot.index not in seen]


def _is_large_table(slot: Slot) -> bool:
    return slot.kind == "embedding" and slot.param.numel() >= TABLE
