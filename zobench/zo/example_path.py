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

    def _pieces(self, rows: Tensor) -> list[tuple[int, Tensor]]:
        found = _runs(len(rows))
        parts = rows.split([count for _, count in found])
        return [(place, part) for (place, _), part in zip(found, parts, strict=True)]

    def _linear(self, layer: Layer) -> Any:
        x, weight, bias, transposed = layer
        slot, bias_slot = self._known.get(id(weight)), self._known.get(id(bias))
        vector = bias is None or bias.ndim == 1
        if id(x) in self._known or weight.ndim != 2 or not vector or x.dtype != weight.dtype or x.ndim < 2:
            return NotImplemented
        rows = x.reshape(-1, x.shape[-1])
        whose = _whose(_runs(len(rows)), rows.device)
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
        alike = owners.each(ids[0].numel() if len(ids) else 0)  # where each sequence has a row of ids
        if not alike:
            raise NotStackable("nobody told whose rows these are")
        if ids.ndim > 1 and len(ids) == 1 and owners.runs(ids.numel()) is None:  # one for all, as positions are
            ids = ids.expand(len(alike), *ids.shape[1:])
        flat = ids.reshape(-1)
        runs = alike if ids.ndim > 1 and len(ids) == len(alike) else _runs(len(flat))
        out = rows_of(flat, table)
        out += self.rowwise.looked_up(slot, flat, self.offsets, _whose(runs, flat.device)).to(out.dtype)
        return out.view(*ids.shape, table.shape[1])


def _runs(rows: int) -> list[tuple[int, int]]:
    """The runs of so many rows. Raises ``NotStackable`` where nobody told."""
    if (found := owners.runs(rows)) is None:
        raise NotStackable(f"nobody told whose {rows} rows these are")
    return found


def _whose(runs: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """The place of the example of each row, on a device."""
    return torch.tensor([place for place, count in runs for _ in range(count)], device=device)
