"""Directions inside random subspaces of matrices, as long in the mean as a Gaussian is."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zobench.zo.perturbations.bases import Basis, haar_basis, most_square, two_sided
from zobench.zo.perturbations.subspace import Embeddings, Subspace
from zobench.zo.slot import Slot


class RandomSubspace(Subspace):
    """Directions ``u = U Z Vᵀ`` on matrices, with random orthonormal U and V; a Gaussian on all other slots.

    ``Z`` is r × r with entries from ``N(0, mn/r²)``, so that ``E‖u‖² = mn`` is that of the Gaussian (the norm alignment
    of arXiv:2410.08989). The scale is part of the core: the lift keeps lengths, and element-wise rules in core space
    see orthonormal coordinates. A matrix with a side of 1 counts as a vector.

    Args:
        rank: r, cut to the short side.
        embeddings: ``subspace``, or ``gaussian``: embedding matrices get no basis.
        reshape: give each matrix the most square shape of as many numbers first, row by row: for adapters and prefixes,
            of which one side is short.

    Raises:
        ValueError: for a setting out of range.

    State: r (m + n) numbers per matrix, in fp32 (fp64 for fp64 weights).

    Example:
        >>> from zobench.zo import Direction, make_slots
        >>> slot = make_slots([("w", torch.zeros(2, 32))])[0]
        >>> for reshape in (False, True):
        ...     space = RandomSubspace(rank=4, reshape=reshape)
        ...     space.refresh([slot], key=3)
        ...     u = space.estimate(slot, Direction.ray(7))
        ...     space.draw(slot, 7).shape, int(torch.linalg.matrix_rank(u.view(8, 8)))
        (torch.Size([2, 2]), 8)
        (torch.Size([4, 4]), 4)
    """

    def __init__(self, *, rank: int = 32, embeddings: Embeddings = "subspace", reshape: bool = False):
        super().__init__(rank=rank, embeddings=embeddings)
        self.reshape = reshape

    def takes(self, slot: Slot) -> bool:
        return super().takes(slot) and min(slot.param.shape) > 1

    def view(self, slot: Slot) -> torch.Size:
        """The shape of the matrix that is decomposed."""
        return torch.Size(most_square(slot.param.numel())) if self.reshape else slot.param.shape

    def refresh(self, slots: Sequence[Slot], key: int) -> None:
        """Draw U and V anew, uniformly; only while the weights are settled.

        Args:
            slots: all trainable tensors.
            key: names the draws.
        """
        self.renew({slot.name: self._drawn(slot, key) for slot in self.taken(slots)})

    def _drawn(self, slot: Slot, key: int) -> Basis:
        U, V = two_sided(haar_basis, slot, key, self.view(slot), self.r)
        return Basis(U=U, V=V)

    def draw_core(self, slot: Slot, key: int, basis: Basis) -> Tensor:
        core = super().draw_core(slot, key, basis)
        return core.mul_(math.sqrt(slot.param.numel() / core.numel()))

    def largest_factor_rank(self, slot: Slot) -> int | None:
        return super().largest_factor_rank(slot) if self.view(slot) == slot.param.shape else None
