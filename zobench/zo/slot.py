"""Slots: the trainable tensors of a model, as the zeroth-order core sees them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from zobench.zo.keys import tag

Kind = Literal["matrix", "embedding", "vector"]
#: some rows (along axis 0) of a tensor: indices, a slice, or None for all of it
Rows = Tensor | slice | None


@dataclass(frozen=True, eq=False)
class Slot:
    """One trainable tensor.

    ``id`` is made from the name and not from the position: the order of parameters differs between versions of
    model libraries, and noise must not.
    """

    index: int
    name: str
    param: Tensor
    kind: Kind
    id: int

    @property
    def bytes(self) -> int:
        return self.param.numel() * self.param.element_size()


def pick(tensor: Tensor, rows: Rows) -> Tensor:
    """The rows; a view, but for indices."""
    return tensor if rows is None else tensor[rows]


def wide(tensor: Tensor) -> torch.dtype:
    """The type in which sums over such numbers are made: fp32, or fp64 for fp64 numbers."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def kind_of(name: str, param: Tensor) -> Kind:
    """Vectors have fewer than two axes; embeddings are the matrices named so; all else is a matrix."""
    if param.ndim < 2:
        return "vector"
    return "embedding" if "embed" in name else "matrix"


def make_slots(named_parameters: Iterable[tuple[str, Tensor]]) -> list[Slot]:
    """Slots in the given order. A tensor that appears twice (a tied head) becomes one, a frozen parameter none.

    Raises:
        ValueError: if there is nothing to train, or two parameters share a name.
    """
    slots: list[Slot] = []
    seen: set[int] = set()
    for name, param in named_parameters:
        frozen = isinstance(param, nn.Parameter) and not param.requires_grad
        if id(param) not in seen and not frozen:
            seen.add(id(param))
            slots.append(Slot(len(slots), name, param, kind_of(name, param), tag(name)))
    if not slots:
        raise ValueError("there is no parameter to train: named_parameters is empty")
    if len({slot.name for slot in slots}) < len(slots):
        raise ValueError("two parameters have the same name; names key the noise and must be unique")
    return slots
