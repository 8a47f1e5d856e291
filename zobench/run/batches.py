"""The batch of a step and what is minimised of it, as the method sees them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from torch import Tensor

from zobench.objective import Encoded
from zobench.run.parts import Parts
from zobench.system.costs import Clocks
from zobench.zo.closure import BatchLoss, Closure


class Batches:
    """The training examples of each step, and their mean loss in micro-batches.

    Args:
        parts: of the run.
        clocks: ``forward`` counts the seconds of forward passes.
    """

    def __init__(self, parts: Parts, clocks: Clocks):
        self.parts, self.clocks = parts, clocks
        self._tokens = 0  # of this process's share of the last batch

    def of(self, step: int) -> list[Encoded]:
        """The examples of a step, counted from 0."""
        parts = self.parts
        s, train = parts.settings, parts.train
        return [train[i] for i in parts.protocol.batch(step, len(train), s.batch_size, s.order_seed)]

    def loss(self, batch: Sequence[Encoded]) -> Closure:
        """The mean loss of a batch, all of it in this process and off the clocks."""
        return self._closure(self.parts.criterion.mean(self.parts.objective, batch, **self._how))

    def closure(self, batch: Sequence[Encoded]) -> Closure:
        """The loss that the method evaluates: this process's share of the batch at the weights as they are."""
        share = self.parts.division.shards.share(range(len(batch)))
        return self._closure(_Clocked(self, batch, share=share, **self._how))

    def _closure(self, loss: BatchLoss) -> Closure:
        """A protocol that runs a batch in one piece gives its mean and nothing else: a plain function."""
        return loss if self.parts.protocol.micro_batches else loss.__call__

    @cached_property
    def _how(self) -> dict[str, Any]:
        """Rows and load of one forward call in the mean over the training examples, at least 1, and micro-batches.

        They are functions of settings and data: the same in every step and process, and at a resume.
        """
        parts, s, objective, criterion = self.parts, self.parts.settings, self.parts.objective, self.parts.criterion
        share = -(-min(s.batch_size, len(parts.train)) // parts.division.shards.size)
        called = min(share, s.micro_batch_size or share) / max(1, len(parts.train))
        rows = sum(criterion.rows(objective, [each]) for each in parts.train) * called
        load = sum(criterion.load(objective, [each]) for each in parts.train) * called
        return {"rows": max(1, round(rows)), "load": max(1, round(load)), "micro": s.micro_batch_size}

    def ran(self, tokens: int) -> None:
        """Note the tokens that the last batch has, in this process's share."""
        self._tokens = tokens

    def further(self, first: int, count: int) -> Closure:
        """The mean loss of further batches of the method's step: of this process's share of their examples.

        The protocol chooses them from (seed, step, number). No forward pass is larger than one of the step's batch.
        """
        parts, s = self.parts, self.parts.settings
        examples = self.further_examples(first, count)
        share = parts.division.shards.share(range(len(examples)))
        how = self._how | {"micro": s.micro_batch_size or s.batch_size}
        return self._closure(_Clocked(self, examples, share=share, own=False, **how))

    def further_examples(self, first: int, count: int) -> list[Encoded]:
        """The examples of further batches of the method's step."""
        parts, s, step = self.parts, self.parts.settings, self.parts.method.t
        batches = (
            parts.protocol.further_batch(step, number, len(parts.train), s.batch_size, s.order_seed)
            for number in range(first, first + count)
        )
        return [parts.train[i] for batch in batches for i in batch]

    def count(self, batch: Sequence[Encoded]) -> None:
        """Count the tokens of a batch that is not run, as its losses are known."""
        parts, mine = self.parts, self.parts.division.shards.share(batch)
        size = self.parts.settings.micro_batch_size or max(1, len(mine))
        micro = (mine[i : i + size] for i in range(0, len(mine), size))
        self.ran(sum(parts.criterion.tokens(parts.objective, each) for each in micro))

    def tokens(self) -> int:
        """Tokens of the last batch, padding apart, in all processes together."""
        return int(self.parts.division.shards.sums(lambda: [self._tokens], 1)[0])


class _Clocked:
    """A mean loss on the clock ``forward``; the first evaluation of a step's own batch tells how many tokens it has."""

    def __init__(self, batches: Batches, batch: Sequence[Encoded], own: bool = True, **how: Any):
        self.objective = batches.parts.objective
        self._mean = batches.parts.criterion.mean(self.objective, batch, **how)
        self.rows, self.load, self.size = self._mean.rows, self._mean.load, self._mean.size
        self.stacks, self.differentiable = self._mean.stacks, self._mean.differentiable
        self._batches, self._first = batches, own

    def __call__(self) -> Tensor:
        return self._clocked(self._mean, 1)

    def losses(self, copies: int = 1, examples: bool = False) -> Tensor:
        return self._clocked(lambda: self._mean.losses(copies, examples), copies)

    def each(self, within: Callable[[int], AbstractContextManager[object]]) -> Tensor:
        return self._clocked(lambda: self._mean.each(within), 1)

    def _clocked(self, run: Callable[[], Tensor], copies: int) -> Tensor:
        before = self.objective.tokens
        with self._batches.clocks("forward"):
            value = run()
            value.detach().sum().item()  # waits for the device, which belongs to the forward pass
        if self._first:
            self._batches.ran((self.objective.tokens - before) // copies)
            self._first = False
        return value
