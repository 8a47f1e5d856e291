"""Closures: the loss of a step's batch, as a function of the weights.

Any function will do. One that is also a ``BatchLoss`` can be evaluated at several offsets in one forward pass, and can
give the losses of the batch's examples.
"""

import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from statistics import fmean
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor

from zobench.zo.direction import Direction

Closure = Callable[[], Tensor | float]
#: what one evaluation was seen to give: a loss, or the losses of the examples
Entry = float | list[float]


def as_loss(value: Any) -> float:
    """The number that a closure gave.

    >>> as_loss(torch.tensor([0.5]))
    0.5

    Raises:
        TypeError: for what is no number and no tensor of one element.
    """
    if isinstance(value, numbers.Real) or (isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()):
        return float(value)
    what = "nothing" if value is None else f"a {type(value).__name__}"
    if isinstance(value, Tensor):
        what = f"a {'complex ' * value.is_complex()}tensor of shape {tuple(value.shape)}"
    raise TypeError(f"the closure gave {what}; it must return the batch's loss, a number or a tensor of one element")


class BatchLoss(Protocol):
    """A closure that knows its batch.

    ``losses`` is given repetitions of the batch to run, which differ only in the weights that they see: in every tensor
    that torch's functions are called with, the leading axes, flattened, are ``copies`` groups of equal length, one
    after another.
    """

    @property
    def rows(self) -> int:
        """Rows of the matrix products of one evaluation, at least 1: the same number in every step and process."""

    @property
    def load(self) -> int:
        """Rows that take as much memory as one evaluation does, at least ``rows``: what bounds a stack."""

    @property
    def size(self) -> int:
        """Examples of the batch."""

    @property
    def stacks(self) -> bool:
        """Whether ``losses`` takes more than one copy."""

    def __call__(self) -> Tensor | float:
        """The mean loss."""

    def losses(self, copies: int = 1, examples: bool = False) -> Tensor:
        """The mean loss of each repetition, of shape (copies,).

        Args:
            copies: repetitions of the batch in one forward pass.
            examples: give the losses of each example, of shape (copies, size), so scaled that their mean is the loss.
        """

    def each(self, within: Callable[[int], AbstractContextManager[object]]) -> Tensor:
        """The losses of the examples, of shape (size,) and scaled as those of ``losses``, each from a run of its own.

        Args:
            within: gives the context in which an example is to run, from its number.
        """


def knows_batch(closure: Closure) -> TypeGuard[BatchLoss]:
    """Whether a closure is more than a function."""
    return callable(getattr(closure, "losses", None))


def batch_of(closure: Closure | None) -> BatchLoss:
    """The closure, for those who ask for losses per example.

    Raises:
        RuntimeError: if there is none.
        TypeError: if it gives the mean of the batch alone.
    """
    if closure is None:
        raise RuntimeError("the oracle has no batch: call begin(closure) first")
    if not knows_batch(closure):
        raise TypeError(
            "losses per example were asked of a closure that gives their mean alone; give step() one with a method "
            "losses(copies, examples), as zobench.zo.closure.BatchLoss describes it (runs: protocol=clean)"
        )
    return closure


def most_copies(closure: Closure, stack_rows: int) -> int:
    """How many offsets one forward pass of a closure takes.

    Args:
        stack_rows: bound on its rows; 0 for one offset at a time.
    """
    if not knows_batch(closure) or not closure.stacks:
        return 1
    return max(1, stack_rows // max(1, closure.load))


def stacks_of(offsets: Sequence[Direction], most: int) -> list[Sequence[Direction]]:
    """Consecutive offsets in groups of at most ``most``; both signs of a pair stay together where two have room.

    >>> u, v, w = map(Direction.ray, (3, 5, 7))
    >>> [len(stack) for stack in stacks_of([u, v, w], most=2)]
    [2, 1]
    >>> [len(stack) for stack in stacks_of([u, -u, v, -v], most=3)]
    [2, 2]
    """
    if most > 1 and len(offsets) > 1 and set(offsets[0]) == set(offsets[1]):
        most -= most % 2
    return [offsets[start : start + most] for start in range(0, len(offsets), most)]


def mean_of(entry: Entry) -> float:
    """The loss of the batch, from one evaluation.

    >>> mean_of(0.5), mean_of([0.25, 0.5])
    (0.5, 0.375)
    """
    return fmean(entry) if isinstance(entry, list) else entry


class Recorded:
    """The closure of a step that is taken again, from what was seen in it.

    >>> closure = Recorded([0.5, [0.25, 0.5]])
    >>> closure(), closure.losses(examples=True).tolist()
    (0.5, [[0.25, 0.5]])

    Args:
        seen: losses, or losses of the examples, in the order of evaluation.
    """

    rows, load, size, stacks = 1, 1, 0, False  # what is known need not be divided up

    def __init__(self, seen: Sequence[Entry]):
        self._left: Iterator[Entry] = iter(seen)

    def __call__(self) -> float:
        """The next loss."""
        entry = self._next()
        if isinstance(entry, list):
            raise ValueError("the step asks for a loss where losses per example were seen")
        return entry

    def losses(self, copies: int = 1, examples: bool = False) -> Tensor:
        """The next losses per example, float64; one copy at a time."""
        entry = self._next()
        if not isinstance(entry, list):
            raise ValueError("the step asks for losses per example where a loss was seen")
        return torch.tensor([entry], dtype=torch.float64)

    def _next(self) -> Entry:
        try:
            return next(self._left)
        except StopIteration:
            raise ValueError("the step asks for more losses than were seen in it") from None
