"""Which slots an oracle moves to an offset, and which stay where they are and are only shown there.

A loss at ``θ + offset`` can be had in two ways: the offset is added to the weights, and later taken away; or the
weights stay and the functions that read them are handed shifted values (``shifted.py``). The first is cheaper for most
tensors. The second costs no rounding, and is cheaper for a large embedding, of which a batch reads a few rows, and
where a direction has factors and few rows are computed: it is then seen by them, and nothing is shifted (``side.py``).
"""

from collections.abc import Collection, Sequence
from typing import Literal

import torch

from zobench.zo.perturbation import Perturbation
from zobench.zo.shifted import ShiftedWeights
from zobench.zo.slot import Slot

Mode = Literal["in_place", "exact"]

#: numbers of an embedding from which on its rows are drawn as they are looked up; below, watching costs more
TABLE = 1 << 20
#: the side path is taken for T rows and an m × n matrix where ``T (m + n) <= c m n``: it costs that many numbers read
#: and written, and r times as many multiplications; moving costs ``1.5 m n``, there, on and back in two evaluations.
#: In half precision moving also rounds, each time anew, what the side path does not.
SIDE, SIDE_HALF = 6.0, 16.0


class Placement:
    """The slots of an oracle in two groups: those that are shown at an offset, and the others, which are moved there.

    In exact mode all slots are shown. In ``in_place`` mode it is the large embeddings, the matrices whose directions
    have factors, and beside such matrices the vectors. Which matrices have factors is asked of the perturbation anew
    for each evaluation. Two kinds of slots are moved although they could be shown (``missed``): those that the loss
    reads by other means than torch functions of its own thread, as the first evaluation tells, and matrices with
    factors of which moving is cheaper.

    Args:
        slots: all of the oracle's slots.
        perturbation: what the offsets are drawn from.
        mode: how the oracle perturbs, ``in_place`` or ``exact``.
        missed: names of the slots that are moved, where an earlier run found out; None to find out.
        rows: the token rows of one evaluation, the T of the cost rule; None where it is not known, then few.

    Attributes:
        shifted: the context in which functions see the shown slots at an offset.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        perturbation: Perturbation,
        mode: Mode,
        missed: Collection[str] | None = None,
        rows: int | None = None,
    ):
        self.slots, self.perturbation, self.mode = slots, perturbation, mode
        self._factored = {
            s.index for s in slots if s.param.ndim == 2 and perturbation.largest_factor_rank(s) is not None
        }
        dear = {s.index for s in slots if s.index in self._factored and rows is not None and not _pays(s, rows)}
        self._thin = self._factored - dear
        if missed is not None:
            self._moved = {s.index for s in slots if s.name in missed}
        else:
            self._moved = dear if mode == "in_place" else set()
        self._tried = missed is not None
        self.shifted = ShiftedWeights([], perturbation, self._thin)
        self.look()
        if not self._tried:
            self.shifted.watched = [s for s in slots if s.index not in self.shown | self._moved and self._may_show(s)]

    @property
    def shown(self) -> set[int]:
        """Indices of the slots that stay where they are."""
        return {slot.index for slot in self.shifted.slots}

    @property
    def evaluation(self) -> str:
        """How the last offsets were evaluated: ``exact`` or ``walk``, ``side``, or ``side and walk`` and the like.

        ``walk`` is there when a matrix or an embedding is moved, ``exact`` where one is shown by shifted values.
        """
        thin = {
            s.index
            for s in self.shifted.slots
            if s.index in self._thin and self.perturbation.factor_rank(s) is not None
        }
        others = [s for s in self.slots if s.param.ndim > 1 and s.index not in thin]
        words = ["side"] if thin else []
        if self.mode == "in_place" and (not thin or any(s.index not in self.shown for s in others)):
            words.append("walk")
        elif self.mode == "exact" and (others or not thin):
            words.append("exact")
        return " and ".join(words)

    def is_for(self, perturbation: Perturbation, mode: Mode) -> bool:
        """Whether this placement was made for the given perturbation and mode."""
        return self.perturbation is perturbation and self.mode == mode

    def look(self) -> bool:
        """Ask the perturbation anew which slots have factors, while the weights are at θ.

        Returns:
            Whether other slots than before are shown.
        """
        shown = [slot for slot in self._wanted() if slot.index not in self._moved]
        if [s.index for s in shown] == [s.index for s in self.shifted.slots]:
            return False
        self.shifted.slots = shown
        return True

    def stackable(self) -> ShiftedWeights | None:
        """The context that shows every slot, for several offsets at once; None where a slot has to be moved.

        Every matrix must have factors now, whatever the cost rule says, and every other slot must be a vector. The
        weights are to be at θ. Whether the loss reads all slots, in the order of groups, ``stacking.py`` finds out.
        """
        for slot in self.slots:
            if slot.param.ndim > 1 and (slot.param.ndim > 2 or self.perturbation.factor_rank(slot) is None):
                return None
        return ShiftedWeights(self.slots, self.perturbation)

    def missed(self) -> list[Slot] | None:
        """The slots that could be shown and are moved from now on.

        Returns:
            Those that the evaluation did not read by torch functions, when called after the first one at an offset;
            None at every later call.
        """
        if self._tried:
            return None
        self._tried = True
        candidates, self.shifted.watched = (*self.shifted.slots, *self.shifted.watched), ()
        unread = [slot for slot in candidates if slot.index not in self.shifted.seen]
        self._moved = self._moved | {slot.index for slot in unread}
        return unread

    @property
    def moved(self) -> list[str]:
        """Names of the slots that could be shown and are moved, as far as is known."""
        return [slot.name for slot in self.slots if slot.index in self._moved]

    def _may_show(self, slot: Slot) -> bool:
        """Whether a slot may come to be shown in ``in_place`` mode when the perturbation has another state."""
        return slot.index in self._factored or (bool(self._factored) and slot.param.ndim < 2)

    def _wanted(self) -> list[Slot]:
        """The slots to be shown, as far as nothing speaks against it."""
        if self.mode == "exact":
            return list(self.slots)
        thin = {
            s.index
            for s in self.slots
            if s.index in self._factored and s.index not in self._moved and self.perturbation.factor_rank(s) is not None
        }
        return [
            s
            for s in self.slots
            if s.index in thin
            or (_is_large_table(s) and self.perturbation.splits(s))
            or (bool(thin) and s.param.ndim < 2)
        ]


def walked_matrices(slots: Sequence[Slot], perturbation: Perturbation) -> list[str]:
    """Names of the matrices that a walk moves where no matrix is seen by its factors, though these have some."""
    return [
        s.name
        for s in slots
        if s.param.ndim == 2
        and perturbation.largest_factor_rank(s) is not None
        and not (_is_large_table(s) and perturbation.splits(s))
    ]


def _is_large_table(slot: Slot) -> bool:
    return slot.kind == "embedding" and slot.param.numel() >= TABLE


def _pays(slot: Slot, rows: int) -> bool:
    """Whether the side path is cheaper than moving a matrix, or loses less."""
    if slot.kind == "embedding":  # rows of it are looked up
        return True
    m, n = slot.param.shape
    half = slot.param.dtype in (torch.bfloat16, torch.float16)
    return rows * (m + n) <= (SIDE_HALF if half else SIDE) * m * n
