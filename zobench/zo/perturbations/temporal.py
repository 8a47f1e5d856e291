"""Directions of a whole run that are one tensor of low rank: two factors drawn once, and a few numbers each."""

from collections.abc import Sequence

from zobench.zo.perturbations.bases import Basis, normal_basis
from zobench.zo.perturbations.subspace import Subspace
from zobench.zo.slot import Slot


class TemporalSubspace(Subspace):
    """Directions ``u = U diag(τ) Vᵀ`` on matrices, with Gaussian U (m × r), V (n × r), τ; a Gaussian on other slots.

    ``τ`` is the core of a key: U and V stay. Over many steps the directions of a matrix are a tensor of CP rank r
    (arXiv:2501.19057). Arguments: as for ``Subspace``.

    State: r (m + n) numbers per matrix, in fp32 (fp64 for fp64 weights).
    """

    diagonal = True

    def draw_bases(self, slots: Sequence[Slot], left: int, right: int) -> None:
        """Draw U and V.

        Args:
            slots: all trainable tensors.
            left, right: name the numbers of U and of V.
        """

        def drawn(slot: Slot) -> Basis:
            (m, n), r = slot.param.shape, min(self.r, *slot.param.shape)
            return Basis(U=normal_basis(slot, left, m, r), V=normal_basis(slot, right, n, r))

        self.renew({slot.name: drawn(slot) for slot in self.taken(slots)})
