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
    """One trainable tensor, with the names that its noise and its state go by.

    Attributes:
        index: its place among the trainable tensors, from 0.
        name: its name in the model, unique.
        param: the tensor itself; moving it moves the model.
        kind: ``vector`` (fewer than two axes), ``embedding`` or ``matrix`` (all else, also with more than two axes).
        id: names its noise, 63 bits. It is made from the name and not from the place: the order of parameters differs
            between versions of model libraries (Llama's MLP between transformers 4.28 and 5), and noise must not.
    """

    index: int
    name: str
    param: Tensor
    kind: Kind
    id: int

    @property
    def bytes(self) -> int:
        """Bytes that the tensor's numbers take."""
        return self.param.numel() * self.param.element_size()


def pick(tensor: Tensor, rows: Rows) -> Tensor:
    """Some rows of a tensor: a view for a slice or None, a copy for indices."""
    return tensor if rows is None else tensor[rows]


def sum_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype in which sums over a tensor's numbers are made: fp64 for fp64 numbers, else fp32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def kind_of(name: str, param: Tensor) -> Kind:
    """Vector, embedding or matrix: by the number of axes, and by ``embed`` in the name."""
    if param.ndim < 2:
        return "vector"
    return "embedding" if "embed" in name else "matrix"


def make_slots(named_parameters: Iterable[tuple[str, Tensor]]) -> list[Slot]:
    """The slots of a model's trainable tensors, in the given order.

    A tensor that appears twice (a tied head) becomes one slot, a frozen parameter none.

    Args:
        named_parameters: (name, tensor) pairs, as ``torch.nn.Module.named_parameters`` gives them.

    Raises:
        ValueError: if there is nothing to train, or two parameters share a name.

    Example:
        >>> model = nn.ModuleDict({"embed": nn.Embedding(10, 4), "head": nn.Linear(4, 10)})
        >>> model["head"].weight = model["embed"].weight  # tied
        >>> [(slot.index, slot.name, slot.kind) for slot in make_slots(model.named_parameters())]
        [(0, 'embed.weight', 'embedding'), (1, 'head.bias', 'vector')]
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


def noise_share(named_parameters: Iterable[tuple[str, Tensor]], slots: Iterable[Slot]) -> int:
    """The bytes of draws that a step holds by default: an eighth of all tensors given, frozen ones too.

    0 where one fp32 draw of all slots does not fit into it: less takes memory and saves next to nothing.
    """
    tensors = {id(tensor): tensor for _, tensor in named_parameters}.values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors) // 8
    return size if 4 * sum(slot.param.numel() for slot in slots) <= size else 0
