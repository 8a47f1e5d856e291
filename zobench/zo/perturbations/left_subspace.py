"""Directions ``u = P Ψ`` in a subspace of the left side of a matrix, given by orthonormal columns P."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zobench.zo.perturbations.bases import Basis, haar_basis, normal_basis, positive_qr
from zobench.zo.perturbations.subspace import Subspace
from zobench.zo.slot import Slot


class LeftSubspace(Subspace):
    """Directions ``u = P Ψ`` on matrices, with Gaussian r × n cores Ψ and orthonormal P; a Gaussian on vectors.

    State: r m numbers per m × n matrix, in fp32 (fp64 for fp64 weights). Arguments: as for ``Subspace``.
    """

    def randomise(self, slots: Sequence[Slot], key: int) -> None:
        """Take uniformly random bases."""
        self.anchor(slots, key, {}, 0)

    def anchor(self, slots: Sequence[Slot], key: int, memories: Mapping[str, Tensor], directions: int) -> None:
        """Take bases that begin with the leading directions of what is remembered, and are random besides.

        Args:
            slots: all trainable tensors.
            key: names the random numbers.
            memories: cores under the present bases, by slot name; a slot without one has a random basis.
            directions: of each memory, how many of its leading left singular vectors are kept.
        """
        bases = {}
        for slot in self.taken(slots):
            m, r = len(slot.param), min(self.r, *slot.param.shape)
            last, memory = self.bases.get(slot.name), memories.get(slot.name)
            if last is None or last.U is None or memory is None:
                P = haar_basis(slot, key, m, r)
            else:
                kept = last.U @ torch.linalg.svd(memory, full_matrices=False).U[:, :directions]
                drawn = normal_basis(slot, key, m, r - kept.shape[1])
                P = positive_qr(torch.cat([kept, drawn], dim=1))
            bases[slot.name] = Basis(U=P)
        self.renew(bases)
