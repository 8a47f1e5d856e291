"""A user's function as a score, each of whose values is checked."""

import reprlib
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from zobench.errors import ConfigError, first_line, shown
from zobench.objective.encode import Encoded
from zobench.tasks.base import Example

#: a generated text, or the mean log-probability of each option's tokens; None, or not finite, where the model fails
Answer = str | list[float] | None
KEY = "objective.score"


class OwnScore:
    """A function of (answer, example) that a user names, which gives a number from 0 to 1, or True or False.

    ``answer`` is the generated text, or a list with the mean log-probability of each option; ``example`` has what the
    row became: ``prompt``, ``options``, ``gold``, ``answers`` (``zobench.tasks.base.Example``).

    Args:
        path: its name, ``my_package.my_module.my_function``, for messages.
        function: what it names.

    Example:
        >>> short = OwnScore("lab.short", lambda answer, example: len(answer) < 5)
        >>> short("Lyon", Example(0, "Where?", (" Lyon",), 0)), short("in Lyon", Example(1, "Where?", (" Lyon",), 0))
        (1.0, 0.0)
    """

    def __init__(self, path: str, function: Callable[[Any, Example], Any]):
        self.path, self._function = path, function

    def __call__(self, answer: Answer, example: Example) -> float:
        """The score of an answer.

        Raises:
            ConfigError: if the function raises, or gives anything else.
        """
        where = f"{KEY}={self.path}: row {example.index}"
        try:
            value = self._function(list(answer) if isinstance(answer, list) else answer, example)
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{where}: it raised {type(error).__name__}: {first_line(error)}") from error
        if isinstance(value, bool | np.bool_ | Real) and 0 <= (score := float(value)) <= 1:
            return score
        raise ConfigError(
            f"{where}: it gave {shown(reprlib.repr(value))}, a {type(value).__name__}; expected a number from 0 to 1, "
            "or True or False"
        )

    def check(self, answers: Sequence[Answer], examples: Sequence[Encoded]) -> None:
        """Score some answers twice.

        Raises:
            ConfigError: if an answer gets two scores, and as a call raises it.
        """
        for answer, encoded in zip(answers, examples, strict=True):
            first, second = self(answer, encoded.example), self(answer, encoded.example)
            if first != second:
                raise ConfigError(
                    f"{KEY}={self.path}: row {encoded.example.index}: one answer got the scores {first:g} and "
                    f"{second:g}; expected a function of (answer, example) alone, without random numbers or memory"
                )
