"""The loss of a step's batches, as a trainer computes it, for a method to evaluate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor


class TrainerBatch:
    """The loss of some batches of model inputs; the losses of their examples for methods that ask for them.

    It is a ``zobench.zo.closure.BatchLoss`` that takes one offset at a time.

    Args:
        loss_of: the loss of a batch; given a number of items, it may be a sum over them divided by that.
        batches: the model's inputs, of which tensors, arrays and lists have an example a row.
        items: labelled tokens or examples of all batches; None where nobody counts them.
        items_of: their number in some inputs.
        whole: whether the losses of the batches add up to the loss; else it is their mean.
        reduce: makes losses those of all processes.
    """

    stacks = False

    def __init__(
        self,
        loss_of: Callable[..., Tensor],
        batches: Sequence[Any],
        *,
        items: Any,
        items_of: Callable[[Any], Any],
        whole: bool,
        reduce: Callable[[Tensor], Tensor],
    ):
        self.loss_of, self.batches, self.reduce = loss_of, batches, reduce
        self.items, self.items_of, self.whole = items, items_of, whole

    @property
    def size(self) -> int:
        """Examples of the batches."""
        return sum(map(_rows, self.batches))

    def __call__(self) -> Tensor:
        """The loss of the step."""
        losses = torch.stack([self.loss_of(batch) / (1 if self.whole else len(self.batches)) for batch in self.batches])
        return self.reduce(losses.sum())

    def losses(self, copies: int = 1, examples: bool = False) -> Tensor:
        """The loss, of shape (1,), or those of the examples, of shape (1, size), whose mean it is."""
        return torch.stack([self._one(*row) for row in self._each()])[None] if examples else self()[None]

    def each(self, within: Callable[[int], AbstractContextManager[object]]) -> Tensor:
        """The losses of the examples, of shape (size,), each in a context of its own."""
        found = []
        for place, row in enumerate(self._each()):
            with within(place):
                found.append(self._one(*row))
        return torch.stack(found)

    def _each(self) -> Iterator[tuple[Any, Any]]:
        """Every example as a batch of one row, with its batch."""
        for batch in self.batches:
            for i in range(rows := _rows(batch)):
                yield _row(batch, i, rows), batch

    def _one(self, inputs: Any, batch: Any) -> Tensor:
        """An example's loss, so scaled that the mean of all is the loss of the step.

        It is measured as the mean over its own items, which a loss gives that divides by their number and one that
        takes no notice of it.
        """
        scale = self.size if self.whole else self.size / len(self.batches)
        if self.items is None:
            return self.reduce(self.loss_of(inputs) * (scale / _rows(batch)))
        own, of = self.items_of(inputs), self.items if self.whole else self.items_of(batch)
        return self.reduce(torch.where(own > 0, self.loss_of(inputs, own.clamp(min=1)) * (own / of * scale), 0.0))


def _rows(batch: Any) -> int:
    """The examples of a batch: the length of its labels or tokens, else of what comes first in it."""
    if isinstance(batch, Mapping):
        first = next((batch[name] for name in ("labels", "input_ids") if isinstance(batch.get(name), Tensor)), None)
        return len(first) if first is not None else max(map(_rows, batch.values()), default=0)
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 0
    return max(map(_rows, batch), default=0) if isinstance(batch, list | tuple) else 0


def _row(value: Any, i: int, rows: int) -> Any:
    """An example of a batch, or of what a batch holds: what has no such rows is of all of them."""
    if isinstance(value, Mapping):
        return {key: _row(each, i, rows) for key, each in value.items()}
    if isinstance(value, Tensor | np.ndarray):
        return value[i : i + 1] if value.ndim and len(value) == rows else value
    if isinstance(value, list | tuple) and any(isinstance(each, Tensor | Mapping) for each in value):
        return [_row(each, i, rows) for each in value]
    return value[i : i + 1] if isinstance(value, list | tuple) and len(value) == rows else value
