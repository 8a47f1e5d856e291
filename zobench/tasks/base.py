"""The base of all tasks: how a row of a data set becomes a prompt, its options and its gold answer.

A task is one dataset. Prompts and verbalisers are those of the MeZO suite (arXiv:2305.17333, Table 13).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zobench.errors import shown

#: one row of a data set, by column
Row = Mapping[str, Any]
#: rows of train, dev and test: how many, or as a float which share of the file that they are drawn from
Sizes = Mapping[str, int | float]
#: what a data set is divided into
PARTS = ("train", "dev", "test")
#: how chosen options (False) and generated texts (True) may be scored; the first of each unless a task says
METRICS = {False: ("accuracy", "macro_f1", "mcc"), True: ("f1", "exact_match")}
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
        right: the options that count as right where there may be several, ``gold`` among them; else empty.
    """

    index: int
    prompt: str
    options: tuple[str, ...]
    gold: int
    answers: tuple[str, ...] = ()
    right: tuple[int, ...] = ()

    @property
    def rights(self) -> tuple[int, ...]:
        """The options that count as right: ``gold`` alone, unless there are several."""
        return self.right or (self.gold,)


class Task:
    """A data set with its prompt, options and metric.

    A classification task sets ``columns`` and ``verbaliser`` and defines ``prompt``; others override ``example``.

    Args:
        splits: sizes of train, dev and test: one set for every protocol, or named sets. None: train is what the others
            leave; dev is a tenth of the train file, at most 500 rows; test is the test file, at most 1,000 rows of it,
            or a tenth of the train file.
        files: local files that hold the rows: the path of one, or paths by ``train``, ``dev`` and ``test``, of which
            those that are left out are drawn from the train file.
        hub, subset, revision: the hub's dataset id, configuration and pinned commit, of a task that the hub has.
        rows: names of the hub's splits, with their numbers of rows, asserted on loading unless they are None.
        tokens: typical length of a training example, prompt and answer, in tokens. For plans of sweeps, which estimate
            hours before anything is loaded; it changes no run.

    Attributes:
        columns: the columns that a row must have, or dotted paths into them; they hold text, but for those of
            ``not_text``, which ``problem`` checks.
        verbaliser: the text of each label, appended to the prompt.
        generates: whether the model answers in free text and does not choose among options.
        metric: how answers are scored, one of ``METRICS``.
        loss: ``classification``, cross-entropy over the options, or ``lm``, cross-entropy on the answer's tokens.

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
        Example(index=0, prompt='seven is', options=(' even', ' odd'), gold=1, answers=(), right=())
        >>> task.problem({"number": "seven", "label": 2})
        'label is 2, expected an integer from 0 to 1'
    """

    columns: tuple[str, ...]
    not_text: tuple[str, ...] = ("label",)
    verbaliser: tuple[str, ...] = ()
    generates: bool = False
    metric: str = "accuracy"
    loss: Literal["classification", "lm"] = "classification"

    def __init__(
        self,
        *,
        splits: Sizes | Mapping[str, Sizes] | None = None,
        files: str | Mapping[str, str] | None = None,
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
        self.splits = splits or {}
        self.files = files_of(files)
        _check_sizes(self.splits)
        self.tokens = tokens

    def sizes(self, name: str) -> Sizes | None:
        """The sizes of a name; the one set that there is, whatever the name; None where sizes are not given.

        Raises:
            KeyError: if there are named sets, and none of that name.
        """
        if not self.splits:
            return None
        return self.splits if one_set(self.splits) else self.splits[name]  # type: ignore[return-value]

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

    def asks(self, column: str) -> str | None:
        """The setting that asks for a column, such as ``task.prompt``; None where the class itself does."""
        return None

    def unknown_label(self, row: Row) -> str | None:
        """A row's label as text where it is that of no option; None where it is, and for tasks that number them."""
        return None


def value_of(row: Row, path: str) -> Any:
    """The value of a column, or of one within it that a dotted path leads to; None where there is none.

    >>> value_of({"answers": {"text": ["Lyon"]}}, "answers.text")
    ['Lyon']
    """
    found: Any = row
    for name in [path] if path in row else path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def one_set(splits: Any) -> bool:
    """Whether sizes are given once for all protocols and not by name.

    >>> one_set({"train": 0.8, "dev": 0.1, "test": 0.1}), one_set({"clean": {"train": 16, "dev": 8, "test": 8}})
    (True, False)
    """
    return not isinstance(splits, Mapping) or not any(isinstance(value, Mapping) for value in splits.values())


def files_of(files: str | Mapping[str, str] | None) -> dict[str, str]:
    """Paths by ``train``, ``dev`` and ``test``, from a task's ``files``; empty where there are none.

    >>> files_of("tickets.csv"), files_of({"train": "a.csv", "test": None})
    ({'train': 'tickets.csv'}, {'train': 'a.csv'})

    Raises:
        ValueError: for other names, no train file, or a path that is no text.
    """
    if not isinstance(files, Mapping):
        files = {} if files is None else {"train": files}
    elif unknown := [name for name in files if name not in PARTS]:
        raise ValueError(f"files.{unknown[0]}={shown(files[unknown[0]])}: expected train, dev or test")
    found = {name: path for name, path in files.items() if path is not None}
    for name, path in found.items():
        if not isinstance(path, str) or not path.strip():
            raise ValueError(f"files.{name}={shown(repr(path))}: expected the path of a file")
    if found and "train" not in found:
        raise ValueError(f"files={shown(found)}: expected a train file among them")
    return found


def _check_sizes(splits: Mapping[str, Any]) -> None:
    for name, sizes in {"": splits}.items() if one_set(splits) else splits.items():
        where = f"splits.{name}" if name else "splits"
        if not isinstance(sizes, Mapping):
            raise ValueError(f"{where}={sizes}: expected its sizes of train, dev and test")
        if sizes and set(sizes) != set(PARTS):
            raise ValueError(f"{where}={dict(sizes)}: expected sizes of train, dev and test")
        for part, size in sizes.items():
            share = isinstance(size, float) and 0 < size <= 1
            if not share and not (type(size) is int and size >= 1):
                raise ValueError(
                    f"{where}.{part}={size}: expected a number of rows, at least 1, or a share of them such as 0.8"
                )


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
    if task.metric not in METRICS[bool(task.generates)]:
        known, kind_of = (
            ", ".join(METRICS[bool(task.generates)]),
            "generates texts" if task.generates else "has options",
        )
        return (
            f"{kind.__name__} {kind_of} and metric={task.metric}; expected {known}, or generates={not task.generates}"
        )
    if kind.example is Task.example and (kind.prompt is Task.prompt or len(task.verbaliser) < 2):
        return f"{kind.__name__} makes no examples; expected prompt and a verbaliser of two labels or more, or example"
    return None
