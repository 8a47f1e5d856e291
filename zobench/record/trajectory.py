"""The trajectory: the losses that each step saw. With the base model and the configuration, all else follows.

Keys are functions of seed, step and query, and what a method adds to the weights and to its own state is a function of
keys and losses. So ``trajectory.jsonl`` rebuilds both to the bit, for every method that is told losses alone. It has a
line a step, ``[step, loss, loss, ...]`` in the order of evaluation, floats exact. The line ahead of them says what else
the moves depend on: ``missed``, weights that the oracle had to move because the model reads them in its own way.
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zobench.errors import DataError
from zobench.record.archive import Place

if TYPE_CHECKING:
    from zobench.zo import Method

NAME = "trajectory.jsonl"


def head(missed: Collection[str]) -> str:
    """The line ahead of all steps.

    >>> head(["model.embed.weight"])
    '{"missed":["model.embed.weight"]}\\n'
    """
    return _line({"missed": list(missed)})


def line(step: int, losses: Sequence[float]) -> str:
    """The line of one step.

    >>> line(1, [0.5, 0.25])
    '[1,0.5,0.25]\\n'

    Args:
        step: its number, from 1.
        losses: in the order of evaluation.
    """
    return _line([step, *losses])


def step_of(text: str) -> float:
    """The step of a line, of this file or of metrics.jsonl; infinite for what a run that goes on will write again.

    Such are the torn last line of a killed run, and the final values of one that was cut before its summary.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return math.inf
    if isinstance(content, list):
        return content[0]
    return math.inf if any(name.startswith("final/") for name in content) else content.get("step", 0)


def replay(
    method: "Method", run: Place, upto: int, progress: Callable[[int, str], None] = lambda n, text: None
) -> None:
    """Take the method, and the weights it trains, to step ``upto`` without forward passes.

    Args:
        method: as it was after its ``t`` first steps.
        run: the run's directory, which may lie in a zip.
        upto: the number of a step.
        progress: is told of each step.

    Raises:
        DataError: if the trajectory or a step is not there, or its losses are not those of this method.
    """
    if method.t >= upto:
        return
    path = run / NAME
    if not path.is_file():
        raise DataError(f"{path}: not there; without it the weights of a step cannot be made again")
    with path.open(encoding="utf-8") as file:
        missed = _missed(next(file, ""), path)
        for losses in _losses(file, method.t, upto, path):
            try:
                method.replay(losses, missed)
            except ValueError as error:
                raise DataError(f"{path}: {error}; another version or configuration has written it") from error
            progress(1, "")


def _line(content: Any) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"


def _missed(text: str, path: Place) -> list[str]:
    try:
        return json.loads(text)["missed"]
    except (json.JSONDecodeError, TypeError, KeyError):
        raise DataError(f"{path}: the first line does not say what was missed; an older version wrote it") from None


def _losses(lines: Iterable[str], after: int, upto: int, path: Place) -> Iterator[list[float]]:
    """The losses of the steps ``after + 1`` to ``upto``, none of which may be missing."""
    step = after
    for text in lines:
        this = step_of(text)
        if this > after:
            if this != step + 1:
                break
            step += 1
            yield json.loads(text)[1:]
        if step == upto:
            return
    raise DataError(f"{path}: step {step + 1} is missing; start again with overwrite=true")
