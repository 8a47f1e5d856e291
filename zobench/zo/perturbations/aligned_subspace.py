"""Perturbations of a matrix inside a low-rank subspace ``{U Z Vᵀ}``, aligned with an estimated gradient ``U S Vᵀ``."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from zobench.zo.checks import one_of
from zobench.zo.direction import Direction
from zobench.zo.keys import mix, tag
from zobench.zo.perturbations.bases import SVD, Basis, gram_svd, random_basis, truncated_svd, two_sided
from zobench.zo.perturbations.subspace import Embeddings, Subspace
from zobench.zo.slot import Slot, sum_dtype

SignScope = Literal["per_matrix", "common", "fixed"]

#: a matrix is tall with so many numbers or more, and so many times more rows than columns
TALL, TALLER = 1 << 22, 8


@dataclass(frozen=True)
class AlignedBasis(Basis):
    """Orthonormal ``U`` (m × r) and ``V`` (n × r), and ``S`` (r numbers), the core of the estimated gradient."""

    U: Tensor = field(kw_only=True)
    V: Tensor = field(kw_only=True)
    S: Tensor = field(kw_only=True)


def aligned(core: Tensor, S: Tensor, target: float) -> Tensor:
    """A core moved along S: ``Z − αS`` with α such that ``⟨S, Z − αS⟩ = target · ‖S‖``; unchanged where S is 0.

    Args:
        core: Z, r × r, or a stack of cores.
        S: the diagonal of the gradient's core, r numbers.
        target: the aligned length.
    """
    unit = S / S.norm().clamp_min(torch.finfo(S.dtype).tiny)
    excess = (core.diagonal(dim1=-2, dim2=-1) * unit).sum(-1, keepdim=True) - target
    return core - torch.diag_embed(excess * unit)


class AlignedSubspace(Subspace):
    """Directions ``u = U Z Vᵀ`` on matrices with a basis, where ``⟨S, Z⟩ = ξ √δ ‖S‖``; a Gaussian on all other slots.

    ``Z`` is a Gaussian r × r core whose component along S is replaced (arXiv:2510.18228). Without any basis this is
    the Gaussian of MeZO.

    Args:
        rank: r, cut to the short side of a matrix.
        sign: ξ = ±1, drawn ``per_matrix``, once for all matrices (``common``), or ``fixed`` at +1.
        embeddings: ``subspace``, or ``gaussian``: embedding matrices get no basis.
        svd: ``randomized`` or ``full``.

    Raises:
        ValueError: for a setting out of range.

    State: r (m + n + 1) numbers per matrix, in fp32 (fp64 for fp64 weights).
    """

    def __init__(
        self,
        *,
        rank: int = 128,
        sign: SignScope = "per_matrix",
        embeddings: Embeddings = "subspace",
        svd: SVD = "randomized",
    ):
        one_of(get_args(SignScope), sign=sign)
        one_of(get_args(SVD), svd=svd)
        super().__init__(rank=rank, embeddings=embeddings)
        self.sign_scope, self.svd = sign, svd
        self.bases: dict[str, AlignedBasis] = {}  # type: ignore[assignment]
        self.delta = 1.0

    @property
    def delta(self) -> float:
        """The alignment δ of the draws that follow."""
        return self._delta

    @delta.setter
    def delta(self, delta: float) -> None:
        """Set δ; only while the weights are settled."""
        self._delta = delta
        self._let_go()  # cores of another δ

    def forget(self) -> None:
        """Drop all bases, so that draws are Gaussian until the next fit; only while the weights are settled."""
        self.renew({})

    def fit(self, slots: Sequence[Slot], gradient: Direction, key: int) -> float:
        """Take bases from the SVD of a Gaussian gradient estimate, replayed one matrix (block of a tall one) at a time.

        Args:
            slots: all trainable tensors.
            gradient: the estimate, as a weighted sum of draws.
            key: names the random numbers of the decomposition.

        Returns:
            The share of the estimate's energy inside its subspace, averaged over matrices; 0 where all probes
            were flat, whose bases are random and align nothing.
        """
        if not gradient.nonzero():
            self.randomise(slots, key)
            for name, own in self.bases.items():
                self.bases[name] = replace(own, S=torch.zeros_like(own.S))
            return 0.0
        self.forget()
        shares = []
        for slot in self.taken(slots):
            if self.svd == "randomized" and _is_tall(slot.param):
                shares.append(self._fit_tall(slot, gradient))
                continue
            estimate = self.estimate(slot, gradient)
            found = truncated_svd(estimate, self.r, mix(key, slot.id), self.svd)
            self.bases[slot.name] = AlignedBasis(U=found.U, V=found.V, S=found.S)
            shares.append(self.captured(slot, estimate))
        return float(torch.stack([s.cpu() for s in shares]).mean()) if shares else 0.0

    def _fit_tall(self, slot: Slot, gradient: Direction) -> Tensor:
        """Fit the basis of a matrix whose estimate is better not held."""

        def blocks() -> Iterator[Tensor]:
            return (self.estimate(slot, gradient, rows) for rows in self.parts(slot))

        found, square = gram_svd(blocks, slot.param.shape, self.r, sum_dtype(slot.param))
        self.bases[slot.name] = AlignedBasis(U=found.U, V=found.V, S=found.S)
        return found.S.double().square().sum() / square.clamp_min(torch.finfo(torch.float64).tiny)

    def randomise(self, slots: Sequence[Slot], key: int) -> None:
        """Take uniformly random bases with equal singular values, which know nothing of the gradient."""
        self.forget()
        for slot in self.taken(slots):
            U, V = two_sided(random_basis, slot, key, slot.param.shape, self.r)
            self.bases[slot.name] = AlignedBasis(U=U, V=V, S=U.new_ones(U.shape[1]))

    def captured(self, slot: Slot, gradient: Tensor) -> Tensor:
        """The share of a gradient's energy inside the slot's subspace, ``‖Uᵀ G V‖² / ‖G‖²``, as a scalar tensor."""
        basis = self.bases[slot.name]
        energy = gradient.square().sum().clamp_min(torch.finfo(gradient.dtype).tiny)
        return (basis.U.T @ gradient @ basis.V).square().sum() / energy

    def sign(self, slot: Slot, key: int) -> int:
        """The sign ξ, −1 or 1, of a key on a matrix."""
        if self.sign_scope == "fixed":
            return 1
        scope = slot.id if self.sign_scope == "per_matrix" else 0
        return 1 - 2 * (mix(key, scope, tag("sign")) & 1)

    def draw_core(self, slot: Slot, key: int, basis: Basis) -> Tensor:
        assert isinstance(basis, AlignedBasis)
        core = super().draw_core(slot, key, basis)
        return aligned(core, basis.S, self.sign(slot, key) * math.sqrt(self.delta))

    def made_of(self, parts: Mapping[str, Tensor]) -> AlignedBasis:
        return AlignedBasis(**parts)


def _is_tall(matrix: Tensor) -> bool:
    return matrix.numel() >= TALL and len(matrix) >= TALLER * matrix.shape[1]
