"""The activation tap: what layers are given in an evaluation at the weights themselves, handed to a collector.

The gradient of a matrix W of a linear layer is a product with the layer's inputs, ``∇W = Gᵀ X``: its rows lie in their
span. Methods that take directions from there (AGZO, arXiv:2601.17261) look at the inputs in a loss that they measure
anyway. Only small sums are kept of them, such as ``InputSketch``; they add up over micro-batches and processes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zobench.zo.layer import as_layer, named
from zobench.zo.slot import Slot
from zobench.zo.team import Team

#: lengths of the sequences that are padded to one length on the right, and that length
_padding: ContextVar[tuple[Sequence[int], int] | None] = ContextVar("padding", default=None)


class Collector(Protocol):
    """What a tap hands inputs to. What it holds of them must be sums over rows, so that parts of a batch add up."""

    def add(self, slot: Slot, inputs: Tensor, axis: int) -> None:
        """Take in what a layer is given.

        Args:
            slot: the layer's weight.
            inputs: rows × n, without padding; of a look-up the ids, in one axis.
            axis: the axis of the weight, of length n, that meets the inputs: 1 for ``F.linear``, 0 for ``x @ W``
                (GPT-2) and for look-ups.
        """

    def sums(self) -> list[Tensor]:
        """The tensors that it holds: as many of the same shapes in all processes, whatever was seen in each."""


@contextmanager
def padded(lengths: Sequence[int], width: int) -> Iterator[None]:
    """A context in which sequences of these lengths are rows padded on the right to ``width``: a tap skips the padding.

    It is for those who run a model on padded rows. Activations of any other number of rows have none.
    """
    token = _padding.set((lengths, width))
    try:
        yield
    finally:
        _padding.reset(token)


class ActivationTap(TorchFunctionMode):
    """A context in which the inputs of linear layers and look-ups whose weight is a slot go to a collector.

    It sees ``F.linear``, ``torch.addmm``, ``F.embedding`` and products with the weight on the right, in the thread that
    enters it. A layer that does not run, because a cut or a cache stands in for it, is not seen, and a tied weight is
    seen in each of its uses.

    Args:
        slots: the trainable tensors.
        collector: is handed the inputs.

    Example:
        >>> from zobench.zo import make_slots
        >>> from zobench.zo.perturbations.input_sketch import InputSketch
        >>> weight = torch.ones(2, 3)
        >>> sketch = InputSketch(make_slots([("w", weight)]), rank=1, key=7)
        >>> with ActivationTap(sketch.slots, sketch):
        ...     output = F.linear(torch.tensor([[0.0, 2.0, 0.0]]), weight)
        >>> sketch.basis(sketch.slots[0]).abs().flatten().tolist()
        [0.0, 1.0, 0.0]
    """

    def __init__(self, slots: Sequence[Slot], collector: Collector):
        super().__init__()
        self.collector = collector
        self._slots = {id(slot.param): slot for slot in slots}

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is F.embedding:
            inputs, weight = named(args, kwargs, "input", "weight")
            self._hand_over(inputs, weight, 0)
        elif (layer := as_layer(func, args, kwargs)) is not None:
            self._hand_over(layer.inputs, layer.weight, int(not layer.transposed))
        return out

    def _hand_over(self, inputs: Tensor, weight: Any, axis: int) -> None:
        slot = self._slots.get(id(weight))
        if slot is None or slot.param.ndim != 2:
            return
        rows = inputs.detach().reshape(-1, inputs.shape[-1]) if inputs.is_floating_point() else inputs.reshape(-1)
        if (padding := _padding.get()) is not None and len(rows) == len(padding[0]) * padding[1]:
            lengths, width = padding
            real = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
            rows = rows[real.reshape(-1).to(rows.device)]
        self.collector.add(slot, rows, axis)


@torch.no_grad()
def add_over_team(collector: Collector, team: Team) -> None:
    """Make a collector's sums those over all processes of a team."""
    if team.size == 1:
        return
    held = collector.sums()
    flat = torch.cat([x.reshape(-1).double().cpu() for x in held])
    whole = torch.tensor(team.sums(flat.tolist, len(flat)), dtype=torch.float64)
    for x, part in zip(held, whole.split([x.numel() for x in held]), strict=True):
        x.copy_(part.view(x.shape))
