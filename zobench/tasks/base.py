"""The base of all tasks: how a row of a data set becomes a prompt, its options and its gold answer.

A task is one dataset. Prompts and verbalisers are those of the MeZO suite (arXiv:2305.17333, Table 13).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zobench.errors import shown

#: one row of a data set, by column
Row = Mapping[str, Any]
#: number of rows of train, dev and test
Sizes = Mapping[str, int]
#: length of an example, in tokens, of a task that does not say
TYPICAL_TOKENS = 150


@dataclass(frozen=True)
class Example:
    """One row, ready to be tokenised.

    Attributes:
        index: the row's place in its file, from 0.
        prompt: the text that all options follow.
        options: the texts appended to the prompt, of which the model chooses; for a generation task one, the answer to
            learn.
        gold: index of the right option.
        answers: the texts that count as right, for a generation task; else empty.
    """

    index: int
    prompt: str
    options: tuple[str, ...]
    gold: int
    answers: tuple[str, ...] = ()


class Task:
    """A data set with its prompt, options and metric.

    A classification task sets ``columns`` and ``verbaliser`` and defines ``prompt``; others override ``example``.

    Args:
        splits: named split sizes, each with train, dev and test.
        hub, subset, revision: the hub's dataset id, configuration and pinned commit, of a task that the hub has.
        rows: names of the hub's splits, with their numbers of rows, asserted on loading unless they are None.
        tokens: typical length of a training example, prompt and answer, in tokens. For plans of sweeps, which estimate
            hours before anything is loaded; it changes no run.

    Attributes:
        columns: the columns that a row must have; they hold text, but for those of ``not_text``, which ``problem``
        checks. verbaliser: the text of each label, appended to the prompt. metric:
        how answers are scored, ``accuracy`` of the chosen option or ``f1`` of a generated text; both from 0 to 1. loss:
        ``classification``, cross-entropy over the options, or ``lm``, cross-entropy on the answer's tokens.

    Raises:
        ValueError: for a length that cannot be one.

    Example:
        >>> class Parity(Task):
        ...     columns = ("number", "label")
        ...     verbaliser = (" even", " odd")
        ...
        ...     def prompt(self, row):
        ...         return f"{row['number']} is"
        >>> task = Parity(hub="", subset="", revision="", rows={}, splits={})
        >>> row = {"number": "seven", "label": 1}
        >>> task.example(0, row)
        Example(index=0, prompt='seven is', options=(' even', ' odd'), gold=1, answers=())
        >>> task.problem({"number": "seven", "label": 2})
        'label is 2, expected an integer from 0 to 1'
    """

    columns: tuple[str, ...]
    not_text: tuple[str, ...] = ("label",)
    verbaliser: tuple[str, ...] = ()
    metric: Literal["accuracy", "f1"] = "accuracy"
    loss: Literal["classification", "lm"] = "classification"

    def __init__(
        self,
        *,
        splits: Mapping[str, Sizes],
        hub: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
        rows: Mapping[str, int | None] | None = None,
        tokens: int = TYPICAL_TOKENS,
    ):
        if tokens < 1:
            raise ValueError(f"tokens={tokens}: must be at least 1")
        self.hub, self.subset, self.revision = hub, subset, revision
        self.rows = rows or {}
        self.splits = splits
        self.tokens = tokens

    @property
    def generates(self) -> bool:
        """Whether the model answers in free text and does not choose among options."""
        return self.metric == "f1"

    def prompt(self, row: Row) -> str:
        """The text that a row's options are appended to."""
        raise NotImplementedError

    def example(self, index: int, row: Row) -> Example:
        """The example that a row becomes.

        Args:
            index: the row's place in its file, from 0.
        """
        return Example(index, self.prompt(row), self.verbaliser, int(row["label"]))

    def problem(self, row: Row) -> str | None:
        """What is wrong with a row's values, or None."""
        label = row.get("label")
        # True and False are integers to Python, but not which of two labels they mean
        if self.verbaliser and not (type(label) is int and 0 <= label < len(self.verbaliser)):
            return f"label is {shown(repr(label))}, expected an integer from 0 to {len(self.verbaliser) - 1}"
        return None


def incomplete(task: object) -> str | None:
    """What a class lacks to be a task, of which an object was made; None if nothing.

    >>> incomplete(Task(hub="", subset="", revision="", rows={}, splits={}))
    'Task has no columns; expected a class below zobench.tasks.base.Task that sets them'
    """
    if not isinstance(task, Task):
        return f"{type(task).__name__} is no task; expected a class below zobench.tasks.base.Task"
    kind = type(task)
    columns = getattr(task, "columns", None)
    if not columns or isinstance(columns, str):
        return f"{kind.__name__} has no columns; expected a class below zobench.tasks.base.Task that sets them"
    if kind.example is Task.example and (kind.prompt is Task.prompt or len(task.verbaliser) < 2):
        return f"{kind.__name__} makes no examples; expected prompt and a verbaliser of two labels or more, or example"
    return None
