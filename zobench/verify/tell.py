"""Verdicts in a terminal and as a file."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from zobench.errors import shown
from zobench.system.markdown import pipe_table
from zobench.verify.verdict import CONSISTENT, REFUTED, VERIFIED, Verdict

_PATH = 1000  # characters of a path
_WORDS = (VERIFIED, CONSISTENT, REFUTED)


def line(verdict: Verdict) -> str:
    """A run's verdict in a line, whatever the name of its folder is."""
    why = f": {verdict.reason}" if verdict.reason else ""
    return f"{verdict.word:<10} {verdict.seconds:5.1f} s  {shown(str(verdict.place), _PATH)}{why}"


def table(verdicts: Sequence[Verdict]) -> str:
    """How many runs of each task, model and method have which verdict.

    A run whose row cannot be read is counted by the folders that it lies in:

    >>> from pathlib import Path
    >>> print(table([Verdict(Path("runs/toy/tiny/mezo/1a2b3c4d"), differs=["summary.json: cut short"])]))
    | task | model | method | runs | verified | consistent | refuted | s a run |
    | ---- | ----: | -----: | ---: | -------: | ---------: | ------: | ------: |
    | toy  |  tiny |   mezo |    1 |        0 |          0 |       1 |     0.0 |
    """
    groups: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(_of(verdict), []).append(verdict)
    cells = [["task", "model", "method", "runs", *_WORDS, "s a run"]]
    for names, of in sorted(groups.items()):
        count = Counter(verdict.word for verdict in of)
        seconds = sum(verdict.seconds for verdict in of) / len(of)
        cells.append([*names, str(len(of)), *(str(count[word]) for word in _WORDS), f"{seconds:.1f}"])
    return pipe_table(cells)


def _of(verdict: Verdict) -> tuple[str, ...]:
    """Task, model and method of a run; as its folders are named where its row cannot be read."""
    names = ("task", "model", "method")
    folders = ["-"] * len(names) + [shown(part) for part in str(verdict.place).split("/")[:-1]]
    return tuple(str(verdict.row.get(name, folder)) for name, folder in zip(names, folders[-3:], strict=True))


def total(verdicts: Sequence[Verdict], lines: Sequence[str]) -> str:
    """All verdicts in one line.

    >>> total([], ["toy, mezo, tuned: seeds 3 are missing"])
    '0 runs: 0 verified, 0 consistent, 0 refuted; 1 line on rules and submission'
    """
    count = Counter(verdict.word for verdict in verdicts)
    said = ", ".join(f"{count[word]} {word}" for word in _WORDS)
    return (
        f"{len(verdicts)} runs: {said}"
        + f"; {len(lines)} line{'s' * (len(lines) > 1)} on rules and submission" * bool(lines)
    )


def as_json(verdicts: Sequence[Verdict], lines: Sequence[str], submission: dict[str, Any] | None) -> str:
    """Everything that was found, as the text of a file."""
    found = {"submission": submission, "lines": list(lines), "runs": [verdict.as_json() for verdict in verdicts]}
    return json.dumps(found, indent=1, default=str) + "\n"
