"""Bases of subspaces: the lifts that they are, random ones, and those of the leading singular triplets of a matrix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isqrt
from typing import Literal

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.keys import mix
from zobench.zo.slot import Slot, sum_dtype

SVD = Literal["randomized", "full"]

OVERSAMPLING, POWER_ITERATIONS = 8, 2


@dataclass(frozen=True)
class Basis:
    """The lift of a slot, ``core ↦ U core Vᵀ``.

    Where both sides are given, ``U core Vᵀ`` may have another shape than the slot, with as many numbers: the slot is
    then viewed so, row by row.

    Attributes:
        U: m × r; None for the identity, where a core has m rows.
        V: n × s; None for the identity, where a core has n columns.

    Example:
        >>> Basis(U=torch.ones(6, 2)).core_shape(torch.Size((6, 4)))
        torch.Size([2, 4])
    """

    U: Tensor | None = None
    V: Tensor | None = None

    @classmethod
    def along(cls, axis: int, matrix: Tensor) -> "Basis":
        """A basis of what one axis of a slot meets; the other axis is free."""
        return cls(V=matrix) if axis == 1 else cls(U=matrix)

    @property
    def matrix(self) -> Tensor:
        """The one that is given, of a basis ``along`` an axis."""
        side = self.U if self.V is None else self.V
        assert side is not None
        return side

    def core_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of cores on a slot of a shape."""
        rows = shape[0] if self.U is None else self.U.shape[1]
        return torch.Size((rows, shape[1] if self.V is None else self.V.shape[1]))

    def view(self, shape: torch.Size) -> torch.Size:
        """The shape ``U core Vᵀ`` on a slot of a shape."""
        if self.U is not None and self.V is not None:
            return torch.Size((len(self.U), len(self.V)))
        return shape

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that it holds, by name."""
        return {name: x for name, x in vars(self).items() if isinstance(x, Tensor)}


@dataclass(frozen=True)
class Triplets:
    """Singular triplets of an m × n matrix: orthonormal columns ``U`` (m × r) and ``V`` (n × r), values ``S`` (r)."""

    U: Tensor
    S: Tensor
    V: Tensor


def orthonormal(matrix: Tensor) -> Tensor:
    """An orthonormal basis of the columns' span."""
    return torch.linalg.qr(matrix).Q


def normal_basis(slot: Slot, key: int, size: int, rank: int) -> Tensor:
    """Columns of independent standard normal numbers, for a slot: on its device, in the dtype of sums.

    Args:
        slot: whose basis it is; names the numbers with the key.
        key: names the numbers.
        size: rows.
        rank: columns.
    """
    return noise.gaussian(key, slot.id, torch.Size((size, rank)), slot.param.device).to(sum_dtype(slot.param))


def random_basis(slot: Slot, key: int, size: int, rank: int) -> Tensor:
    """Orthonormal columns with a uniformly random span: Q of a ``normal_basis``, with the signs that QR gives."""
    return orthonormal(normal_basis(slot, key, size, rank))


def haar_basis(slot: Slot, key: int, size: int, rank: int) -> Tensor:
    """Uniformly random orthonormal columns (Haar): as ``random_basis``, with R's diagonal made positive."""
    return positive_qr(normal_basis(slot, key, size, rank))


def positive_qr(matrix: Tensor) -> Tensor:
    """``Q`` of the QR decomposition whose R has a positive diagonal: orthonormal columns stay as they are."""
    Q, R = torch.linalg.qr(matrix)
    return (Q * torch.where(R.diagonal() < 0, -1.0, 1.0).to(Q.dtype)).contiguous()


def two_sided(
    basis: Callable[[Slot, int, int, int], Tensor], slot: Slot, key: int, shape: torch.Size, rank: int
) -> tuple[Tensor, Tensor]:
    """Random bases for the columns and for the rows of an m × n matrix, laid out as they are when read from a file.

    Args:
        basis: ``random_basis`` or ``haar_basis``.
        slot, key: as for these.
        shape: (m, n).
        rank: r, cut to the short side.

    Returns:
        m × r and n × r.
    """
    r = min(rank, *shape)
    U, V = (basis(slot, mix(key, side), size, r).contiguous() for side, size in enumerate(shape))
    return U, V


def most_square(count: int) -> tuple[int, int]:
    """The two factors of a number that are closest to each other, the smaller one first.

    >>> most_square(96), most_square(48), most_square(7)
    ((8, 12), (6, 8), (1, 7))
    """
    short = next(n for n in range(isqrt(count), 0, -1) if count % n == 0)
    return short, count // short


def truncated_svd(matrix: Tensor, rank: int, key: int, svd: SVD = "randomized") -> Triplets:
    """The leading ``min(rank, m, n)`` singular triplets, by the range finder of arXiv:0909.4061, Algorithm 4.4.

    A matrix whose short side is within the oversampled rank is decomposed in full. The largest entry of each column
    of ``U`` is made positive, so that the basis does not hang on a library's choice of signs.
    """
    m, n = matrix.shape
    width = rank + OVERSAMPLING
    if svd == "full" or width >= min(m, n):
        U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    else:
        Q = orthonormal(matrix @ noise.gaussian(key, 0, torch.Size((n, width)), matrix.device).to(matrix.dtype))
        for _ in range(POWER_ITERATIONS):
            Q = orthonormal(matrix @ orthonormal(matrix.T @ Q))
        U, S, Vh = torch.linalg.svd(Q.T @ matrix, full_matrices=False)
        U = Q @ U
    return _signed(U[:, :rank], S[:rank], Vh[:rank].T)


def sketched_basis(sketch: Tensor, omega: Tensor, rank: int, power: int) -> Tensor:
    """Power iterations ``Q ← qr(G Q)`` on an n × n Gram matrix G that is known by its sketch ``Y = G Ω`` alone.

    They start from the first columns of Ω, on the Nyström approximation ``Y (ΩᵀY)⁺ Yᵀ`` of G (arXiv:1706.05736), which
    is G itself where Ω has as many columns as G has rank. G is a sum over the rows of its factor and can be had in
    parts; powers of it could not.

    Args:
        sketch: Y, n × w.
        omega: Ω, n × w.
        rank: columns of the basis, at most w.
        power: number of iterations.

    Returns:
        n × rank, orthonormal columns.

    Example:
        >>> omega = torch.tensor([[1.0, 0.5], [1.0, -1.0], [0.3, 2.0]])
        >>> sketched_basis(torch.diag(torch.tensor([0.0, 4.0, 0.0])) @ omega, omega, rank=1, power=1).abs().T
        tensor([[0., 1., 0.]])
    """
    Y, W = sketch.double(), omega.double()
    core = W.T @ Y
    values, vectors = torch.linalg.eigh((core + core.T) / 2)
    kept = values > values[-1] * len(Y) * torch.finfo(sketch.dtype).eps
    B = Y @ (vectors[:, kept] * values[kept].rsqrt())  # G ≈ B Bᵀ
    Q = W[:, :rank]
    for _ in range(power):
        Q = orthonormal(B @ (B.T @ Q))
    return Q.to(sketch.dtype)


def gram_svd(
    parts: Callable[[], Iterable[Tensor]], shape: torch.Size, rank: int, dtype: torch.dtype
) -> tuple[Triplets, Tensor]:
    """The leading ``min(rank, n)`` singular triplets of a tall matrix that is made again in blocks of rows, twice.

    From the eigenvectors V of ``GᵀG``, and ``U = G V S⁻¹``: the matrix is never held. The squares cost half of the
    digits of small singular values; the leading ones of a noisy estimate are all alike.

    Args:
        parts: gives the blocks of rows, first to last.
        shape: (m, n).
        dtype: of the basis.

    Returns:
        The basis, and the matrix's squared norm.
    """
    gram = sum((block.T @ block).double() for block in parts())
    assert isinstance(gram, Tensor)
    values, vectors = torch.linalg.eigh(gram)
    squares = values.flip(0)[: min(rank, shape[1])].clamp_min(0.0)
    S, V = squares.sqrt().to(dtype), vectors.flip(1)[:, : min(rank, shape[1])].to(dtype)
    U, start = V.new_empty(shape[0], len(S)), 0
    for block in parts():
        torch.mm(block, V / S.clamp_min(torch.finfo(dtype).tiny), out=U[start : start + len(block)])
        start += len(block)
    return _signed(U, S, V), gram.trace()


def _signed(U: Tensor, S: Tensor, V: Tensor) -> Triplets:
    """``U`` is changed, and not copied where it is contiguous."""
    signs = torch.where(U.amax(0) >= -U.amin(0), 1.0, -1.0).to(U.dtype)
    return Triplets(U.contiguous().mul_(signs), S.clone(), (V * signs).contiguous())
