"""What the files of a record say of each other: schema and seals, the run's name and settings, its budget."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from zobench.config.chosen import Cell
from zobench.config.signature import SCHEMA, digest
from zobench.errors import ConfigError
from zobench.estimate.prices import Prices
from zobench.record import archive, configs, digests, environments, metrics, summaries, trajectory
from zobench.record.archive import Place
from zobench.record.reading import Unreadable, content, json_object
from zobench.record.summaries import RESULTS
from zobench.run import trust
from zobench.run.provenance import identity
from zobench.run.row import of_settings
from zobench.verify.verdict import BUDGET, FILES, NAME, WEIGHTS, Verdict, close


@dataclass(frozen=True)
class Record:
    """What a run left, read and held against its schema.

    Attributes:
        row: of the run, with the columns that follow from its settings, whether the file has them or not.
        settings: the run's configuration, of which nothing was made.
        lines: of its metrics.
        outside: whether it names code of others, which was not allowed.
    """

    place: Place
    row: dict[str, Any]
    settings: dict[str, Any]
    lines: list[dict[str, Any]]
    outside: bool


def read(verdict: Verdict, allow: Collection[str] = ()) -> Record | None:
    """Read a record's files, each against its schema and its seal; None where that says all of the verdict.

    Args:
        verdict: of the run; is told what is wrong.
        allow: packages beside zobench whose classes the record may name.
    """
    place = verdict.place
    try:
        verdict.record = digests.of_record(place)
        verdict.row = row = summaries.as_row(summaries.read(place))
        _check_seals(place)
        if row["state"] not in RESULTS:
            verdict.leave("result", f"the run has none, it is {row['state']}")
            return None
        settings = configs.read(place)
        environments.read(place)
        lines, wrong = metrics.read(place)
        for error in wrong:
            verdict.refute(error.said)
        outside = _outside(place, allow)
    except Unreadable as error:
        verdict.refute(error.said)
        return None
    record = Record(place, row, settings, lines, outside)
    if outside:
        verdict.leave(WEIGHTS, "its method is code of others, which is not run; --trust-code FOLDER runs it")
    if not verdict.differs:
        verdict.hold(FILES)
        _check_name(verdict, record)
        _check_budget(verdict, record)
    return record


def _check_seals(place: Place) -> None:
    """Raises Unreadable for a file that is not as the run left it. Records of earlier versions have no seals."""
    sealed = json_object(place / summaries.NAME).get(digests.FILES)
    for name in archive.FILES:
        if isinstance(sealed, dict) and name in sealed:
            digests.check(place / name, content(place / name, archive.LIMIT))


def _outside(place: Place, allow: Collection[str]) -> bool:
    """Whether the configuration names classes of others. Raises Unreadable for what no run has."""
    try:
        trust.read(place, list(allow))
    except Unreadable as error:
        if isinstance(error.__cause__, trust.NotAllowed):
            return True
        raise
    return False


def _check_name(verdict: Verdict, record: Record) -> None:
    """Name and row against the configuration."""
    row, settings = record.row, record.settings
    try:
        name = digest(settings)
        columns = of_settings(settings)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        verdict.refute(f"{configs.NAME}: not the configuration of a run ({type(error).__name__}: {error})")
        return
    before = len(verdict.differs)
    if row.get("schema") != SCHEMA:
        verdict.leave(NAME, "an earlier version named the run")
    elif name != row.get("config_hash"):
        verdict.refute(f"{configs.NAME}: its settings are those of a run {name}, not {row.get('config_hash')}")
    for key, value in columns.items():
        if not close(row.setdefault(key, value), value) and key != "device":
            verdict.refute(f"{summaries.NAME}: {key}={row[key]}, but {configs.NAME} has {value}")
    if len(verdict.differs) == before and NAME not in verdict.unverified:
        verdict.hold(NAME)


def _check_budget(verdict: Verdict, record: Record) -> None:
    """Steps and forward passes: of the row, of what the settings pay for, of metrics and trajectory."""
    row, before = record.row, len(verdict.differs)
    last = record.lines[-1] if record.lines else {}
    for key, column in (("step", "steps"), ("forwards", "forwards")):
        if row["state"] == "finished" and last.get(key) != row[column]:
            verdict.refute(f"{metrics.NAME}: it ends at {key} {last.get(key)}, but {column}={row[column]}")
    counts = [(line["step"], line["forwards"]) for line in record.lines]
    if any(then[0] > now[0] or then[1] > now[1] for then, now in pairwise(counts)):
        verdict.refute(f"{metrics.NAME}: its steps or forward passes go back")
    if row.get("trains") and (record.place / trajectory.NAME).is_file():
        _check_trajectory(verdict, record)
    if record.outside:
        verdict.leave(BUDGET, "what a step takes is for its own code to say")
        return
    try:
        spent = Prices().of(Cell(record.settings))
    except ConfigError as error:
        verdict.refute(f"{configs.NAME}: {error}")
        return
    follows = {"trains": spent.steps > 0, "eval_every": record.settings["eval_every"] or max(1, -(-spent.steps // 5))}
    if row["state"] == "finished":
        follows |= vars(spent)
    for name, value in follows.items():
        if row.setdefault(name, value) != value:
            verdict.refute(f"{summaries.NAME}: {name}={row[name]}, but {configs.NAME} makes it {value}")
    if len(verdict.differs) == before:
        verdict.hold(BUDGET)


def _check_trajectory(verdict: Verdict, record: Record) -> None:
    row, found = record.row, trajectory.read(record.place / trajectory.NAME)
    if found.damage:
        verdict.refute(f"{trajectory.NAME}: {found.damage}")
    if not found.size:  # of methods whose losses do not give their weights
        return
    if row["state"] == "finished" and len(found.steps) != row["steps"]:
        verdict.refute(f"{trajectory.NAME}: {len(found.steps)} steps, but steps={row['steps']}")
    facts = [row.get(name) for name in ("config_hash", "rows_hash", "base_checksum", "model_checksum", "device")]
    if found.run is None or row.get("schema") != SCHEMA or not all(isinstance(each, str) for each in facts):
        return
    shards = row.get("processes") or 1 if row.get("parallel") == "data" else 1
    name, rows, base, model, device = map(str, facts)
    if found.run != identity(name, rows, base, model, device.partition(":")[0], shards):
        verdict.refute(
            f"{trajectory.NAME}: its losses are of other settings, rows or weights than {summaries.NAME} says"
        )
