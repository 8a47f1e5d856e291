"""A run's record: plain files in one directory, the source of truth. wandb mirrors them."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.errors import RunBusy, RunExists
from zobench.record import trajectory
from zobench.record.archive import Place
from zobench.record.atomic import clean, write_atomically, writing
from zobench.record.summaries import RESULTS
from zobench.zo.team import Team


class Record:
    """The directory of one run, locked against a second process.

    Raises:
        RunExists: if it holds a finished or diverged run and ``overwrite`` is off; ``summary`` is that run's.
        RunBusy: if another process is writing there.
    """

    def __init__(self, directory: Path, cfg: DictConfig):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / ".lock").open("a")  # no truncation: a finished run's directory stays untouched
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunBusy(f"{directory} is being written by another process; wait for it or stop it") from error
        previous = self.read_summary(directory)
        if previous.get("state") in RESULTS and not cfg.overwrite:
            raise RunExists(previous, directory)
        if cfg.overwrite and previous:
            self._clear()
            previous = {}
        #: how often the run was started before without finishing
        self.restarts = int(previous.get("restarts", -1)) + 1
        write_atomically(directory / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        self._metrics = (directory / "metrics.jsonl").open("a", encoding="utf-8")
        self._trajectory = (directory / trajectory.NAME).open("a", encoding="utf-8")
        self._headed = False

    @staticmethod
    def read_summary(directory: Place) -> dict[str, Any]:
        """The summary of a run directory, or an empty one."""
        path = directory / "summary.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _clear(self) -> None:
        # The summary last: without it, what is left of a cut clearing would pass for an interrupted run.
        entries = sorted(self.directory.iterdir(), key=lambda entry: entry.name == "summary.json")
        for entry in entries:
            if entry.name != ".lock":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def forget_after(self, step: int) -> None:
        """Drop logged lines of steps past a checkpoint that the run goes on from; before anything is logged."""
        for name in ("_metrics", "_trajectory"):
            file = getattr(self, name)
            path = Path(file.name)
            lines = path.read_text(encoding="utf-8").splitlines()
            write_atomically(path, "".join(f"{x}\n" for x in lines if trajectory.step_of(x) <= step))
            file.close()
            setattr(self, name, path.open("a", encoding="utf-8"))
        self._headed = (self.directory / trajectory.NAME).stat().st_size > 0

    def log(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with writing(Path(self._metrics.name)):
            self._metrics.write(json.dumps(clean(values)) + "\n")
            self._metrics.flush()

    def log_losses(self, step: int, losses: Sequence[float], missed: Collection[str]) -> None:
        """Append what a step saw to trajectory.jsonl."""
        with writing(Path(self._trajectory.name)):
            if not self._headed:
                self._trajectory.write(trajectory.head(missed))
                self._headed = True
            self._trajectory.write(trajectory.line(step, losses))

    def flush(self) -> None:
        """Put the trajectory on disk; before each checkpoint, which must not be ahead of it."""
        with writing(Path(self._trajectory.name)):
            self._trajectory.flush()
            os.fsync(self._trajectory.fileno())

    def environment(self, values: Mapping[str, Any]) -> None:
        write_atomically(self.directory / "environment.json", json.dumps(clean(values), indent=1) + "\n")

    def predictions(self, rows: Mapping[str, list[dict[str, Any]]]) -> None:
        """Write predictions.parquet: one row per example, with a column ``split``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist([{"split": split, **row} for split, found in rows.items() for row in found])
        path, scratch = self.directory / "predictions.parquet", self.directory / ".predictions.parquet"
        with writing(path):
            pq.write_table(table, scratch)
            os.replace(scratch, path)

    def summary(self, values: Mapping[str, Any]) -> None:
        self.flush()
        text = json.dumps(clean({**values, "restarts": self.restarts}), indent=1, ensure_ascii=False)
        write_atomically(self.directory / "summary.json", text + "\n")

    def close(self) -> None:
        for file in (self._metrics, self._trajectory, self._lock):
            with contextlib.suppress(OSError):  # a full disk, already reported
                file.close()


def open_record(team: Team, directory: Path, cfg: DictConfig) -> Record:
    """The record, for the process that leads; the others get a bystander.

    Raises:
        RunExists: in all processes, if the directory holds a finished run.
    """
    opened: list[Record] = []

    def open_it() -> dict[str, Any]:
        try:
            opened.append(Record(directory, cfg))
        except RunExists as found:
            return found.summary
        return {}

    if finished := team.from_first(open_it):
        raise RunExists(finished, directory)
    return opened[0] if opened else NullRecord(directory)


class NullRecord(Record):
    """A record that nothing is written to."""

    def __init__(self, directory: Path):
        self.directory, self.restarts = directory, 0

    def forget_after(self, *arguments: Any, **named: Any) -> None:
        """Nothing."""

    log = log_losses = flush = environment = predictions = summary = close = forget_after
