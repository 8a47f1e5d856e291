"""1 − the mean score of a batch as a function of the weights: the closure of a step that maximises a score."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from zobench.objective import metrics
from zobench.objective.clean import Objective
from zobench.objective.encode import Encoded
from zobench.objective.mean_loss import MeanLoss
from zobench.objective.own_score import Answer, OwnScore


class MeanScore(MeanLoss):
    """1 − the mean score of a batch; 1 − macro-F1 or MCC of all its answers for tasks with such a metric.

    Scores that tie are one number to the bit, whichever examples are right: sums are rounded once. A batch with an
    answer that is not finite has the loss nan.

    Args:
        objective, batch, rows: as for ``MeanLoss``.
        own: scores an answer; the task's metric if None.
        max_new_tokens: of a generated answer.
        how: as for ``MeanLoss``.
    """

    #: offsets are evaluated one at a time: whether they may share a forward pass is told from losses that differ
    stacks = False
    differentiable = False

    def __init__(
        self,
        objective: Objective,
        batch: Sequence[Encoded],
        rows: int,
        *,
        own: OwnScore | None,
        max_new_tokens: int,
        **how: Any,
    ):
        super().__init__(objective, batch, rows, **how)
        self.own, self.max_new_tokens = own, max_new_tokens
        self._of_classes = None if own else metrics.OF_CLASSES.get(objective.task.metric)

    def __call__(self) -> Tensor:
        answers = self.answers()
        if self._of_classes is None:
            return self._tensor(math.fsum(1.0 - score for score in self._scores(self.share, answers)) / self.size)
        if not all(map(is_finite, answers)):
            return self._tensor(math.nan)
        return self._tensor(1.0 - self._of_classes(metrics.table(*self._classes(answers))))

    def losses(self, copies: int = 1, examples: bool = False) -> Tensor:
        """1 − the mean score, of one copy; or that of each example, 0 outside the share.

        Macro-F1 and MCC are divided among the examples by the jackknife (``metrics.shares``).

        Returns:
            Shape (1,), or (1, examples) in the order of the batch.
        """
        assert copies == 1
        return self._each_loss(self.answers())[None] if examples else self()[None]

    def each(self, within: Callable[[int], AbstractContextManager[object]]) -> Tensor:
        answers: list[Answer] = []
        for place in self.share:
            with within(place):
                answers += self._answered([self.batch[place]])
        return self._each_loss(answers)

    def answers(self) -> list[Answer]:
        """What the model answers to each example of the share, in micro-batches."""
        starts = range(0, len(self.share), self.micro)
        parts = ([self.batch[i] for i in self.share[start : start + self.micro]] for start in starts)
        return [answer for part in parts for answer in self._answered(part)]

    def _answered(self, part: Sequence[Encoded]) -> Sequence[Answer]:
        if not self.objective.task.generates:
            return self.objective.scores(part)
        self.objective.tokens += sum(len(e.prompt) + self.max_new_tokens - 1 for e in part)
        return self.objective.generate(part, self.max_new_tokens)

    def _each_loss(self, answers: Sequence[Answer]) -> Tensor:
        if self._of_classes is None:
            scores = self._scores(self.share, answers)
        elif all(map(is_finite, answers)):
            scores = metrics.shares(self._of_classes, *self._classes(answers))
        else:
            scores = [math.nan] * len(answers)
        found = self._tensor([0.0] * self.size)
        found[list(self.share)] = self._tensor([1.0 - score for score in scores])
        return found

    def _scores(self, places: Sequence[int], answers: Sequence[Answer]) -> list[float]:
        return [self._score(answer, self.batch[place]) for place, answer in zip(places, answers, strict=True)]

    def _score(self, answer: Answer, encoded: Encoded) -> float:
        example = encoded.example
        if not is_finite(answer):
            return math.nan
        if self.own is not None:
            return self.own(answer, example)
        if isinstance(answer, list):
            return metrics.right(answer, example.rights)
        return metrics.OF_TEXT[self.objective.task.metric](str(answer), example.answers)

    def _classes(self, answers: Sequence[Answer]) -> tuple[list[int], list[int]]:
        """The right and the chosen option of each example of the batch, all of which is here."""
        chosen = [metrics.likeliest(answer) for answer in answers if isinstance(answer, list)]
        return [encoded.gold for encoded in self.batch], chosen

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)


def is_finite(answer: Answer) -> bool:
    """Whether an answer came of finite numbers."""
    return all(map(math.isfinite, answer)) if isinstance(answer, list) else answer is not None
