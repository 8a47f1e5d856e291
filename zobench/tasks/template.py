"""Tasks in YAML alone: a prompt with column names in braces, and options or a column of answers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

from zobench.errors import shown
from zobench.tasks.base import METRICS, Example, Row, Task, value_of

#: what may follow a column's name, as in ``{sentence:strip}``
FILTERS: dict[str, Callable[[str], str]] = {
    "": str, "strip": str.strip, "lower": str.lower,
    "question": lambda text: (text[:1].upper() + text[1:]).removesuffix("?") + "?",
}  # fmt: skip
#: what YAML 1.1 reads as true and as false, so that a mapping from ``yes`` has the key true
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


class Template:
    """A text with column names in braces, such as ``{premise}``.

    ``{name:strip}`` and ``{name:lower}`` change the value; ``{name:question}`` gives it a capital and a question mark.
    A dot leads into a column that holds others, as in ``{answers.text}``. ``{{`` and ``}}`` stand for braces. A
    template is data: it reaches columns and nothing else.

    Attributes:
        names: the columns, and the places within them, that are filled in, each once.

    Raises:
        ValueError: for braces that do not match, an empty name or another filter.

    Example:
        >>> Template("{sentence:strip} It was").fill({"sentence": "a warm film . "})
        'a warm film . It was'
    """

    def __init__(self, text: str):
        self.text = text
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{error}; write {{{{ and }}}} for braces that are no column") from error
        for _, name, kind, conversion in parts:
            if name is not None and (not name.strip() or conversion or (kind or "") not in FILTERS):
                known = " or ".join(f"{{column:{each}}}" for each in FILTERS if each)
                written = f"{{{name}{f'!{conversion}' if conversion else ''}{f':{kind}' if kind else ''}}}"
                raise ValueError(f"{written} names no column; expected {{column}}, {known}")
        self._parts = [(literal, name, kind or "") for literal, name, kind, _ in parts]
        self.names = tuple(dict.fromkeys(name for _, name, _ in self._parts if name is not None))

    def fill(self, row: Row) -> str:
        """The text for a row."""
        return "".join(
            literal + ("" if name is None else FILTERS[kind](str(value_of(row, name))))
            for literal, name, kind in self._parts
        )


class TemplateTask(Task):
    """A task whose prompt is a template, with options to choose from or answers to generate.

    Args:
        prompt: a ``Template``.
        options: templates of the texts that follow the prompt: a list, for labels 0, 1, ...; or a mapping from the
            values of the label column. None for a task that generates.
        label: the column of labels.
        answer: the column of a generated answer, one text or a list of texts that all count as right. The first is
            learned, after a space and with a newline at its end.
        metric: ``accuracy`` (None), ``macro_f1`` or ``mcc`` for options; ``f1`` (None) or ``exact_match`` for answers.
        facts: the arguments of ``Task``.

    Raises:
        ValueError: for a prompt that names no column, and for options, answers and metrics that do not go together.

    Example:
        >>> task = TemplateTask(prompt="{text} It was", options={"neg": " bad", "pos": " good"}, label="mood")
        >>> task.example(0, {"text": "Fine.", "mood": "pos"})
        Example(index=0, prompt='Fine. It was', options=(' bad', ' good'), gold=1, answers=(), right=())
        >>> task.problem({"text": "Fine.", "mood": "great"})
        "mood is 'great', expected one of neg, pos (task.options)"
    """

    def __init__(
        self,
        *,
        prompt: str,
        options: Mapping[Any, str] | Sequence[str] | None = None,
        label: str = "label",
        answer: str | None = None,
        metric: str | None = None,
        **facts: Any,
    ):
        super().__init__(**facts)
        self._label, self._answer = label, answer
        self._prompt = _template("prompt", prompt)
        if not self._prompt.names:
            raise ValueError(f"prompt={shown(repr(prompt))}: names no column; expected one in braces, such as {{text}}")
        if bool(options) == bool(answer):
            raise ValueError(f"options={shown(options)}, answer={shown(answer)}: expected options or an answer column")
        self.generates = bool(answer)
        metrics = METRICS[self.generates]
        if metric is not None and metric not in metrics:
            kind = "an answer column" if answer else "options"
            raise ValueError(f"metric={shown(metric)}: expected {', '.join(metrics)} for a task with {kind}")
        self.metric = metric or metrics[0]
        self.loss = "lm" if answer else "classification"
        named = dict(_named(options or {}))
        self._words = [_word(name) for name in named]
        self._by_number = not isinstance(options, Mapping)
        self._expected = (
            f"an integer from 0 to {len(named) - 1}"
            if self._by_number
            else f"one of {shown(', '.join(self._words), 200)} (task.options)"
        )
        self._gold = {word: place for place, name in enumerate(named) for word in _words_of(name)}
        self._options = [_template(f"options.{_word(name)}", text) for name, text in named.items()]
        _check_options(dict(zip(self._words, self._options, strict=True)))
        self._fixed = not any(option.names for option in self._options)
        read = [name for template in (self._prompt, *self._options) for name in template.names]
        if not answer and label in read:
            raise ValueError(f"label={shown(label)}: is in the prompt or an option, where the model would read it off")
        self.columns = tuple(dict.fromkeys([*read, answer or label]))
        self.not_text = self.columns  # ``problem`` tells what is no text

    def prompt(self, row: Row) -> str:
        return self._prompt.fill(row)

    def example(self, index: int, row: Row) -> Example:
        if self._answer:
            answers = tuple(map(str, _listed(value_of(row, self._answer))))
            return Example(index, self.prompt(row), (f" {answers[0]}\n",), 0, answers)
        options = tuple(option.fill(row) for option in self._options)
        return Example(index, self.prompt(row), options, self._gold[_word(value_of(row, self._label))])

    def problem(self, row: Row) -> str | None:
        for template in (self._prompt, *self._options):
            if problem := _not_text(template, row):
                return problem
        if self._answer:
            answers = value_of(row, self._answer)
            texts = _listed(answers)
            if texts and all(_is_text(text) and str(text).strip() for text in texts):
                return None
            return f"{self._answer} is {shown(repr(answers))}, expected a text or a list of texts, none of them empty"
        label = value_of(row, self._label)
        if _word(label) not in self._gold:
            return f"{self._label} is {shown(repr(label))}, expected {self._expected}"
        filled = [] if self._fixed else [option.fill(row) for option in self._options]
        if not all(map(str.strip, filled)) or len(set(filled)) < len(filled):
            return f"its options are {shown(filled, 200)}, expected texts that are not empty, all different"
        return None

    def asks(self, column: str) -> str | None:
        if column in self._prompt.names:
            return "task.prompt"
        own = "task.answer" if self._answer else "task.label"
        return own if column == (self._answer or self._label) else "task.options"

    def unknown_label(self, row: Row) -> str | None:
        word = _word(value_of(row, self._label))
        return None if self._answer or self._by_number or word in self._gold else word


def _template(key: str, text: Any) -> Template:
    if not isinstance(text, str):
        raise ValueError(f"{key}={shown(repr(text))}: expected a text; put it in quotes")
    try:
        return Template(text)
    except ValueError as error:
        raise ValueError(f"{key}={shown(repr(text))}: {error}") from error


def _named(options: Mapping[Any, str] | Sequence[str]) -> Iterator[tuple[Any, str]]:
    if isinstance(options, str) or not isinstance(options, Mapping | Sequence):
        raise ValueError(f"options={shown(repr(options))}: expected a list of texts, or a mapping from labels to texts")
    yield from options.items() if isinstance(options, Mapping) else enumerate(options)


def _check_options(options: Mapping[str, Template]) -> None:
    """Raises ValueError for options among which no model could choose."""
    if len(options) == 1:
        raise ValueError(f"options={next(iter(options))}: there is one alone; expected two or more")
    seen: dict[str, str] = {}
    for label, option in options.items():
        if not option.text.strip():
            raise ValueError(f"options.{label}={option.text!r}: is empty; expected the text that follows the prompt")
        same = seen.setdefault(option.text.strip(" "), label)
        if same != label:
            raise ValueError(f"options.{label}={option.text!r}: is that of {same} too; expected texts that differ")


def _listed(answers: Any) -> list[Any]:
    return answers if isinstance(answers, list) else [answers]


def _not_text(template: Template, row: Row) -> str | None:
    """What of a row cannot be put into a template; None if all can."""
    for name in template.names:
        found = value_of(row, name)
        if not _is_text(found):
            return f"{name} is {shown(repr(found))}, expected text"
    return None


def _is_text(value: Any) -> bool:
    """Whether a value is a text, or a number, whose text is plain."""
    return type(value) in (str, int) or (isinstance(value, float) and math.isfinite(value))


def _word(label: Any) -> str:
    """A label as text, by which rows and options are compared: a whole float as an integer."""
    if isinstance(label, bool):
        return str(label).lower()
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _words_of(name: Any) -> tuple[str, ...]:
    """The labels that a key of the options stands for."""
    if not isinstance(name, bool):
        return (_word(name),)
    return tuple(form for word in (_TRUE if name else _FALSE) for form in (word, word.title(), word.upper()))
