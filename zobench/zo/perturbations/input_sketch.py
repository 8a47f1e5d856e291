"""Sketches of what layers are given: small sums over their inputs that say which directions lead."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zobench.zo.perturbations.bases import OVERSAMPLING, Basis, normal_basis, random_basis, sketched_basis
from zobench.zo.slot import Slot, sum_dtype


class InputSketch:
    """``Y = Σ Xᵀ X Ω`` of the inputs X of each layer, for an Ω of few columns: what their Gram matrix does to these.

    A collector (``zobench.zo.tap``). Ω is random here; a subclass may give another, such as a basis that it follows.
    Weights that are looked up (embeddings, tied heads too) are left out. Two matrices of n × width per slot, as long as
    the sketch lives.

    Args:
        slots: tensors to look at; others are passed over, and vectors too.
        rank: r, the columns of a basis, cut to the short side of a matrix.
        key: names Ω.
        oversampling: further columns of Ω.
    """

    def __init__(self, slots: Sequence[Slot], rank: int, key: int, oversampling: int = OVERSAMPLING):
        self.slots = [slot for slot in slots if slot.param.ndim == 2]
        self.rank, self.key, self.oversampling = rank, key, oversampling
        self._place = {slot.name: place for place, slot in enumerate(self.slots)}
        #: of each slot: rows that met axis 0, rows that met axis 1, look-ups
        self._rows = torch.zeros(len(self.slots), 3, dtype=torch.float64)
        self._totals: dict[tuple[str, int], Tensor] = {}
        self._omegas: dict[tuple[str, int], Tensor] = {}

    def width(self, slot: Slot, axis: int) -> int:
        """The columns of Ω."""
        return min(self.rank + self.oversampling, slot.param.shape[axis])

    def make_omega(self, slot: Slot, axis: int) -> Tensor:
        """Ω for the inputs that meet an axis: n × width, in the dtype of sums."""
        return normal_basis(slot, self.key, slot.param.shape[axis], self.width(slot, axis))

    def omega(self, slot: Slot, axis: int) -> Tensor:
        """Ω, made once."""
        if (slot.name, axis) not in self._omegas:
            with torch.inference_mode(False):  # losses are evaluated in that mode; these outlive it
                self._omegas[slot.name, axis] = self.make_omega(slot, axis)
        return self._omegas[slot.name, axis]

    def _total(self, slot: Slot, axis: int) -> Tensor:
        if (slot.name, axis) not in self._totals:
            shape = slot.param.shape[axis], self.width(slot, axis)
            with torch.inference_mode(False):
                total = torch.zeros(shape, dtype=sum_dtype(slot.param), device=slot.param.device)
            self._totals[slot.name, axis] = total
        return self._totals[slot.name, axis]

    @torch.no_grad()
    def add(self, slot: Slot, inputs: Tensor, axis: int) -> None:
        """Add what a layer is given: rows × n; of a look-up the ids."""
        if slot.name not in self._place:
            return
        if inputs.is_floating_point():
            total = self._total(slot, axis)
            x = inputs.to(total.dtype)
            total.addmm_(x.T, x @ self.omega(slot, axis))
        self._rows[self._place[slot.name], axis if inputs.is_floating_point() else 2] += len(inputs)

    def axes(self, slot: Slot) -> Sequence[int]:
        """The axes of a slot that inputs may meet: what is known of that before any were seen."""
        return (0, 1)

    def sums(self) -> list[Tensor]:
        """What adds up over processes."""
        # Which axis meets the inputs only the layer tells, and processes must hold tensors of the same shapes.
        return [*(self._total(slot, axis) for slot in self.slots for axis in self.axes(slot)), self._rows]

    def axis(self, slot: Slot) -> int | None:
        """The axis of a slot that met inputs; None where none were seen, or along both, or where it is looked up."""
        rows = self._rows[self._place[slot.name]].tolist() if slot.name in self._place else [0.0] * 3
        axes = [axis for axis in (0, 1) if rows[axis]]
        return axes[0] if len(axes) == 1 and not rows[2] else None

    def seen(self) -> list[Slot]:
        """The slots whose inputs were seen in some process."""
        return [slot for slot in self.slots if self.axis(slot) is not None]

    def unseen(self) -> list[Slot]:
        """The matrices of which no inputs were seen in any process: their layers did not run, or they are looked up."""
        return [slot for slot in self.slots if self.axis(slot) is None]

    def rows(self, slot: Slot) -> int:
        """How many inputs of a slot were seen: rows of X, tokens of a language model."""
        return int(self._rows[self._place[slot.name], self._axis(slot)])

    def sketch(self, slot: Slot) -> Tensor:
        """Y, n × width. Raises KeyError for a slot that was not seen."""
        return self._totals[slot.name, self._axis(slot)]

    def basis(self, slot: Slot, power: int = 3) -> Tensor:
        """An orthonormal basis of the leading span of the inputs, by power iterations from Ω: n × r.

        Raises KeyError for a slot that was not seen.
        """
        Y, axis = self.sketch(slot), self._axis(slot)
        return sketched_basis(Y, self.omega(slot, axis), min(self.rank, *slot.param.shape), power)

    def bases(self, power: int = 3) -> dict[str, Basis]:
        """Slot name → basis, on the axis that meets the inputs, of the slots that were seen."""
        return {slot.name: Basis.along(self._axis(slot), self.basis(slot, power)) for slot in self.seen()}

    def _axis(self, slot: Slot) -> int:
        if (axis := self.axis(slot)) is None:
            raise KeyError(f"{slot.name}: no inputs were seen")
        return axis


class BasisSketch(InputSketch):
    """``Σ Xᵀ X Q`` for bases Q that are held, and for random orthonormal ones where none is.

    Args:
        slots: tensors to look at.
        rank: columns of a random basis, cut to the axis that meets the inputs.
        key: names the random ones.
        held: slot name → basis, on one axis.
    """

    def __init__(self, slots: Sequence[Slot], rank: int, key: int, held: Mapping[str, Basis]):
        super().__init__(slots, rank, key, oversampling=0)
        self.held = dict(held)

    def make_omega(self, slot: Slot, axis: int) -> Tensor:
        if (basis := self.held.get(slot.name)) is not None:
            return basis.matrix
        return random_basis(slot, self.key, slot.param.shape[axis], self.width(slot, axis))

    def axes(self, slot: Slot) -> Sequence[int]:
        basis = self.held.get(slot.name)
        return (0, 1) if basis is None else (0,) if basis.V is None else (1,)
