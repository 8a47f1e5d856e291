"""Directions of a whole run that are one tensor of low rank: two factors drawn once, and a few numbers each."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.perturbations.subspace import Basis, Subspace
from zobench.zo.slot import Slot, sum_dtype


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

        def drawn(slot: Slot, key: int, size: int) -> Tensor:
            shape = torch.Size((size, min(self.r, *slot.param.shape)))
            return noise.gaussian(key, slot.id, shape, slot.param.device).to(sum_dtype(slot.param))

        taken = [slot for slot in slots if self.takes(slot)]
        self.renew({s.name: Basis(drawn(s, left, s.param.shape[0]), drawn(s, right, s.param.shape[1])) for s in taken})
