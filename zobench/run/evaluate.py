"""Evaluation: a split's metric with its error, loss, and the threshold-free measures that a label bias cannot fake."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from zobench.objective import Criterion, Encoded, Loss, Objective, metrics
from zobench.objective.own_score import Answer
from zobench.run import measures
from zobench.tasks.base import Task
from zobench.zo import Team


class NotFinite(ArithmeticError):
    """Scores or losses of some examples are not finite numbers: there is no metric of such an evaluation."""


@dataclass(frozen=True)
class Evaluation:
    """Results on one split.

    Attributes:
        values: the measures by name, such as accuracy, loss and auc; ``record.columns`` has them all.
        threshold: the margin above which ``accuracy_calibrated`` chooses option 1; None without two options.
        predictions: a row for each example, in the given order.
    """

    values: dict[str, float]
    threshold: float | None = None
    predictions: list[dict[str, Any]] = field(default_factory=list)

    def selection(self, metric: str) -> dict[str, float]:
        """The two numbers by which a protocol compares evaluations: metric and loss."""
        return {"metric": self.values[metric], "loss": self.values["loss"]}


def evaluate(
    objective: Objective,
    task: Task,
    examples: Sequence[Encoded],
    batch_size: int,
    *,
    threshold: float | None = None,
    team: Team | None = None,
    criterion: Criterion | None = None,
    recorded: bool = True,
) -> Evaluation:
    """Evaluate a split at the current weights.

    Args:
        batch_size: examples per forward call.
        recorded: whether the predictions are for the record, and their scores log-probabilities. Else scores may be
            short of what an example's options share, which takes less time and gives the same values.
        threshold: margin above which ``accuracy_calibrated`` chooses option 1; None matches the label shares here.
        team: the processes that share out the batches; this one alone if None.
        criterion: what is minimised, which may be made of a score of the user's own; the task's loss if None.

    Raises:
        NotFinite: if the score of an option, or the loss of an answer, is not a finite number; says of how many
            examples. An arg-max or a rank would take such a score for one, and give an accuracy.
    """
    batches = batches_of(examples, batch_size)
    run = _generation if task.generates else _classification
    with torch.inference_mode():
        return run(objective, criterion or Loss(), examples, batches, threshold, team or Team(), recorded)


def batches_of(examples: Sequence[Encoded], batch_size: int) -> list[list[int]]:
    """The batches of an evaluation, by the places of their examples, from the shortest to the longest.

    Neighbours of like length waste little padding.
    """
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].rows[0].ids))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def results_of(objective: Objective, batch: Sequence[Encoded], *, recorded: bool = True) -> Any:
    """What the model says of a batch: scores of options, as ``recorded`` asks; or losses of answers, and answers."""
    if objective.task.generates:
        return objective.answer_losses(batch), objective.generate(batch)
    return objective.scores(batch) if recorded else objective.relative_scores(batch)


def _classification(
    objective: Objective,
    criterion: Criterion,
    examples: Sequence[Encoded],
    batches: list[list[int]],
    threshold: float | None,
    team: Team,
    recorded: bool,
) -> Evaluation:
    scores: list[list[float]] = [[] for _ in examples]
    recorded = recorded or criterion.own is not None
    shared = team.results(lambda batch: results_of(objective, [examples[i] for i in batch], recorded=recorded), batches)
    for batch, part in zip(batches, shared, strict=True):
        for i, row in zip(batch, part, strict=True):
            scores[i] = row
    _check_finite(scores)
    gold = [e.gold for e in examples]
    chosen = list(map(metrics.likeliest, scores))
    added = {"accuracy": [metrics.right(s, e.example.rights) for s, e in zip(scores, examples, strict=True)]}
    added |= _own(criterion, scores, examples)
    facts = {"loss": _loss(objective.task, examples, scores), "n": len(gold)}
    if not any(e.example.right for e in examples):  # an option is a class, right alone
        added |= measures.of_classes(gold, chosen)
        facts["majority"] = measures.majority(gold)
    moved, threshold = measures.of_margins(gold, scores, threshold)
    values = measures.means(added) | facts | moved
    rows = [
        {"index": e.example.index, "gold": str(g), "prediction": str(c), "scores": s, "score": r}
        for e, g, c, s, r in zip(examples, gold, chosen, scores, added[criterion.metric(objective.task)], strict=True)
    ]
    return Evaluation(values, threshold, rows)


def _own(criterion: Criterion, answers: Sequence[Answer], examples: Sequence[Encoded]) -> dict[str, list[float]]:
    """The user's score of each answer, where the criterion is made of one."""
    own = criterion.own
    return {"score": [own(a, e.example) for a, e in zip(answers, examples, strict=True)]} if own else {}


def _check_finite(scores: Sequence[Sequence[float]]) -> None:
    """Raises NotFinite unless all scores of all examples are finite."""
    bad = [row for row in scores if not all(map(math.isfinite, row))]
    if bad:
        first = next(value for value in bad[0] if not math.isfinite(value))
        raise NotFinite(f"the scores of {len(bad)} of {len(scores)} examples are not finite ({first})")


def _loss(task: Task, examples: Sequence[Encoded], scores: Sequence[list[float]]) -> float:
    """The loss that is trained, from mean log-probabilities: over the options, or of the right option's tokens."""
    if task.loss == "lm":
        lengths = [e.rows[e.gold].option_len for e in examples]
        return -sum(s[e.gold] * n for s, e, n in zip(scores, examples, lengths, strict=True)) / sum(lengths)
    return sum(measures.cross_entropy(s, e.gold) for s, e in zip(scores, examples, strict=True)) / len(examples)


def _generation(
    objective: Objective,
    criterion: Criterion,
    examples: Sequence[Encoded],
    batches: list[list[int]],
    threshold: float | None,
    team: Team,
    recorded: bool,
) -> Evaluation:
    def answer(batch: list[int]) -> tuple[list[tuple[float, int]], list[str | None]]:
        found: tuple[Any, Any] = results_of(objective, [examples[i] for i in batch])
        return found

    rows: list[dict[str, Any]] = [{} for _ in examples]
    f1 = [0.0 for _ in examples]
    total, tokens = 0.0, 0
    for batch, (losses, texts) in zip(batches, team.results(answer, batches), strict=True):
        for i, text, (loss, n) in zip(batch, texts, losses, strict=True):
            answers = examples[i].example.answers
            rows[i] = {
                "index": examples[i].example.index,
                "gold": answers[0],
                "prediction": text,
                "scores": [math.nan if text is None else -loss / n],
                "exact_match": metrics.exact_match(text or "", answers),
            }
            f1[i] = metrics.answer_f1(text or "", answers)
            total, tokens = total + loss, tokens + n
    _check_finite([row["scores"] for row in rows])
    added = {"f1": f1, "exact_match": [row["exact_match"] for row in rows]}
    added |= _own(criterion, [row["prediction"] for row in rows], examples)
    for row, score in zip(rows, added[criterion.metric(objective.task)], strict=True):
        row["score"] = score
    values = measures.means(added) | {"loss": total / tokens, "n": len(rows)}
    return Evaluation(values, None, rows)
