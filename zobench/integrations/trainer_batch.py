"""The loss of a step's batches, as a trainer computes it, for a method to evaluate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

Inputs = Mapping[str, Any]


class TrainerBatch:
    """The loss of some batches of model inputs; the losses of their examples for methods that ask for them.

    It is a ``zobench.zo.closure.BatchLoss`` that takes one offset at a time.

    Args:
        loss_of: the loss of a batch: its share of the step's.
        batches: the model's inputs, of which tensors have an example a row.
        summed: whether shares are sums over rows, divided by what is the same for all; else they are means.
        reduce: makes losses those of all processes.
    """

    stacks = False

    def __init__(
        self,
        loss_of: Callable[[dict[str, Any]], Tensor],
        batches: Sequence[Inputs],
        *,
        summed: bool,
        reduce: Callable[[Tensor], Tensor],
    ):
        self.loss_of, self.batches, self.summed, self.reduce = loss_of, batches, summed, reduce

    @property
    def size(self) -> int:
        """Examples of the batches."""
        return sum(map(_rows, self.batches))

    def __call__(self) -> Tensor:
        """The loss of the step."""
        losses = torch.stack([self.loss_of(dict(batch)) for batch in self.batches])
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

    def _each(self) -> Iterator[tuple[Inputs, int]]:
        """Every example as a batch of one row, with the rows of its batch."""
        for batch in self.batches:
            for i in range(rows := _rows(batch)):
                yield {key: _row(value, i, rows) for key, value in batch.items()}, rows

    def _one(self, inputs: Inputs, rows: int) -> Tensor:
        """An example's loss, so scaled that the mean of all is the loss of the step."""
        loss = self.loss_of(dict(inputs))
        return self.reduce(loss * (self.size if self.summed else self.size / rows))


def _rows(batch: Inputs) -> int:
    return max(value.shape[0] for value in batch.values() if isinstance(value, Tensor) and value.ndim)


def _row(value: Any, i: int, rows: int) -> Any:
    return value[i : i + 1] if isinstance(value, Tensor) and value.ndim and value.shape[0] == rows else value
