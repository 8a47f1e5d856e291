"""The batch of a step and its loss, as the method sees them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zobench.objective import Encoded
from zobench.run.build import Parts
from zobench.system.costs import Clocks


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

    def mean_loss(self, batch: Sequence[Encoded], mine: Sequence[Encoded] | None = None) -> Tensor:
        """The mean loss of a batch; of the examples ``mine`` alone, what they contribute to it."""
        mine = batch if mine is None else mine
        if not mine:
            return torch.zeros(())
        s, objective = self.parts.settings, self.parts.objective
        size = s.micro_batch_size or s.batch_size
        first, *others = (objective.loss_sum(mine[i : i + size])[0] for i in range(0, len(mine), size))
        return sum(others, first) / objective.weight(batch)

    def closure(self, batch: Sequence[Encoded]) -> Callable[[], Tensor]:
        """The loss that the method evaluates: this process's share of the batch at the weights as they are."""
        objective, mine = self.parts.objective, self.parts.division.shards.share(batch)
        before = objective.tokens
        seen = False

        def loss() -> Tensor:
            nonlocal seen
            with self.clocks("forward"):
                value = self.mean_loss(batch, mine)
                if not seen:
                    self._tokens = objective.tokens - before
                    seen = True
                # Reading the value waits for the device, and so belongs to the forward pass.
                float(value.detach())
            return value

        return loss

    def further(self, first: int, count: int) -> Callable[[], Tensor]:
        """The mean loss of further batches of the method's step: of this process's share of their examples.

        The protocol chooses them from (seed, step, number). No forward pass is larger than one of the step's batch.
        """
        parts, s, step = self.parts, self.parts.settings, self.parts.method.t
        batches = (
            parts.protocol.further_batch(step, number, len(parts.train), s.batch_size, s.order_seed)
            for number in range(first, first + count)
        )
        examples = [parts.train[i] for batch in batches for i in batch]
        mine = parts.division.shards.share(examples)

        def loss() -> Tensor:
            with self.clocks("forward"):
                value = self.mean_loss(examples, mine)
                float(value.detach())  # waits for the device
            return value

        return loss

    def count(self, batch: Sequence[Encoded]) -> None:
        """Count the tokens of a batch that is not run, as its losses are known."""
        objective, mine = self.parts.objective, self.parts.division.shards.share(batch)
        size = self.parts.settings.micro_batch_size or max(1, len(mine))
        self._tokens = sum(objective.loss_tokens(mine[i : i + size]) for i in range(0, len(mine), size))

    def tokens(self) -> int:
        """Tokens of the last batch, padding apart, in all processes together."""
        return int(self.parts.division.shards.sums(lambda: [self._tokens], 1)[0])
