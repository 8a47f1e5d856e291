"""Functions that read weights at an offset for each example of a batch, while the weights themselves stay."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zobench.zo import owners
from zobench.zo.direction import Direction
from zobench.zo.factors import add_to_linear
from zobench.zo.layer import Layer
from zobench.zo.perturbation import Perturbation
from zobench.zo.side import NotStackable, SidePath
from zobench.zo.slot import Slot


class Rowwise(ABC):
    """A perturbation that gives each row of an activation a direction of its own at little more than one's cost.

    In all of these, ``directions`` are one for each example, and ``whose`` names that of each row, on the rows' device.
    """

    @abstractmethod
    def products(
        self, slot: Slot, x: Tensor, directions: Sequence[Direction], whose: Tensor, transposed: bool
    ) -> Tensor:
        """Rows ``x_i Δᵀ`` (``x_i Δ`` if transposed), with the Δ of the row's example on a matrix, in the dtype of x.

        Raises:
            NotStackable: for directions that this cannot do.
        """

    @abstractmethod
    def looked_up(self, slot: Slot, ids: Tensor, directions: Sequence[Direction], whose: Tensor) -> Tensor:
        """Row ``ids_i`` of Δ on a matrix, with the Δ of the look-up's example, in fp32 or better."""

    @abstractmethod
    def vectors(self, slot: Slot, directions: Sequence[Direction]) -> Tensor:
        """Each Δ on a vector, examples × its length, in the dtype of sums."""


class ExamplePath(SidePath):
    """What functions give where each row sees the weights at the offset of its example, as ``owners`` tells.

    Args:
        slots: the tensors that are seen at the offsets.
        perturbation: what the offsets are drawn from; ``Rowwise`` too.
        offsets: one for each example of the batch.
    """

    def __init__(self, slots: Sequence[Slot], perturbation: Perturbation, offsets: Sequence[Direction]):
        super().__init__(slots, perturbation, offsets, thin=())
        if not isinstance(perturbation, Rowwise):
            raise NotStackable(f"{type(perturbation).__name__} makes no direction for each row")
        self.rowwise = perturbation
        self._offset: dict[int, Tensor] = {}  # of vectors, by their index: examples × length

    @property
    def stacked(self) -> bool:
        return True

    def _shifts_of(self, slot: Slot) -> Tensor:
        if slot.index not in self._offset:
            self._offset[slot.index] = self.rowwise.vectors(slot, self.offsets)
        return self._offset[slot.index]

    def _runs(self, rows: Tensor) -> list[tuple[int, int]]:
        if (found := owners.runs(len(rows))) is None:
            raise NotStackable(f"nobody told whose {len(rows)} rows these are")
        return found

    def _pieces(self, rows: Tensor) -> list[tuple[int, Tensor]]:
        found = self._runs(rows)
        parts = rows.split([count for _, count in found])
        return [(place, part) for (place, _), part in zip(found, parts, strict=True)]

    def _whose(self, rows: Tensor) -> Tensor:
        places, counts = torch.tensor(self._runs(rows), device=rows.device).T
        return places.repeat_interleave(counts, output_size=len(rows))

    def _linear(self, layer: Layer) -> Any:
        x, weight, bias, transposed = layer
        slot, bias_slot = self._known.get(id(weight)), self._known.get(id(bias))
        vector = bias is None or bias.ndim == 1
        if id(x) in self._known or weight.ndim != 2 or not vector or x.dtype != weight.dtype or x.ndim < 2:
            return NotImplemented
        rows = x.reshape(-1, x.shape[-1])
        whose = self._whose(rows)
        if slot is None:
            beside = rows.new_zeros(len(rows), weight.shape[1 if transposed else 0])
        else:
            beside = self.rowwise.products(slot, rows, self.offsets, whose, transposed)
        if bias_slot is not None:
            beside += self._shifts_of(bias_slot).to(x.dtype)[whose]
        out = add_to_linear(rows, weight.T if transposed else weight, bias, beside)
        return out.view(*x.shape[:-1], out.shape[1])

    def _look_up(self, ids: Tensor, table: Tensor, rows_of: Callable[[Tensor, Tensor], Tensor]) -> Any:
        slot = self._known.get(id(table))
        if table.ndim != 2 or id(ids) in self._known or slot is None:
            return NotImplemented
        if ids.ndim > 1 and len(ids) == 1:  # one row for all sequences, as positions are
            ids = ids.expand(max(1, self._sequences), *ids.shape[1:])
        self._count(ids)
        flat = ids.reshape(-1)
        out = rows_of(flat, table)
        out += self.rowwise.looked_up(slot, flat, self.offsets, self._whose(flat)).to(out.dtype)
        return out.view(*ids.shape, table.shape[1])
