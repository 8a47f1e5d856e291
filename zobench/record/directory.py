"""A run's record: plain files in one directory, the source of truth. wandb and TensorBoard mirror them."""

import contextlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.atomic import clean, replacing, sync, write_atomically, writing
from zobench.errors import CannotWrite, RunExists
from zobench.record import contents, digests, lock, predictions, summaries, trajectory
from zobench.record.lines import Lines, Mark
from zobench.record.lock import Lock
from zobench.record.lookup import check_name
from zobench.record.reading import Missing, Unreadable, json_object
from zobench.record.recorder import NOBODY, NullRecord, Predictions, Recorder, Values
from zobench.record.summaries import RESULTS
from zobench.zo.closure import Entry
from zobench.zo.team import Team


class Record(Recorder):
    """The directory of one run, locked against a second process.

    What an earlier start left there stays as it is until ``begin``: a start that fails before leaves the record of a
    finished or a stopped run untouched.

    Args:
        directory: of the run; made if it is not there.
        cfg: the run's configuration, which is written there resolved.
        say: prints a line.

    Raises:
        RunExists: if it holds a finished or diverged run and ``overwrite`` is off; ``summary`` is that run's.
        ConfigError: if it holds another run, or files that are no run's.
        RunBusy: if another process is writing there.
        Unreadable: if it holds a run with a result whose summary is damaged.
        CannotWrite: here and in all methods, if a file cannot be written.
        RunLost: in all methods, if the directory is no longer the one that was opened.
    """

    def __init__(self, directory: Path, cfg: DictConfig, say: Callable[[str], None] = lambda line: None):
        self.directory, self._cfg, self._say = directory, cfg, say
        self._files: list[Lines] = []
        self._chain = trajectory.Chain()
        #: what the trajectory says of the code of its next line; None where it says nothing yet
        self._by: Values | None = None
        self._damage = ""
        #: of the files that this start has written, by name
        self._digests: dict[str, str] = {}
        try:
            self._lock = Lock(directory)
        except CannotWrite:  # a read-only disk; what is finished can be shown
            self._refuse(self._previous())
            raise
        previous: Values = {}
        try:
            contents.claim(directory, _content(directory), Path(cfg.runs_dir))
            previous = self._previous()
            self._refuse(previous)
        except BaseException as error:
            if isinstance(error, RunExists):
                contents.clear_rest(directory, previous, keep_weights=cfg.keep_weights)
            self._lock.release()
            if self._lock.made:
                self._unmake()
            raise
        #: whether nothing of it is gone on with: it is to be overwritten, or an overwriting was cut
        self.anew = bool(cfg.overwrite) or (directory / contents.MARKER).exists()
        stopped = previous.get("state") not in (None, "failed") or (directory / "checkpoint" / "state.json").is_file()
        #: whether there is a record that must stay as it is until this start has come to new work
        self.replaces = stopped or bool(cfg.overwrite and (previous or self._damage))
        #: how often the run was started before without finishing
        self.restarts = 0 if previous.get("restarts") is None else previous["restarts"] + 1

    def withdraw(self) -> None:
        if self._lock.made:
            self.close()
            contents.clear(self.directory)
            self._unmake()

    def _unmake(self) -> None:
        """Let go of the directories that this start has made, and of nothing else in them."""
        (self.directory / lock.NAME).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for directory in self._lock.made:
                directory.rmdir()

    def _refuse(self, previous: Values) -> None:
        """Raises RunExists or ConfigError if what is there is neither to be gone on with nor to be thrown away."""
        if not self._cfg.overwrite:
            settings: Any = OmegaConf.to_container(self._cfg, resolve=True)
            check_name(self.directory, previous, settings)
            if previous.get("state") in RESULTS:
                raise RunExists(dict(previous), self.directory)

    def _previous(self) -> dict[str, Any]:
        """The summary of an earlier start; an empty one if there is none, or a damaged one without a result."""
        try:
            return summaries.read(self.directory)
        except Missing:
            return {}
        except Unreadable as error:
            if not self._cfg.overwrite and not summaries.goes_on(self.directory):
                raise
            if not (self.directory / summaries.NAME).is_dir():  # which is nobody's summary, and cannot be replaced
                self._damage = error.said
            return {}

    def begin(self, row: Values) -> None:
        self._lock.check()
        if self._damage and not self._cfg.overwrite:
            aside = self.directory / contents.DAMAGED
            with writing(aside):
                os.replace(self.directory / summaries.NAME, aside)
            self._say(f"{self._damage}; kept as {aside}; the run goes on from its checkpoint, if there is one")
        if self.anew:
            self._overwrite(row)
        self.summary(row)  # the first: the digests of a former one would not fit what comes now
        self._write("config.yaml", OmegaConf.to_yaml(self._cfg, resolve=True))
        self._metrics = Lines(self.directory / "metrics.jsonl")
        self._trajectory = Lines(self.directory / trajectory.NAME)
        self._files = [self._metrics, self._trajectory]

    def _overwrite(self, row: Values) -> None:
        """Remove what an earlier run wrote; a cut leaves its whole record, or one that the next start clears."""
        marker, state = self.directory / contents.MARKER, self.directory / "checkpoint" / "state.json"
        with writing(marker):
            marker.touch()
            sync(self.directory)
        self.summary(row)
        with writing(self.directory):
            state.unlink(missing_ok=True)
            others = contents.clear(self.directory, keep=(summaries.NAME, contents.MARKER))
            marker.unlink()
            sync(self.directory)
        if others:
            self._say(f"{self.directory}: overwrite=true left what zobench did not write: {', '.join(others[:5])}")

    def check(self) -> None:
        self._lock.check()

    def forget_after(self, sizes: Mapping[str, int]) -> None:
        self._lock.check()
        for lines in self._files:
            lines.cut(sizes[lines.path.name])
        found = trajectory.read(self._trajectory.path)
        self._by = found.by if sizes[trajectory.NAME] else None
        self._chain = trajectory.Chain(found.crc)

    def log(self, line: Values) -> None:
        self._lock.check()
        self._metrics.add(json.dumps(clean(line)) + "\n")
        self._metrics.flush()

    def log_losses(
        self, step: int, losses: Sequence[Entry], missed: Collection[str], run: str = "", by: Values = NOBODY
    ) -> None:
        if self._by is not by:
            if self._by is None or (self._by != by and self._chain.crc is not None):
                self._trajectory.add(self._chain.head(missed if self._by is None else None, run, by))
            self._by = by
        self._trajectory.add(self._chain.line(step, losses))

    def flush(self) -> dict[str, Mark]:
        self._lock.check()
        marks = {}
        for lines in self._files:
            lines.flush(to_disk=True)
            marks[lines.path.name] = lines.mark()
        return marks

    def environment(self, facts: Values) -> None:
        self._write("environment.json", json.dumps(clean(facts), indent=1) + "\n")

    def predictions(self, rows: Predictions) -> None:
        """Write predictions.parquet: one row per example, with a column ``split``."""
        self._lock.check()
        with replacing(self.directory / predictions.NAME, durable=True) as scratch:
            predictions.write(rows, scratch)
            self._digests[predictions.NAME] = digests.of(scratch.read_bytes())

    def summary(self, row: Values) -> None:
        self.flush()
        values = clean({**row, "restarts": self.restarts})
        if row.get("state") != "running":
            values[digests.FILES] = self._digests | {lines.path.name: lines.digest for lines in self._files}
        text = json.dumps(digests.sealed(values), indent=1, ensure_ascii=False)
        write_atomically(self.directory / summaries.NAME, text + "\n")

    def _write(self, name: str, text: str) -> None:
        self._lock.check()
        write_atomically(self.directory / name, text)
        self._digests[name] = digests.of(text.encode())

    def close(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):  # a full disk, already reported
                file.close()
        self._lock.release()


def _content(directory: Path) -> dict[str, Any]:
    """What a summary holds, whoever wrote it; nothing where it is damaged or not there."""
    try:
        return json_object(directory / summaries.NAME)
    except Unreadable:
        return {}


def open_record(team: Team, directory: Path, cfg: DictConfig, say: Callable[[str], None]) -> Recorder:
    """Open a run's record in the process that leads; the others keep none.

    Raises:
        RunExists: in all processes, if the directory holds a finished run.
    """
    opened: list[Record] = []

    def open_it() -> dict[str, Any]:
        try:
            opened.append(Record(directory, cfg, say))
        except RunExists as found:
            return found.summary
        return {}

    if finished := team.from_first(open_it):
        raise RunExists(finished, directory)
    return opened[0] if opened else NullRecord()
