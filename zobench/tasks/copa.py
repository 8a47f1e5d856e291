"""COPA (SuperGLUE edition, arXiv:1905.00537): which of two sentences is the cause or the effect of another."""

from zobench.errors import shown
from zobench.tasks.base import Example, Row, Task

_JOINS = {"effect": " so ", "cause": " because "}


class COPA(Task):
    """Choice of plausible alternatives; label 0 is ``choice1``, 1 ``choice2``.

    The premise goes on with "so" or "because" and a choice, whose first word is put in lower case unless it is "I".
    The right choice's tokens are learned; the choices are compared by their mean log-probability.
    """

    columns = ("premise", "choice1", "choice2", "question", "label")
    loss = "lm"

    def prompt(self, row: Row) -> str:
        return row["premise"].rstrip().removesuffix(".") + _JOINS[row["question"]]

    def example(self, index: int, row: Row) -> Example:
        options = tuple(_joined(row[choice]) for choice in ("choice1", "choice2"))
        return Example(index, self.prompt(row), options, row["label"])

    def problem(self, row: Row) -> str | None:
        if row["question"] not in _JOINS:
            return f"question is {shown(repr(row['question']))}, expected cause or effect"
        if type(row["label"]) is not int or row["label"] not in (0, 1):
            return f"label is {shown(repr(row['label']))}, expected an integer from 0 to 1"
        return None


def _joined(choice: str) -> str:
    first, space, rest = choice.partition(" ")
    return (first if first == "I" else first.lower()) + space + rest
