"""Scores of predictions: macro-F1, MCC, area under the curve, answer F1 and exact match, with standard errors."""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNANSWERABLE = ("CANNOTANSWER", "no answer")


def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles, single spaces (arXiv:1606.05250, section 6.1)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the normal forms of the prediction and of an answer are equal."""
    return float(any(normalise(answer) == normalise(prediction) for answer in answers))


def answer_f1(prediction: str, answers: Sequence[str]) -> float:
    """The best token F1 over the answers; 0.0 where nothing is shared, even between two empty texts.

    The official SQuAD script scores two empty texts 1; the MeZO suite does not, and this follows the suite.
    """
    if answers[0] in _UNANSWERABLE:
        return exact_match(prediction, answers[:1])
    return max(_token_f1(normalise(prediction).split(), normalise(answer).split()) for answer in answers)


def _token_f1(predicted: list[str], gold: list[str]) -> float:
    same = sum((Counter(predicted) & Counter(gold)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def stderr(values: Sequence[float]) -> float:
    """Standard error of a mean, from the spread of the values with divisor n; for 0/1 values √(p(1−p)/n)."""
    return float(np.std(values) / math.sqrt(len(values)))


def macro_f1(pairs: Mapping[tuple[int, int], int]) -> float:
    """The mean F1 of the classes that are right or chosen somewhere; a class that is never both counts 0.

    Args:
        pairs: how often each (right, chosen) pair of classes occurs.
    """
    right, chosen, both = Counter[int](), Counter[int](), Counter[int]()
    for (gold, answer), n in pairs.items():
        right[gold] += n
        chosen[answer] += n
        both[gold] += n * (gold == answer)
    there = [label for label in {*right, *chosen} if right[label] + chosen[label]]
    return sum(2 * both[label] / (right[label] + chosen[label]) for label in there) / max(1, len(there))


def mcc(pairs: Mapping[tuple[int, int], int]) -> float:
    """Matthews' correlation of right and chosen classes, of any number (Gorodkin 2004, R_K); 0 where one is constant.

    Args:
        pairs: how often each (right, chosen) pair of classes occurs.
    """
    right, chosen = Counter[int](), Counter[int]()
    for (gold, answer), n in pairs.items():
        right[gold] += n
        chosen[answer] += n
    n, hits = sum(right.values()), sum(count for (gold, answer), count in pairs.items() if gold == answer)
    covariance = hits * n - sum(right[label] * chosen[label] for label in right)
    spread = (n * n - sum(c * c for c in right.values())) * (n * n - sum(c * c for c in chosen.values()))
    return covariance / math.sqrt(spread) if spread else 0.0


def shares(
    metric: Callable[[Mapping[tuple[int, int], int]], float], gold: Sequence[int], chosen: Sequence[int]
) -> list[float]:
    """What each example adds to a metric that is no mean of scores: numbers whose mean is the metric.

    They are the jackknife's: ``θ + (n − 1)(mean of θ₋ᵢ − θ₋ᵢ)``, where ``θ₋ᵢ`` is the metric without example i. Their
    spread gives the metric's standard error (Efron 1982, chapter 3).

    Example:
        >>> [round(share, 2) for share in shares(macro_f1, [0, 0, 1, 1], [0, 1, 1, 1])]
        [1.58, -0.22, 0.78, 0.78]
    """
    pairs, n = Counter(zip(gold, chosen, strict=True)), len(gold)
    whole = metric(pairs)
    without = {pair: metric(pairs - Counter([pair])) for pair in pairs}
    mean = sum(without[pair] * count for pair, count in pairs.items()) / n
    return [whole + (n - 1) * (mean - without[pair]) for pair in zip(gold, chosen, strict=True)]


def auc(margins: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties one half.

    None if a class is absent.
    """
    scores, flags = np.asarray(margins, float), np.asarray(positive, bool)
    n, p = int((~flags).sum()), int(flags.sum())
    if n == 0 or p == 0:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[flags].sum() - p * (p + 1) / 2) / (n * p))


def auc_stderr(area: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC (Hanley and McNeil 1982, equation 1)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return math.sqrt(max(0.0, variance) / (positives * negatives))


def matching_threshold(margins: Sequence[float], positive: Sequence[bool]) -> float:
    """The threshold above which as many margins lie as there are positives.

    It removes a label bias and nothing else. Maximising accuracy instead was noisier, and gave a weaker baseline.
    """
    scores = np.sort(np.asarray(margins, float))
    cut = len(scores) - int(np.asarray(positive, bool).sum())
    below = scores[cut - 1] if cut > 0 else scores[0] - 2.0
    above = scores[cut] if cut < len(scores) else scores[-1] + 2.0
    return float((below + above) / 2)
