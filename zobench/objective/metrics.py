"""Scores of predictions: macro-F1, MCC, area under the curve, answer F1 and exact match, with standard errors."""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

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


def likeliest(scores: Sequence[float]) -> int:
    """The option with the highest score, the first of several.

    >>> likeliest([-2.0, -1.0, -1.0])
    1
    """
    return scores.index(max(scores))


def right(scores: Sequence[float], rights: Sequence[int]) -> float:
    """1.0 if the likeliest option counts as right."""
    return float(likeliest(scores) in rights)


def stderr(values: Sequence[float]) -> float:
    """Standard error of a mean, from the spread of the values with divisor n; for 0/1 values √(p(1−p)/n)."""
    return float(np.std(values) / math.sqrt(len(values)))


def table(gold: Sequence[int], chosen: Sequence[int]) -> np.ndarray:
    """How often each class that is right (rows) was answered with each class (columns); classes are integers from 0.

    >>> table([0, 0, 1, 1], [0, 1, 1, 1]).tolist()
    [[1, 1], [0, 2]]
    """
    classes = 1 + max(*gold, *chosen)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (gold, chosen), 1)
    return counts


def macro_f1(counts: np.ndarray) -> float:
    """The mean F1 of the classes that are right or chosen somewhere; a class that is never both counts 0.

    Args:
        counts: from ``table``.

    Example:
        >>> round(macro_f1(table([0, 0, 1, 1], [0, 1, 1, 1])), 3)
        0.733
    """
    both = counts.sum(0) + counts.sum(1)
    there = both > 0
    return float((2 * counts.diagonal()[there] / both[there]).mean()) if there.any() else 0.0


def mcc(counts: np.ndarray) -> float:
    """Matthews' correlation of right and chosen classes, of any number (Gorodkin 2004, R_K); 0 where one is constant.

    Args:
        counts: from ``table``.

    Example:
        >>> round(mcc(table([0, 0, 1, 1], [0, 1, 1, 1])), 3)
        0.577
    """
    counts = counts.astype(float)  # their products outgrow integers
    n, right, chosen = counts.sum(), counts.sum(1), counts.sum(0)
    spread = (n * n - right @ right) * (n * n - chosen @ chosen)
    return float((n * counts.trace() - right @ chosen) / math.sqrt(spread)) if spread else 0.0


def shares(metric: Callable[[np.ndarray], float], gold: Sequence[int], chosen: Sequence[int]) -> list[float]:
    """What each example adds to a metric that is no mean of scores: numbers whose mean is the metric.

    They are the jackknife's: ``θ + (n − 1)(mean of θ₋ᵢ − θ₋ᵢ)``, where ``θ₋ᵢ`` is the metric without example i. Their
    spread gives the metric's standard error (Efron 1982, chapter 3).

    Args:
        metric: of a ``table``, such as ``macro_f1``.
        gold, chosen: the right and the chosen class of each example, integers from 0.

    Example:
        >>> [round(share, 2) for share in shares(macro_f1, [0, 0, 1, 1], [0, 1, 1, 1])]
        [1.58, -0.22, 0.78, 0.78]
    """
    n, counts = len(gold), table(gold, chosen)
    whole, without = metric(counts), np.zeros(counts.shape)
    for pair in zip(*counts.nonzero(), strict=True):  # examples of one pair add the same
        counts[pair] -= 1
        without[pair] = metric(counts)
        counts[pair] += 1
    added = whole + (n - 1) * ((counts * without).sum() / n - without)
    return [float(added[pair]) for pair in zip(gold, chosen, strict=True)]


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


#: metrics of generated texts: of one and the texts that count as right
OF_TEXT = {"f1": answer_f1, "exact_match": exact_match}
#: metrics of a table of right and chosen classes, which are no mean over examples
OF_CLASSES = {"macro_f1": macro_f1, "mcc": mcc}
