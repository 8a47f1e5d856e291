"""Tasks in YAML alone: a prompt with column names in braces, and options or a column of answers."""

from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from zobench.errors import shown
from zobench.tasks.base import Example, Row, Task

#: what may follow a column's name, as in ``{sentence:strip}``
FILTERS: dict[str, Callable[[str], str]] = {"": str, "strip": str.strip, "lower": str.lower}


class Template:
    """A text with column names in braces, such as ``{premise}``.

    ``{name:strip}`` and ``{name:lower}`` change the value. A dot leads into a column that holds others, as in
    ``{answers.text}``. ``{{`` and ``}}`` stand for braces.

    Attributes:
        columns: the names of the columns, in their order.

    Raises:
        ValueError: for braces that do not match, an empty name or another filter.

    Example:
        >>> Template("{sentence:strip} It was").fill({"sentence": "a warm film . "})
        'a warm film . It was'
    """

    def __init__(self, text: str):
        self.text = text
        self._parts = [(literal, name, kind or "") for literal, name, kind, _ in Formatter().parse(text)]
        for _, name, kind in self._parts:
            if name is not None and (not name.strip() or kind not in FILTERS):
                known = ", ".join(filter(None, FILTERS))
                raise ValueError(
                    f"{{{name}{':' * bool(kind)}{kind}}}: expected {{column}} or {{column:filter}}, one of {known}"
                )
        self.columns = tuple(dict.fromkeys(name.partition(".")[0] for _, name, _ in self._parts if name is not None))

    def fill(self, row: Row) -> str:
        """The text for a row."""
        return "".join(
            literal + ("" if name is None else FILTERS[kind](str(value(row, name))))
            for literal, name, kind in self._parts
        )


def value(row: Row, path: str) -> Any:
    """The value of a column, or of one within it that a dotted path leads to; None where there is none."""
    found: Any = row
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


class TemplateTask(Task):
    """A task whose prompt is a template, with options to choose from or answers to generate.

    Args:
        prompt: a ``Template``.
        options: templates of the texts that follow the prompt: a list, for labels 0, 1, ...; or a mapping from the
            values of the label column. None for a task that generates.
        label: the column of labels.
        answer: the column of a generated answer, one text or a list of texts that all count as right. The first is
            learned, after a space and with a newline at its end.
        facts: the arguments of ``Task``.

    Raises:
        ValueError: for a template that names no column, or options and answers that cannot be.
    """

    def __init__(
        self,
        *,
        prompt: str,
        options: Mapping[Any, str] | Sequence[str] | None = None,
        label: str = "label",
        answer: str | None = None,
        **facts: Any,
    ):
        super().__init__(**facts)
        self._prompt = Template(prompt)
        self._label, self._answer = label, answer
        named = options if isinstance(options, Mapping) else dict(enumerate(options or ()))
        self._gold = {str(name): place for place, name in enumerate(named)}
        self._options = [Template(text) for text in named.values()]
        read = [*self._prompt.columns, *(name for option in self._options for name in option.columns)]
        target = answer.partition(".")[0] if answer else label
        self.columns = tuple(dict.fromkeys([*read, target]))
        self.not_text = (target,)
        self.loss = "lm" if answer else "classification"

    def prompt(self, row: Row) -> str:
        return self._prompt.fill(row)

    def example(self, index: int, row: Row) -> Example:
        if self._answer:
            answers = tuple(_listed(value(row, self._answer)))
            return Example(index, self.prompt(row), (f" {answers[0]}\n",), 0, answers)
        options = tuple(option.fill(row) for option in self._options)
        return Example(index, self.prompt(row), options, self._gold[str(row[self._label])])

    def problem(self, row: Row) -> str | None:
        if self._answer:
            answers = value(row, self._answer)
            texts = _listed(answers)
            if texts and all(isinstance(text, str) and text.strip() for text in texts):
                return None
            return f"{self._answer} is {shown(repr(answers))}, expected a text that is not empty, or a list of them"
        label = row.get(self._label)
        if str(label) not in self._gold:
            return f"{self._label} is {shown(repr(label))}, expected one of {shown(', '.join(self._gold))}"
        return None


def _listed(answers: Any) -> list[Any]:
    return answers if isinstance(answers, list) else [answers]
