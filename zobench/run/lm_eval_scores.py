"""How lm-evaluation-harness scores an exported run; written beside it, after ``zobench.objective.metrics``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zobench.objective.metrics import answer_f1, exact_match, macro_f1, mcc, table


def rows(**settings: Any) -> dict[str, Any]:
    """The data set: what stands in ``test.jsonl``, beside this file.

    Args:
        settings: of the harness; none is needed.
    """
    import datasets

    lines = Path(__file__).with_name("test.jsonl").read_text(encoding="utf-8").split("\n")
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines if line])}


def chosen(row: dict[str, Any], results: Sequence[tuple[float, bool]]) -> int:
    """The place of the option with the highest mean log-probability of its tokens, the first of equals.

    Args:
        row: with ``lengths``, the options' numbers of tokens.
        results: summed log-probabilities, the harness's. One more than options are of the end of the prompt and each
            option, and last of the end of the prompt alone, which is taken off.

    Example:
        >>> chosen({"lengths": [1, 2]}, [(-1.5, False), (-2.0, False)])
        1
        >>> chosen({"lengths": [1, 2]}, [(-1.5, False), (-3.0, False), (-1.0, False)])
        0
    """
    sums = [value for value, _ in results]
    before = sums.pop() if len(sums) > len(row["lengths"]) else 0.0
    means = [(value - before) / length for value, length in zip(sums, row["lengths"], strict=True)]
    return means.index(max(means))


def choose(row: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """What a row adds to accuracy: 1 where a right option is chosen."""
    return {"accuracy": float(chosen(row, results) in row["right"])}


def classify(row: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """What a row adds to metrics of all classes: the right one and the one that is chosen."""
    pair = (row["right"][0], chosen(row, results))
    return {"accuracy": float(pair[0] == pair[1]), "macro_f1": pair, "mcc": pair}


def answer(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """What a row adds to F1 and exact match: the first line of the answer against those that are right."""
    text = results[0].partition("\n")[0].strip()
    return {"f1": answer_f1(text, row["answers"]), "exact_match": exact_match(text, row["answers"])}


def macro_f1_of(pairs: Sequence[tuple[int, int]]) -> float:
    """The mean F1 of the classes, from what ``classify`` says of each row."""
    return macro_f1(table(*zip(*pairs, strict=True)))


def mcc_of(pairs: Sequence[tuple[int, int]]) -> float:
    """Matthews' correlation, from what ``classify`` says of each row."""
    return mcc(table(*zip(*pairs, strict=True)))
