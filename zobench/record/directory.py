"""A run's record: plain files in one directory, the source of truth. wandb and TensorBoard mirror them."""

import contextlib
import fcntl
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.atomic import clean, remove, replacing, write_atomically
from zobench.config.signature import SCHEMA, differences, signature
from zobench.errors import ConfigError, RunBusy, RunExists
from zobench.record import summaries, trajectory
from zobench.record.lines import Lines, Mark
from zobench.record.lookup import stored_settings
from zobench.record.reading import Unreadable, text
from zobench.record.recorder import NullRecord, Predictions, Recorder, Values
from zobench.record.summaries import RESULTS
from zobench.zo.team import Team


class Record(Recorder):
    """The directory of one run, locked against a second process.

    Args:
        directory: of the run; made if it is not there.
        cfg: the run's configuration, which is written there resolved.

    Raises:
        RunExists: if it holds a finished or diverged run and ``overwrite`` is off; ``summary`` is that run's.
        RunBusy: if another process is writing there.
        Unreadable: if it holds a run with a result whose summary is damaged.
        CannotWrite: here and in all methods, if a file cannot be written.

    Attributes:
        put_aside: a line about a damaged summary that was put aside; empty if there was none.
    """

    def __init__(self, directory: Path, cfg: DictConfig):
        self.directory = directory
        self._made = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / ".lock").open("a")  # no truncation: a finished run's directory stays untouched
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunBusy(f"{directory} is being written by another process; wait for it or stop it") from error
        if cfg.overwrite and (directory / "summary.json").is_file():
            self._clear()
        previous, self.put_aside = summaries.previous(directory)
        _check_name(directory, previous, cfg)
        if previous.get("state") in RESULTS:
            raise RunExists(previous, directory)
        self._before = _texts(directory) if previous.get("state") in ("interrupted", "running") else {}
        #: how often the run was started before without finishing
        self.restarts = 0 if previous.get("restarts") is None else previous["restarts"] + 1
        write_atomically(directory / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        self._metrics = Lines(directory / "metrics.jsonl")
        self._trajectory = Lines(directory / trajectory.NAME)
        self._chain = trajectory.Chain()
        self._headed = False

    def withdraw(self, *, wholly: bool = False) -> None:
        if wholly and self._made:
            remove(self.directory)
            return
        for name, held in self._before.items():
            write_atomically(self.directory / name, held)

    def _clear(self) -> None:
        # The summary last: without it, what is left of a cut clearing would pass for an interrupted run.
        for entry in sorted(self.directory.iterdir(), key=lambda entry: entry.name == "summary.json"):
            if entry.name != ".lock":
                remove(entry)

    def forget_after(self, sizes: Mapping[str, int]) -> None:
        for lines in (self._metrics, self._trajectory):
            lines.cut(sizes[lines.path.name])
        self._headed = sizes[trajectory.NAME] > 0
        self._chain = trajectory.Chain(trajectory.read(self._trajectory.path).crc)

    def log(self, line: Values) -> None:
        self._metrics.add(json.dumps(clean(line)) + "\n")
        self._metrics.flush()

    def log_losses(self, step: int, losses: Sequence[float], missed: Collection[str], run: str = "") -> None:
        if not self._headed:
            self._trajectory.add(self._chain.head(missed, run))
            self._headed = True
        self._trajectory.add(self._chain.line(step, losses))

    def flush(self) -> dict[str, Mark]:
        marks = {}
        for lines in (self._metrics, self._trajectory):
            lines.flush(to_disk=True)
            marks[lines.path.name] = lines.mark()
        return marks

    def environment(self, facts: Values) -> None:
        write_atomically(self.directory / "environment.json", json.dumps(clean(facts), indent=1) + "\n")

    def predictions(self, rows: Predictions) -> None:
        """Write predictions.parquet: one row per example, with a column ``split``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist([{"split": split, **row} for split, examples in rows.items() for row in examples])
        with replacing(self.directory / "predictions.parquet", durable=True) as scratch:
            pq.write_table(table, scratch, write_page_checksum=True)

    def summary(self, row: Values) -> None:
        self.flush()
        written = json.dumps(clean({**row, "restarts": self.restarts}), indent=1, ensure_ascii=False)
        write_atomically(self.directory / "summary.json", written + "\n")

    def close(self) -> None:
        for file in (self._metrics, self._trajectory, self._lock):
            with contextlib.suppress(OSError):  # a full disk, already reported
                file.close()


def _check_name(directory: Path, previous: Values, cfg: DictConfig) -> None:
    """Raises ConfigError if a directory holds a run of another name, as ``out`` can have it."""
    name = signature(_root_=cfg)
    if previous.get("schema") == SCHEMA and previous.get("config_hash") != name:
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        stored = stored_settings(directory)
        changed = differences(stored, settings) if stored else [f"named {previous.get('config_hash')}, this is {name}"]
        raise ConfigError(
            f"{directory} holds another run ({', '.join(changed[:3])}); give this one its own directory, or "
            "overwrite=true"
        )


def _texts(directory: Path) -> dict[str, str]:
    """What an interrupted run says of itself, by file name."""
    found: dict[str, str] = {}
    for name in ("config.yaml", "summary.json"):
        with contextlib.suppress(Unreadable):  # what is damaged is not put back
            found[name] = text(directory / name)
    return found


def open_record(team: Team, directory: Path, cfg: DictConfig) -> Recorder:
    """Open a run's record in the process that leads; the others keep none.

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
    return opened[0] if opened else NullRecord()
