"""The mean loss of a batch as a function of the weights: the closure of a step."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from zobench.objective.clean import Objective
from zobench.objective.encode import Encoded
from zobench.zo import owners


class MeanLoss:
    """The mean loss of a batch, at whatever weights the model's functions see; in micro-batches where asked for.

    Args:
        objective: computes losses.
        batch: all examples of the step, at least one.
        rows, load: see the attributes; a load of None is that of the rows.
        share: the places in the batch that are evaluated here; all if None. Shares add up to the loss of the batch.
        micro: examples of a forward call; all at once if None.

    Attributes:
        rows: token rows of one evaluation, as they are in the mean over a run: what decisions are made from that must
            come out alike in every step.
        load: rows that take as much memory as one evaluation does, logits included.
        size: examples of the batch.
    """

    #: one forward pass can run several repetitions of the batch, one after another
    stacks = True
    #: whether it has a gradient
    differentiable = True

    def __init__(
        self,
        objective: Objective,
        batch: Sequence[Encoded],
        rows: int,
        *,
        load: int | None = None,
        share: Sequence[int] | None = None,
        micro: int | None = None,
    ):
        self.objective, self.batch, self.size = objective, batch, len(batch)
        self.rows, self.load = rows, rows if load is None else load
        self.share = range(len(batch)) if share is None else share
        self.micro = micro or max(1, len(self.share))

    def __call__(self) -> Tensor:
        """The mean loss, or what this share contributes to it; with a graph where gradients are enabled."""
        sums = self._each(lambda part: self.objective.loss_sum(part)[0])
        return sum(sums[1:], sums[0]) / self.objective.weight(self.batch) if sums else torch.zeros(())

    def losses(self, copies: int = 1, examples: bool = False) -> Tensor:
        """The mean loss of each of ``copies`` repetitions of the batch, which run together.

        Args:
            copies: how often the sequences of each forward call are repeated, all of them before the next time.
            examples: give the losses of the examples, scaled such that their mean is the loss of the batch; 0 for
                those outside the share.

        Returns:
            Shape (copies,), or (copies, examples) in the order of the batch.
        """
        sums = self._each(lambda part: self.objective.loss_sums(part, copies, examples))
        if not examples:
            return sum(sums[1:], sums[0]) / self.objective.weight(self.batch) if sums else torch.zeros(copies)
        if not sums:
            return torch.zeros(copies, self.size)
        scaled = torch.cat(sums, dim=1) * (self.size / self.objective.weight(self.batch))
        found = scaled.new_zeros(copies, self.size)
        found[:, list(self.share)] = scaled
        return found

    def each(self, within: Callable[[int], AbstractContextManager[object]]) -> Tensor:
        """The losses of the examples as ``losses`` scales them, each from forward calls of its own in a context."""
        found = torch.zeros(self.size, device=self.objective.head_device)
        for place in self.share:
            with within(place):
                found[place] = self.objective.loss_sum([self.batch[place]])[0]
        return found * (self.size / self.objective.weight(self.batch))

    def _each(self, run: Callable[[Sequence[Encoded]], Tensor]) -> list[Tensor]:
        """What ``run`` gives for each micro-batch of the share."""
        found = []
        for start in range(0, len(self.share), self.micro):
            places = self.share[start : start + self.micro]
            with owners.examples(places):
                found.append(run([self.batch[i] for i in places]))
        return found
