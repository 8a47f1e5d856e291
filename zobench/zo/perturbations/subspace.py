"""Directions inside a subspace that some steps share: ``u = U core Vᵀ``, with one or both sides given by a basis.

What a method of this kind says of itself is how its bases come about, and what its core looks like; all else is here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import at_least, one_of
from zobench.zo.direction import Direction
from zobench.zo.factors import Factors, add_product_
from zobench.zo.independent import Gaussian
from zobench.zo.perturbations.bases import Basis
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

Embeddings = Literal["subspace", "gaussian"]

#: a core is held for a step where it takes at most this share of its slot's numbers
_HELD = 1 / 32


class Subspace(Gaussian):
    """Directions ``u = U core Vᵀ`` on slots with a basis; a Gaussian on all other slots.

    A subclass makes bases and hands them to ``renew``, between steps or before the first draw of one. Cores are
    Gaussian unless ``draw_core`` says else. Without any basis this is the Gaussian of MeZO.

    Args:
        rank: r, cut to the short side of a matrix.
        embeddings: ``subspace``, or ``gaussian``: embedding matrices get no basis.

    Raises:
        ValueError: for a setting out of range.

    State: the bases, in fp32 (fp64 for fp64 weights).
    """

    #: the core is the diagonal of an r × r matrix, and has r numbers
    diagonal = False

    def __init__(self, *, rank: int = 128, embeddings: Embeddings = "subspace"):
        at_least(1, rank=rank)
        one_of(get_args(Embeddings), embeddings=embeddings)
        self.r, self.embeddings = rank, embeddings
        self.bases: dict[str, Basis] = {}
        self._transports = False
        self.renewals = 0
        self._last: Mapping[str, Basis] = {}
        #: key and basis of the last draw on a slot, and its core, within a step
        self._held: dict[str, tuple[int, Basis, Tensor]] = {}

    def takes(self, slot: Slot) -> bool:
        """Whether a slot may have a basis: a matrix, and an embedding unless these are Gaussian."""
        return slot.param.ndim == 2 and (self.embeddings == "subspace" or slot.kind == "matrix")

    def taken(self, slots: Sequence[Slot]) -> list[Slot]:
        """The slots among some that may have a basis."""
        return [slot for slot in slots if self.takes(slot)]

    def renew(self, bases: Mapping[str, Basis]) -> None:
        """Take other bases, by slot name; only while the weights are settled."""
        if self.bases:
            self._last, self.renewals = self.bases if self._transports else {}, self.renewals + 1
        self.bases = dict(bases)
        self._let_go()

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        """Bring bases that were read from a file to their weights' device."""
        self._let_go()
        for slot in slots:
            basis = self.bases.get(slot.name)
            if basis and any(x.device != slot.param.device for x in basis.tensors().values()):
                moved = {name: x.to(slot.param.device) for name, x in basis.tensors().items()}
                self.bases[slot.name] = type(basis)(**{**vars(basis), **moved})

    def after(self, step: int, slots: Sequence[Slot]) -> None:
        self._last = {}
        self._let_go()

    def _let_go(self) -> None:
        """Forget the draws that are held: another step, other bases."""
        self._held = {}

    def refreshes(self, slot: Slot) -> int:
        return self.renewals + (slot.name in self.bases)

    def keep_lifts(self, on: bool) -> None:
        self._transports = on

    def transport(self, slot: Slot, core: Tensor, since: int) -> Tensor:
        """``carry`` from the last basis to the present one; where there is none, a core is the tensor itself.

        The same numbers where the last bases are not kept.
        """
        if not self._transports:
            return core
        return self.carry(self.bases.get(slot.name, Basis()), self._last.get(slot.name, Basis()), core)

    def carry(self, basis: Basis, last: Basis, core: Tensor) -> Tensor:
        """The core whose lift is the projection of the lifted ``core``, for orthonormal bases.

        Args:
            basis: the present one; an empty one where a core is the tensor itself.
            last: the one before, likewise.
            core: under ``last``.
        """
        U, V = _overlap(basis.U, last.U), _overlap(basis.V, last.V)
        core = core if U is None else U @ core
        return core if V is None else core @ V.T

    def draw_core(self, slot: Slot, key: int, basis: Basis) -> Tensor:
        """The core of a key on a slot with a basis: standard normal numbers."""
        shape = basis.core_shape(slot.param.shape)
        shape = shape[:1] if self.diagonal else shape
        return noise.gaussian(key, slot.id, shape, slot.param.device).to(sum_dtype(slot.param))

    def draw(self, slot: Slot, key: int) -> Tensor:
        """The core of a slot with a basis, in the dtype of sums; on any other slot the Gaussian's draw."""
        basis = self.bases.get(slot.name)
        return super().draw(slot, key) if basis is None else self.draw_core(slot, key, basis)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        basis = self.bases.get(slot.name)
        if basis is None:
            super().add_(slot, core, out, scale)
        else:
            self._lift_(slot, basis, core, out, scale)

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """Sum the cores and lift the sum once."""
        basis = self.bases.get(slot.name)
        if basis is None:
            super().accumulate_(slot, direction, total, rows)
        elif direction:
            self._lift_(slot, basis, self._core(slot, direction, basis), total, 1.0, rows)

    def _lift_(self, slot: Slot, basis: Basis, core: Tensor, total: Tensor, scale: float, rows: Rows = None) -> None:
        """``total += scale · lift(core)`` on the given rows of a slot."""
        if basis.U is None:
            left = pick(core, rows)
        elif self.diagonal:
            left = pick(basis.U, rows) * core
        elif basis.V is None:  # no product of three: the one of two is added where it belongs
            total.addmm_(pick(basis.U, rows), core, alpha=scale)
            return
        else:
            left = pick(basis.U, rows) @ core
        assert basis.V is not None
        to = total if rows is not None or self._keeps_shape(slot, basis) else total.view(basis.view(total.shape))
        to.addmm_(left, basis.V.T, alpha=scale)

    def lifted_variances(self, slot: Slot, variances: Tensor) -> Iterator[tuple[Rows, Tensor]]:
        basis = self.bases[slot.name]
        squared = Basis(*(None if side is None else side.square() for side in (basis.U, basis.V)))
        for rows in self.parts(slot):
            out = torch.zeros_like(pick(slot.param, rows), dtype=variances.dtype, memory_format=torch.contiguous_format)
            self._lift_(slot, squared, variances, out, 1.0, rows)
            yield rows, out

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        """In half precision by ``factors`` in the weights' dtype: the side path shows what moves the weights."""
        basis, direction = self.bases.get(slot.name), self.local(slot, direction).nonzero()
        half = slot.param.dtype in (torch.bfloat16, torch.float16)
        if basis is None or rows is not None or not direction or not half or not self._keeps_shape(slot, basis):
            super().write_(slot, direction, out, keep, rows)
            return
        if out is not slot.param:
            out.copy_(slot.param)
        scale = max(map(abs, direction.values()))
        add_product_(out, scale, self._product(slot, direction * (1.0 / scale), basis), keep)

    def factor_rank(self, slot: Slot) -> int | None:
        basis = self.bases.get(slot.name)
        if basis is None or not self._keeps_shape(slot, basis):
            return None
        return min(basis.core_shape(slot.param.shape))

    def largest_factor_rank(self, slot: Slot) -> int | None:
        return min(self.r, *slot.param.shape) if self.takes(slot) else None

    def factors(self, slot: Slot, direction: Direction) -> Factors | None:
        basis = self.bases.get(slot.name)
        if basis is None or not direction or not self._keeps_shape(slot, basis):
            return None
        return self._product(slot, direction, basis)

    def splits(self, slot: Slot) -> bool:
        basis = self.bases.get(slot.name)
        return super().splits(slot) if basis is None else self._keeps_shape(slot, basis)

    def shares(self, slot: Slot) -> bool:
        return slot.name not in self.bases and super().shares(slot)  # torch's products take all threads

    def alone(self, slot: Slot) -> bool:
        return slot.name not in self.bases

    def _core(self, slot: Slot, direction: Direction, basis: Basis) -> Tensor:
        """The sum of a direction's cores; the last one that was drawn is held until the step ends."""
        total: Tensor | int = 0
        for key, weight in direction.items():
            held = self._held.get(slot.name)
            if held is None or held[0] != key or held[1] is not basis:
                held = key, basis, self.draw(slot, key)
                if held[2].numel() <= _HELD * slot.param.numel():
                    self._held[slot.name] = held
            total = total + held[2] * weight
        assert isinstance(total, Tensor)
        return total

    def _product(self, slot: Slot, direction: Direction, basis: Basis) -> Factors:
        """A direction on a slot as two factors."""
        return self._folded(basis, self._core(slot, direction, basis))

    def _folded(self, basis: Basis, core: Tensor) -> Factors:
        """``U core Vᵀ`` as two factors, the core multiplied into the smaller one where there are two."""
        U, V = basis.U, basis.V
        if U is None:
            assert V is not None
            return Factors(core, V)
        if V is None:
            return Factors(U, core.T)
        if self.diagonal:
            return Factors(U * core, V)
        return Factors(U, V @ core.T) if len(U) > len(V) else Factors(U @ core, V)

    @staticmethod
    def _keeps_shape(slot: Slot, basis: Basis) -> bool:
        return slot.param.ndim == 2 and basis.view(slot.param.shape) == slot.param.shape

    def state_dict(self) -> dict[str, Tensor | int | float]:
        state: dict[str, Tensor | int | float] = {"renewals": self.renewals} if self.renewals else {}
        for name, basis in self.bases.items():
            state |= {f"{part}.{name}": x for part, x in basis.tensors().items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        self.renewals = int(state.get("renewals", 0))
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            part, _, name = key.partition(".")
            if isinstance(value, Tensor):
                parts.setdefault(name, {})[part] = value.clone()
        self.bases = {name: self.made_of(part) for name, part in parts.items()}

    def made_of(self, parts: Mapping[str, Tensor]) -> Basis:
        """A basis from its parts by name, as ``state_dict`` wrote them."""
        return Basis(**parts)

    def state_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for basis in self.bases.values() for x in basis.tensors().values())


def _overlap(basis: Tensor | None, last: Tensor | None) -> Tensor | None:
    """``basisᵀ last``; None is the identity."""
    if basis is None:
        return last
    return basis.T if last is None else basis.T @ last
