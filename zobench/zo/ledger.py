"""What an oracle has evaluated: how many forward and backward passes so far, and the losses of the step."""

import math
from typing import TypeVar

from zobench.zo.closure import Entry, mean_of

Given = TypeVar("Given", float, list[float])


class Diverged(ArithmeticError):
    """The loss was not finite; the weights were put back to where the step began."""


class Unsuited(RuntimeError):
    """A model that a method cannot work on; the message says in a line why, and what to do instead."""


class Ledger:
    """The part of an oracle that counts.

    Attributes:
        forwards, backwards, forwards_each, seen: as ``Oracle`` has them.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.backwards = 0
        self.forwards_each = 1
        self.seen: list[Entry] = []
        self._of_own_batch: list[float] = []
        self._batches = 1  # in the closure
        self._on_own = True  # whether they are the step's own

    def settle(self) -> None:
        """Put the weights back to ``θ``."""
        raise NotImplementedError

    @property
    def means(self) -> list[float]:
        """The losses of this step, in order."""
        return [mean_of(entry) for entry in self.seen]

    @property
    def mean_loss(self) -> float:
        """The mean of the losses of the step's own batch so far; of all that were seen, if it saw no such loss."""
        values = self._of_own_batch or self.means
        return sum(values) / max(1, len(values))

    def _counted(self, given: Given) -> Given:
        """What an evaluation gave, once it is in the ledger."""
        self.forwards += self._batches * self.forwards_each
        for value in given if isinstance(given, list) else [given]:
            if not math.isfinite(value):
                self.settle()
                raise Diverged(f"the loss is {value} at forward pass {self.forwards}")
        self.seen.append(given)
        if self._on_own:
            self._of_own_batch.append(mean_of(given))
        return given
