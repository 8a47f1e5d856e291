"""Perturbations of a matrix inside a low-rank subspace ``{U Z Vᵀ}``, aligned with an estimated gradient ``U S Vᵀ``."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import at_least, one_of
from zobench.zo.direction import Direction
from zobench.zo.factors import Factors, add_product_
from zobench.zo.independent import Gaussian
from zobench.zo.keys import mix, tag
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

SignScope = Literal["per_matrix", "common", "fixed"]
Embeddings = Literal["subspace", "gaussian"]
SVD = Literal["randomized", "full"]

OVERSAMPLING, POWER_ITERATIONS = 8, 2
#: a matrix is tall with so many numbers or more, and so many times more rows than columns
TALL, TALLER = 1 << 22, 8


@dataclass(frozen=True)
class Basis:
    """A matrix's subspace: orthonormal columns ``U`` (m × r) and ``V`` (n × r), and ``S`` (r), the gradient's core."""

    U: Tensor
    S: Tensor
    V: Tensor


def truncated_svd(matrix: Tensor, rank: int, key: int, svd: SVD = "randomized") -> Basis:
    """The leading ``min(rank, m, n)`` singular triplets, by the range finder of arXiv:0909.4061, Algorithm 4.4.

    A matrix whose short side is within the oversampled rank is decomposed in full. The largest entry of each column
    of ``U`` is made positive, so that the basis does not hang on a library's choice of signs.
    """
    m, n = matrix.shape
    width = rank + OVERSAMPLING
    if svd == "full" or width >= min(m, n):
        U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    else:
        Q = _orthonormal(matrix @ noise.gaussian(key, 0, torch.Size((n, width)), matrix.device).to(matrix.dtype))
        for _ in range(POWER_ITERATIONS):
            Q = _orthonormal(matrix @ _orthonormal(matrix.T @ Q))
        U, S, Vh = torch.linalg.svd(Q.T @ matrix, full_matrices=False)
        U = Q @ U
    return _signed(U[:, :rank], S[:rank], Vh[:rank].T)


def gram_svd(
    parts: Callable[[], Iterable[Tensor]], shape: torch.Size, rank: int, dtype: torch.dtype
) -> tuple[Basis, Tensor]:
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


class AlignedSubspace(Gaussian):
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
        at_least(1, rank=rank)
        one_of(get_args(SignScope), sign=sign)
        one_of(get_args(Embeddings), embeddings=embeddings)
        one_of(get_args(SVD), svd=svd)
        self.r, self.sign_scope, self.embeddings = rank, sign, embeddings
        self.svd: SVD = svd
        self.delta = 1.0
        self.bases: dict[str, Basis] = {}
        #: keep the last bases through the step that renews them, for rules in core space; set by the method
        self.transports = False
        self.fits = 0
        self._last: dict[str, Basis] = {}
        #: key, δ and basis of the last draw on a slot, and its core, within a step
        self._held: dict[str, tuple[int, float, Basis, Tensor]] = {}

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        """Bring bases that were read from a file to their weights' device."""
        self._held = {}
        for slot in slots:
            if (basis := self.bases.get(slot.name)) and basis.U.device != slot.param.device:
                self.bases[slot.name] = Basis(*(x.to(slot.param.device) for x in vars(basis).values()))

    def forget(self) -> None:
        """Drop all bases, so that draws are Gaussian until the next fit; only while the weights are settled."""
        if self.bases:
            self._last, self.fits = self.bases if self.transports else {}, self.fits + 1
        self.bases, self._held = {}, {}

    def after(self, step: int, slots: Sequence[Slot]) -> None:
        self._last, self._held = {}, {}

    def refreshes(self, slot: Slot) -> int:
        return self.fits + (slot.name in self.bases)

    def transport(self, slot: Slot, core: Tensor, since: int) -> Tensor:
        """The projection of the lifted core on the present subspace: ``Uᵀ (U_last core V_lastᵀ) V``."""
        basis, last = self.bases[slot.name], self._last.get(slot.name)
        if last is None:  # before the first fit a core is the tensor itself
            return basis.U.T @ core @ basis.V
        return (basis.U.T @ last.U) @ core @ (last.V.T @ basis.V)

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
            self.bases = {
                name: Basis(b.U.contiguous(), torch.zeros_like(b.S), b.V.contiguous()) for name, b in self.bases.items()
            }
            return 0.0
        self.forget()
        shares = []
        for slot in filter(self._takes, slots):
            if self.svd == "randomized" and _is_tall(slot.param):
                shares.append(self._fit_tall(slot, gradient))
                continue
            estimate = self.estimate(slot, gradient)
            self.bases[slot.name] = truncated_svd(estimate, self.r, mix(key, slot.id), self.svd)
            shares.append(self.captured(slot, estimate))
        return float(torch.stack([s.cpu() for s in shares]).mean()) if shares else 0.0

    def _fit_tall(self, slot: Slot, gradient: Direction) -> Tensor:
        """Fit the basis of a matrix whose estimate is better not held."""

        def blocks() -> Iterator[Tensor]:
            return (self.estimate(slot, gradient, rows) for rows in self.parts(slot))

        basis, square = gram_svd(blocks, slot.param.shape, self.r, sum_dtype(slot.param))
        self.bases[slot.name] = basis
        return basis.S.double().square().sum() / square.clamp_min(torch.finfo(torch.float64).tiny)

    def randomise(self, slots: Sequence[Slot], key: int) -> None:
        """Take uniformly random bases with equal singular values, which know nothing of the gradient."""
        self.forget()
        for slot in filter(self._takes, slots):
            dtype = sum_dtype(slot.param)
            r = min(self.r, *slot.param.shape)
            sides = (
                noise.gaussian(mix(key, side), slot.id, torch.Size((n, r)), slot.param.device).to(dtype)
                for side, n in enumerate(slot.param.shape)
            )
            U, V = (_orthonormal(side) for side in sides)
            self.bases[slot.name] = Basis(U, torch.ones(r, dtype=dtype, device=U.device), V)

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

    def draw(self, slot: Slot, key: int) -> Tensor:
        """The aligned core of a slot with a basis, in the basis's dtype; on any other slot the Gaussian's draw."""
        basis = self.bases.get(slot.name)
        if basis is None:
            return super().draw(slot, key)
        r = len(basis.S)
        core = noise.gaussian(key, slot.id, torch.Size((r, r)), slot.param.device).to(basis.S.dtype)
        return aligned(core, basis.S, self.sign(slot, key) * math.sqrt(self.delta))

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        basis = self.bases.get(slot.name)
        if basis is None:
            super().add_(slot, core, out, scale)
        else:
            out.addmm_(basis.U @ core, basis.V.T, alpha=scale)

    def splits(self, slot: Slot) -> bool:
        return slot.name in self.bases or super().splits(slot)

    def shares(self, slot: Slot) -> bool:
        return slot.name not in self.bases and super().shares(slot)  # torch's products take all threads

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """Sum the cores and lift the sum once."""
        basis = self.bases.get(slot.name)
        if basis is None:
            super().accumulate_(slot, direction, total, rows)
        elif direction:
            total.addmm_(pick(basis.U, rows) @ self._core(slot, direction), basis.V.T)

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        """In half precision by ``factors`` in the weights' dtype: the side path shows what moves the weights."""
        basis, direction = self.bases.get(slot.name), self.local(slot, direction).nonzero()
        if basis is None or rows is not None or not direction or not _is_half(slot.param):
            super().write_(slot, direction, out, keep, rows)
            return
        if out is not slot.param:
            out.copy_(slot.param)
        scale = max(map(abs, direction.values()))
        core = self._core(slot, direction * (1.0 / scale))
        add_product_(out, scale, self._folded(basis, core), keep)

    def factor_rank(self, slot: Slot) -> int | None:
        basis = self.bases.get(slot.name)
        return None if basis is None else len(basis.S)

    def largest_factor_rank(self, slot: Slot) -> int | None:
        return min(self.r, *slot.param.shape) if self._takes(slot) else None

    def factors(self, slot: Slot, direction: Direction) -> Factors | None:
        basis = self.bases.get(slot.name)
        return None if basis is None or not direction else self._folded(basis, self._core(slot, direction))

    def _core(self, slot: Slot, direction: Direction) -> Tensor:
        """The sum of a direction's cores; the last one that was drawn is held until the step ends."""
        total: Tensor | int = 0
        for key, weight in direction.items():
            held = self._held.get(slot.name)
            if held is None or held[:2] != (key, self.delta) or held[2] is not self.bases[slot.name]:
                held = self._held[slot.name] = key, self.delta, self.bases[slot.name], self.draw(slot, key)
            total = total + held[3] * weight
        assert isinstance(total, Tensor)
        return total

    def _folded(self, basis: Basis, core: Tensor) -> Factors:
        """``U core Vᵀ`` as two factors, the core multiplied into the smaller one."""
        tall = len(basis.U) > len(basis.V)
        return Factors(basis.U, basis.V @ core.T) if tall else Factors(basis.U @ core, basis.V)

    def alone(self, slot: Slot) -> bool:
        return slot.name not in self.bases

    def _takes(self, slot: Slot) -> bool:
        return slot.param.ndim == 2 and (self.embeddings == "subspace" or slot.kind == "matrix")

    def state_dict(self) -> dict[str, Tensor | int | float]:
        state: dict[str, Tensor | int | float] = {"fits": self.fits} if self.fits else {}
        return state | {f"{part}.{name}": x for name, basis in self.bases.items() for part, x in vars(basis).items()}

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        parts: dict[str, dict[str, Tensor]] = {}
        self.fits = int(state.get("fits", 0))
        for key, value in state.items():
            part, _, name = key.partition(".")
            if isinstance(value, Tensor):
                parts.setdefault(name, {})[part] = value.clone()
        self.bases = {name: Basis(**part) for name, part in parts.items()}

    def state_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for basis in self.bases.values() for x in vars(basis).values())


def _is_half(matrix: Tensor) -> bool:
    return matrix.dtype in (torch.bfloat16, torch.float16)


def _is_tall(matrix: Tensor) -> bool:
    return matrix.numel() >= TALL and len(matrix) >= TALLER * matrix.shape[1]


def _signed(U: Tensor, S: Tensor, V: Tensor) -> Basis:
    """``U`` is changed, and not copied where it is contiguous."""
    signs = torch.where(U.amax(0) >= -U.amin(0), 1.0, -1.0).to(U.dtype)
    return Basis(U.contiguous().mul_(signs), S.clone(), (V * signs).contiguous())


def _orthonormal(matrix: Tensor) -> Tensor:
    """An orthonormal basis of the columns' span."""
    return torch.linalg.qr(matrix).Q
