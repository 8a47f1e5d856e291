"""The base of all tasks: how a row becomes a prompt, its options and its gold answer.

A task is one dataset. Prompts and verbalisers are those of the MeZO suite (arXiv:2305.17333, Table 13).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Row = Mapping[str, Any]
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Example:
    """One row, ready to be tokenised.

    ``options`` are the texts appended to the prompt; ``gold`` is the index of the right one. A generation task has
    one option, the answer to learn, and ``answers``, the texts that count as right.
    """

    index: int
    prompt: str
    options: tuple[str, ...]
    gold: int
    answers: tuple[str, ...] = ()


class Task:
    """A dataset with its prompt, candidates and metric.

    A classification task sets ``columns`` and ``verbaliser`` and defines ``prompt``; others override ``example``.

    Args:
        hub, subset, revision: the hub's dataset id, configuration and pinned commit.
        rows: rows of the hub's train and validation files, asserted on loading.
        splits: named split sizes, each with train, dev and test.
    """

    columns: ClassVar[tuple[str, ...]]
    verbaliser: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[Literal["accuracy", "f1"]] = "accuracy"
    #: classification: cross-entropy over the candidates; lm: cross-entropy on the answer's tokens
    loss: ClassVar[Literal["classification", "lm"]] = "classification"

    def __init__(self, *, hub: str, subset: str, revision: str, rows: Mapping[str, int], splits: Mapping[str, Sizes]):
        self.hub, self.subset, self.revision = hub, subset, revision
        self.rows = rows
        self.splits = splits

    @property
    def generates(self) -> bool:
        return self.metric == "f1"

    def prompt(self, row: Row) -> str:
        raise NotImplementedError

    def example(self, index: int, row: Row) -> Example:
        """The example of one row of a split."""
        return Example(index, self.prompt(row), self.verbaliser, int(row["label"]))

    def problem(self, row: Row) -> str | None:
        """What is wrong with a row's values, or None."""
        label = row.get("label")
        if self.verbaliser and not (isinstance(label, int) and 0 <= label < len(self.verbaliser)):
            return f"label is {label!r}, expected an integer from 0 to {len(self.verbaliser) - 1}"
        return None
