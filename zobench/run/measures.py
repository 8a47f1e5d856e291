"""The measures of an evaluation, from right answers and what the model scored each option with."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from zobench.objective import metrics

#: metrics of all right and chosen classes, which are no mean over examples
_OF_CLASSES = {name: metrics.OF_CLASSES[name] for name in ("macro_f1", "mcc")}


def of_classes(gold: Sequence[int], chosen: Sequence[int]) -> dict[str, list[float]]:
    """What each example adds to the metrics of classes."""
    return {name: metrics.shares(metric_of, gold, chosen) for name, metric_of in _OF_CLASSES.items()}


def majority(gold: Sequence[int]) -> float:
    """What always giving the most frequent answer scores in accuracy.

    >>> majority([0, 1, 1])
    0.6666666666666666
    """
    return max(Counter(gold).values()) / len(gold)


def means(added: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Metrics with their standard errors, from what each example adds to them."""
    found = {name: sum(values) / len(values) for name, values in added.items()}
    return found | {f"{name}_stderr": metrics.stderr(values) for name, values in added.items()}


def of_margins(
    gold: Sequence[int], scores: Sequence[Sequence[float]], threshold: float | None
) -> tuple[dict[str, float], float | None]:
    """The measures that a label bias cannot fake, of examples with two options; none where one has another number.

    Args:
        scores: of the options of each example.
        threshold: margin above which option 1 is chosen; None matches the label shares here.

    Returns:
        The measures, and the threshold that was used.
    """
    if not all(len(s) == 2 for s in scores):
        return {}, threshold
    margins, positive = [s[1] - s[0] for s in scores], [g == 1 for g in gold]
    values: dict[str, float] = {}
    if (area := metrics.auc(margins, positive)) is not None:
        values["auc"] = area
        values["auc_stderr"] = metrics.auc_stderr(area, sum(positive), len(gold) - sum(positive))
    if threshold is None:
        threshold = metrics.matching_threshold(margins, positive)
    moved = [int(m > threshold) for m in margins]
    values["accuracy_calibrated"] = sum(m == g for m, g in zip(moved, gold, strict=True)) / len(gold)
    for name, metric_of in _OF_CLASSES.items():
        values[f"{name}_calibrated"] = metric_of(metrics.table(gold, moved))
    return values, threshold


def cross_entropy(scores: Sequence[float], gold: int) -> float:
    """The cross-entropy of the right option, over all options, in nats."""
    top = max(scores)
    return top + math.log(sum(math.exp(s - top) for s in scores)) - scores[gold]
