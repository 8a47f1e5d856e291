"""The trajectory: the losses that each step saw. With the base model and the configuration, all else follows.

Keys are functions of seed, step and query, and what a method adds to the weights and to its own state is a function of
keys and losses. So ``trajectory.jsonl`` rebuilds both to the bit, for every method that is told losses alone. It has a
line a step, ``[step, loss, loss, ..., checksum]`` in the order of evaluation, floats exact; where losses per example
were asked for, a list of them stands in the place of a loss. The line ahead of them says what else the moves depend on:
``missed``, weights that the oracle moved, because the model reads them in its own way or because that was cheaper;
``side``, that other matrices whose directions have factors stayed where they are (earlier versions moved them);
``run``, a hash of what makes the run this one; and ``by``, the code that measured the losses. Where other code goes on,
a line with ``run`` and ``by`` is ahead of its steps.

A checksum is the CRC-32 of all lines up to there, so that a line that was changed, dropped, doubled or moved shows.
Files of earlier versions have none.
"""

import json
import math
import re
import zlib
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zobench.errors import DataError
from zobench.record.archive import Place

if TYPE_CHECKING:
    from zobench.zo import Method
    from zobench.zo.closure import Entry

NAME = "trajectory.jsonl"
_HEAD = re.compile(rb'(\{.*),"crc":"([0-9a-f]{8})"(\})\n')
_STEP = re.compile(rb'(\[.*),"([0-9a-f]{8})"(\])\n')
#: the losses of one step, in little memory
Step = Sequence["float | array[float]"]


class Chain:
    """Makes the lines of a trajectory, with a checksum that runs on from line to line.

    >>> chain = Chain()
    >>> chain.head(["model.embed.weight"], "9a3e3083", {"commits": ["dbc63bd"]})
    '{"missed":["model.embed.weight"],"side":true,"run":"9a3e3083","by":{"commits":["dbc63bd"]},"crc":"d980cf12"}\\n'
    >>> chain.line(1, [0.5, 0.25])
    '[1,0.5,0.25,"3f5a5bdd"]\\n'

    Args:
        crc: of the lines before; None goes on with a file that has no checksums.
    """

    def __init__(self, crc: int | None = 0):
        self.crc = crc

    def head(self, missed: Collection[str] | None, run: str, by: Mapping[str, Any]) -> str:
        """The line ahead of the steps of a start.

        Args:
            missed: names of the weights that the oracle moved (``Oracle.missed``); None but ahead of the first step.
            run: a hash of what makes the run this one.
            by: the code that goes on from here, JSON-able.
        """
        names = {} if missed is None else {"missed": list(missed), "side": True}
        return self._sealed(names | {"run": run, "by": dict(by)}, ',"crc":')

    def line(self, step: int, losses: Sequence["Entry"]) -> str:
        """The line of one step.

        Args:
            step: its number, from 1.
            losses: in the order of evaluation.
        """
        return self._sealed([step, *losses], ",")

    def _sealed(self, content: Any, before: str) -> str:
        text = json.dumps(content, separators=(",", ":"))
        if self.crc is None:
            return text + "\n"
        self.crc = zlib.crc32(text.encode(), self.crc)
        return f'{text[:-1]}{before}"{self.crc:08x}"{text[-1]}\n'


@dataclass
class Trajectory:
    """The lines of a trajectory up to the first that is damaged.

    Attributes:
        path: where it lies.
        missed: names of the weights that the oracle moved.
        side: whether other matrices whose directions have factors stayed where they are.
        run: a hash of what makes the run this one; None in files of earlier versions.
        by: the code that has made the last steps; empty in files of earlier versions.
        steps: the losses of the steps 1, 2, ....
        size: bytes of these lines.
        crc: the checksum of these lines; None if they carry none.
        damage: what is wrong with the next line; None if there is none.
    """

    path: Place
    missed: list[str] = field(default_factory=list)
    side: bool = False
    run: str | None = None
    by: dict[str, Any] = field(default_factory=dict)
    steps: list["Step"] = field(default_factory=list)
    size: int = 0
    crc: int | None = 0
    damage: str | None = None

    @property
    def verified(self) -> bool:
        """Whether the lines carry checksums, which fit."""
        return self.crc is not None

    def follow(self, method: "Method", upto: int, progress: Callable[[int, str], None] = lambda n, text: None) -> None:
        """Take a method, and the weights it trains, to step ``upto`` without forward passes.

        Args:
            method: as it was after its ``t`` first steps.
            upto: the number of a step.
            progress: is told of each step.

        Raises:
            DataError: if a step is not there, or its losses are not those of this method.
        """
        if upto > max(method.t, len(self.steps)):
            damage = self.damage or f"step {len(self.steps) + 1} is missing"
            raise DataError(f"{self.path}: {damage}; without it the weights of step {upto} cannot be made again")
        while method.t < upto:
            self.take(method)
            progress(1, "")

    def moved(self, method: "Method") -> list[str]:
        """Names of the slots that the method's oracle has to move to take these steps again."""
        if self.side or method.oracle.mode == "exact":
            return self.missed
        from zobench.zo.placement import walked_matrices

        return [*self.missed, *walked_matrices(method.slots, method.perturbation)]

    def take(self, method: "Method") -> float:
        """Take the method's next step again; the mean of its losses. Raises DataError as ``follow`` does."""
        try:
            if strangers := set(self.missed) - {slot.name for slot in method.slots}:
                raise ValueError(f"it names {sorted(strangers)[0]}, which does not train here")
            losses = [each.tolist() if isinstance(each, array) else each for each in self.steps[method.t]]
            return method.replay(losses, self.moved(method))
        except ValueError as error:
            raise DataError(f"{self.path}: {error}; another version or configuration has written it") from error


def read(path: Place, *, upto: float = math.inf, size: int | None = None) -> Trajectory:
    """Read a trajectory up to its end, or the first line that is damaged.

    Args:
        path: of the file, which may lie in a zip.
        upto: no more steps than this.
        size: no more bytes than this.
    """
    found = Trajectory(path)
    try:
        data = path.read_bytes()[:size] if path.is_file() else None
    except OSError as error:
        found.damage = f"cannot be read ({error.strerror or error})"
        return found
    if data is None:
        found.damage = "not there"
        return found
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        if len(found.steps) >= upto:
            break
        try:
            if number == 1:
                _read_head(found, line)
            elif line.startswith(b"{"):
                _read_start(found, line)
            else:
                _read_step(found, line)
        except (ValueError, OverflowError) as error:
            found.damage = f"line {number}: {error}"
            break
        found.size += len(line)
    return found


def replay(
    method: "Method", run: Place, upto: int, progress: Callable[[int, str], None] = lambda n, text: None
) -> Trajectory | None:
    """Read the trajectory of a run's directory, and let a method follow it to step ``upto``.

    Returns:
        What was followed; None where the method is there already.

    Raises:
        DataError: as ``Trajectory.follow``.
    """
    if method.t >= upto:
        return None
    found = read(run / NAME, upto=upto)
    found.follow(method, upto, progress)
    return found


def _read_head(found: Trajectory, line: bytes) -> None:
    sealed = _HEAD.fullmatch(line)
    content, found.crc = _opened(line, sealed, 0) if sealed else (_parsed(line), None)
    names = content.get("missed") if isinstance(content, dict) else None
    known = {"missed", "side", "run", "by"} if sealed else {"missed"}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or set(content) - known:
        raise ValueError("it does not say what was missed, as the first line must")
    found.missed, found.run, found.by = names, content.get("run"), content.get("by", {})
    found.side = content.get("side") is True


def _read_start(found: Trajectory, line: bytes) -> None:
    sealed = _HEAD.fullmatch(line)
    if found.crc is None or not sealed:
        raise ValueError("it has no checksum")
    content, found.crc = _opened(line, sealed, found.crc)
    if set(content) != {"run", "by"} or content["run"] != found.run or not isinstance(content["by"], dict):
        raise ValueError("it is of another run")
    found.by = content["by"]


def _read_step(found: Trajectory, line: bytes) -> None:
    if found.crc is None:
        content, crc = _parsed(line), None
    elif sealed := _STEP.fullmatch(line):
        content, crc = _opened(line, sealed, found.crc)
    else:
        raise ValueError("it has no checksum" if line.endswith(b"\n") else "it is torn")
    if not isinstance(content, list) or not content or type(content[0]) is not int:
        raise ValueError("it is not [step, loss, ...]")
    if content[0] != len(found.steps) + 1:
        raise ValueError(f"step {len(found.steps) + 1} is missing")
    entries = content[1:]
    if any(type(each) is list for each in entries):
        found.steps.append([_numbers(each) if type(each) is list else _numbers([each])[0] for each in entries])
    else:
        found.steps.append(_numbers(entries))
    found.crc = crc


def _numbers(losses: list[Any]) -> "array[float]":
    """Finite losses; raises ValueError for others, and where there is none."""
    if not losses or not all(type(loss) in (int, float) for loss in losses):
        raise ValueError("a loss is not a number")
    numbers = array("d", losses)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a loss is not finite")
    return numbers


def _opened(line: bytes, sealed: "re.Match[bytes]", before: int) -> tuple[Any, int]:
    """The content of a line with a checksum that fits, and the checksum."""
    body = sealed[1] + sealed[3]
    crc = zlib.crc32(body, before)
    if f"{crc:08x}".encode() != sealed[2]:
        raise ValueError("its checksum does not fit: it, or a line before it, was changed, moved or dropped")
    return _parsed(body + b"\n"), crc


def _parsed(line: bytes) -> Any:
    if not line.endswith(b"\n"):
        raise ValueError("it is torn")
    try:
        return json.loads(line)
    except (ValueError, RecursionError, OverflowError):
        raise ValueError("it is not JSON") from None
