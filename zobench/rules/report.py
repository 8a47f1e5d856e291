"""What a comparison by the rules says: its records, set side by side."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd

from zobench.errors import ConfigError
from zobench.report.frames.runs import Row
from zobench.report.workloads.comparison import Compared, Target
from zobench.report.workloads.page import MARKS, Page, read_page
from zobench.rules import targets
from zobench.rules.records import Held, Records, Run
from zobench.system.markdown import between_marks


def write(records: Records, out: Path, readme: Path | None = None, workloads: Collection[str] = ()) -> list[Path]:
    """Write the page of a comparison with its pictures and numbers, and the headline into another page.

    Args:
        records: of the comparison.
        out: a folder for ``comparison.md`` and what belongs to it.
        readme: a page with the marks between which the headline goes.
        workloads: names of those that are told of; all unless given.

    Returns:
        The files.

    Raises:
        ConfigError: if ``readme`` is not there, or a page has no marks.
        UserError: if no scored run is finished.
    """
    page = Page(compared(records, workloads))
    if readme is not None:
        between_marks(read_page(readme), MARKS, "", readme)  # refuses before anything is written
    files = page.write(out)
    return files if readme is None else [*files, page.write_readme(readme, out)]


def claims(records: Records, workloads: Collection[str] = ()) -> str:
    """What can be said of the entries, for a terminal.

    Raises:
        UserError: if no scored run is finished.
    """
    return Page(compared(records, workloads)).said()


def compared(records: Records, workloads: Collection[str] = ()) -> Compared:
    """The finished and diverged runs of a comparison, by what they are by the rules.

    Targets are those of the version of the rules; for a workload that has none there, what its reference reached here.

    Raises:
        UserError: if no scored run is finished.
    """
    of = {name: entry.of for name, entry in records.rules.entries.items() if entry.of is not None}
    held = [each for each in records.held if not workloads or each.workload.name in workloads]
    scored, tried = pd.DataFrame(scored_rows(held)), pd.DataFrame(trial_rows(held))
    return Compared(scored, tried, targets_of(records), of, _left_out(records, held))


def _left_out(records: Records, held: Iterable[Held]) -> list[str]:
    """What tables do not show: entries that no setting suits, runs without a result, and runs outside the rules."""
    diverged: dict[str, list[str]] = {}
    lacking: Counter[str] = Counter()
    for each in held:
        if each.hopeless:
            diverged.setdefault(each.workload.name, []).append(each.entry.name)
        lacking.update(run.row["state"] for of in each.scored.values() for run in of.values() if not _ended(run))
    said = [f"{name}: every trial diverged, so no score: {', '.join(of)}" for name, of in diverged.items()]
    if lacking:
        states = ", ".join(f"{count} {state}" for state, count in sorted(lacking.items()))
        said.append(f"scored runs without a result, which are left out: {states}")
    if count := len(records.others()) + len(records.left_out):
        said.append(f"runs outside the rules or unreadable, left out: {count}; zobench.rules check names them")
    return said


def targets_of(records: Records) -> dict[str, Target]:
    """Workload → its target: those of the version of the rules, else what the reference reached in these records."""
    found = targets.of(records.rules.version)
    if {held.workload.name for held in records.held} - set(found):
        with suppress(ConfigError):  # without the reference there is no target, and nothing to tell of the time to it
            found = {**targets.measured(records), **found}
    return {name: Target(of["dev_loss"], of["dev_metric"]) for name, of in found.items()}


def scored_rows(of_entries: Iterable[Held]) -> Iterator[Row]:
    """The scored runs that ended, with their stage, workload and entry."""
    for held in of_entries:
        names = {"workload": held.workload.name, "entry": held.entry.name}
        for ruleset, of_seeds in held.scored.items():
            yield from (_row(run) | names | {"stage": ruleset} for run in of_seeds.values() if _ended(run))


def trial_rows(of_entries: Iterable[Held]) -> Iterator[Row]:
    """The trials that ended, with their workload and entry."""
    for held in of_entries:
        names = {"workload": held.workload.name, "entry": held.entry.name}
        yield from (_row(run) | names for run in held.trials if run is not None and _ended(run))


def _ended(run: Run) -> bool:
    return run.row["state"] in ("finished", "diverged")


def _row(run: Run) -> Row:
    return {**run.row, "directory": str(run.place)}
