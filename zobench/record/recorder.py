"""Who is told what a run does: the files of its record, their mirrors, the terminal. A run tells all at once."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zobench.record.lines import Mark

if TYPE_CHECKING:
    from zobench.zo.closure import Entry

Values = Mapping[str, Any]
#: the predictions of each split, one dictionary an example
Predictions = Mapping[str, list[dict[str, Any]]]
NOBODY: Values = {}


class Recorder:
    """What a run tells, and nobody who listens: each recorder overrides what it keeps.

    The names in ``log``, ``environment``, ``predictions`` and the rows are those of ``zobench.record.columns``.

    Attributes:
        replaces: whether there is the record of an earlier start, which stays as it is until ``begin``.
        anew: whether nothing of it is gone on with.
    """

    replaces = anew = False

    def begin(self, row: Values) -> None:
        """Begin, with the run's row so far; nothing but ``check`` and ``close`` is called before.

        A run that goes on, or overwrites another, begins when it has all its parts and is ready to start.
        """

    def check(self) -> None:
        """Make sure that the record is still where it was; before a checkpoint is written beside it."""

    def forget_after(self, sizes: Mapping[str, int]) -> None:
        """Drop lines and losses that will come again; before anything is logged.

        Args:
            sizes: bytes that stay of ``metrics.jsonl`` and ``trajectory.jsonl``.
        """

    def log(self, line: Values) -> None:
        """Keep one line: a logged step, an evaluation, or what the lens saw."""

    def log_losses(
        self, step: int, losses: Sequence["Entry"], missed: Collection[str], run: str = "", by: Values = NOBODY
    ) -> None:
        """Keep the losses that a step saw.

        Args:
            step: its number, from 1.
            losses: in the order of evaluation.
            missed: names of the weights that the oracle moved (``Oracle.missed``).
            run: a hash of what makes the run this one.
            by: the code that measured them, the same in all calls.
        """

    def flush(self) -> dict[str, Mark] | None:
        """Put lines and losses on disk; before each checkpoint, which must not be ahead of them.

        Returns:
            The mark of each file, by its name, for the checkpoint.
        """
        return None

    def environment(self, facts: Values) -> None:
        """Keep the machine and the versions of what runs on it."""

    def predictions(self, rows: Predictions) -> None:
        """Keep the final predictions of each split."""

    def summary(self, row: Values) -> None:
        """Keep the run's row as it is by now, in the place of the one before."""

    def finish(self, row: Values) -> None:
        """End with the run's last row, which ``summary`` was told already."""

    def withdraw(self) -> None:
        """Leave nothing of a run that was not there before: the command was refused."""

    def close(self) -> None:
        """Let go of files and connections, however the run ended."""


class NullRecord(Recorder):
    """The record of a process that does not lead its team: another one keeps it."""


class Tee(Recorder):
    """Passes on everything to several recorders, in their order; what one raises the later ones do not hear.

    >>> class Printed(Recorder):
    ...     def log(self, line):
    ...         print(dict(line))
    >>> Tee(Printed(), Printed()).log({"step": 1})
    {'step': 1}
    {'step': 1}
    """

    def __init__(self, *recorders: Recorder):
        self.recorders = recorders
        self.replaces = any(each.replaces for each in recorders)
        self.anew = any(each.anew for each in recorders)

    def begin(self, row: Values) -> None:
        for each in self.recorders:
            each.begin(row)

    def check(self) -> None:
        for each in self.recorders:
            each.check()

    def forget_after(self, sizes: Mapping[str, int]) -> None:
        for each in self.recorders:
            each.forget_after(sizes)

    def log(self, line: Values) -> None:
        for each in self.recorders:
            each.log(line)

    def log_losses(
        self, step: int, losses: Sequence["Entry"], missed: Collection[str], run: str = "", by: Values = NOBODY
    ) -> None:
        for each in self.recorders:
            each.log_losses(step, losses, missed, run, by)

    def flush(self) -> dict[str, Mark] | None:
        marks: dict[str, Mark] = {}
        for each in self.recorders:
            marks |= each.flush() or {}
        return marks

    def environment(self, facts: Values) -> None:
        for each in self.recorders:
            each.environment(facts)

    def predictions(self, rows: Predictions) -> None:
        for each in self.recorders:
            each.predictions(rows)

    def summary(self, row: Values) -> None:
        for each in self.recorders:
            each.summary(row)

    def finish(self, row: Values) -> None:
        for each in self.recorders:
            each.finish(row)

    def withdraw(self) -> None:
        for each in self.recorders:
            each.withdraw()

    def close(self) -> None:
        for each in self.recorders:
            each.close()
