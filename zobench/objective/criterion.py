"""What methods minimise: the loss that a task names, or 1 − a score that has no gradient.

Scores are those of section 3.3 of arXiv:2305.17333. Forward passes are all that a method needs of them.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from zobench.objective.clean import Objective
from zobench.objective.encode import MAX_NEW_TOKENS, Encoded
from zobench.objective.mean_loss import MeanLoss
from zobench.objective.mean_score import MeanScore
from zobench.objective.own_score import OwnScore
from zobench.tasks.base import Task
from zobench.zo.checks import within

#: training examples on whose answers a user's function is tried before a run begins
_TRIED = 4


class Criterion:
    """A number for each example of a batch, of which methods minimise the mean.

    Attributes:
        differentiable: whether it has a gradient.
        own: the user's function that it is made of, if any. What makes weights again from a record leaves it None.
    """

    differentiable: ClassVar[bool] = True
    own: OwnScore | None = None

    def metric(self, task: Task) -> str:
        """What evaluations are judged by: dev chooses weights by it, and it is the result on test."""
        return task.metric

    def forwards(self, task: Task) -> int:
        """The forward passes that it counts as, for one batch."""
        return 1

    def prepare(self, objective: Objective, train: Sequence[Encoded], *, pads: bool) -> None:
        """Settle and check what can be before the first step, at the weights as they were loaded.

        Args:
            pads: whether prompts may be padded where answers are generated.

        Raises:
            ConfigError: for a score of the user's own that is none.
        """

    def mean(self, objective: Objective, batch: Sequence[Encoded], rows: int, **how: Any) -> MeanLoss:
        """The mean of a batch, as a function of the weights; arguments are those of ``MeanLoss``."""
        raise NotImplementedError

    def rows(self, objective: Objective, batch: Sequence[Encoded]) -> int:
        """Rows of the matrix products that it runs for a batch, padding apart."""
        raise NotImplementedError

    def load(self, objective: Objective, batch: Sequence[Encoded]) -> int:
        """Rows that take as much memory, logits included."""
        return self.rows(objective, batch)

    def tokens(self, objective: Objective, batch: Sequence[Encoded]) -> int:
        """Tokens that it runs through the model for a batch, padding apart."""
        raise NotImplementedError


class Loss(Criterion):
    """The loss that the task names: cross-entropy over the options, or of the answer's tokens."""

    def mean(self, objective: Objective, batch: Sequence[Encoded], rows: int, **how: Any) -> MeanLoss:
        return MeanLoss(objective, batch, rows, **how)

    def rows(self, objective: Objective, batch: Sequence[Encoded]) -> int:
        return objective.loss_rows(batch)

    def load(self, objective: Objective, batch: Sequence[Encoded]) -> int:
        return objective.loss_load(batch)

    def tokens(self, objective: Objective, batch: Sequence[Encoded]) -> int:
        return objective.loss_tokens(batch)


class Score(Criterion):
    """1 − a score of what the model answers: of the option that it chooses, or of the text that it generates.

    A score is constant but for the weights at which an answer changes, so that most directions show nothing at a small
    ε. What two losses at ``θ ± εu`` see is the slope of the score's mean over such moves.

    Args:
        score: None for the task's metric; the dotted path of a user's function, which ``own`` is to be set to.
        max_new_tokens: of a generated answer, at most. Evaluations generate up to ``MAX_NEW_TOKENS`` all the same.

    Raises:
        ValueError: for a number of tokens out of range.
    """

    differentiable = False

    def __init__(self, *, score: str | None = None, max_new_tokens: int = MAX_NEW_TOKENS):
        within(f"[1, {MAX_NEW_TOKENS}]", max_new_tokens=max_new_tokens)
        self.score, self.max_new_tokens = score, max_new_tokens

    def metric(self, task: Task) -> str:
        return "score" if self.score else task.metric

    def forwards(self, task: Task) -> int:
        return self.max_new_tokens if task.generates else 1

    def prepare(self, objective: Objective, train: Sequence[Encoded], *, pads: bool) -> None:
        if objective.task.generates:
            objective.greedy.settle([e.prompt for e in train], pads)
        if self.own is not None:
            tried = train[:_TRIED]
            with torch.inference_mode():
                self.own.check(self.mean(objective, tried, rows=1).answers(), tried)

    def mean(self, objective: Objective, batch: Sequence[Encoded], rows: int, **how: Any) -> MeanScore:
        return MeanScore(objective, batch, rows, own=self.own, max_new_tokens=self.max_new_tokens, **how)

    def rows(self, objective: Objective, batch: Sequence[Encoded]) -> int:
        if objective.task.generates:
            return sum(len(e.prompt) + self.max_new_tokens - 1 for e in batch)
        return sum(objective.path.rows(tail) for tail in objective.score_tails(batch))

    def tokens(self, objective: Objective, batch: Sequence[Encoded]) -> int:
        if objective.task.generates:
            return self.rows(objective, batch)
        return sum(len(tail.ids) for tail in objective.score_tails(batch))
