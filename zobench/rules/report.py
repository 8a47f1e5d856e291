"""What a comparison by the rules says: its records, set side by side."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from zobench.report.frames.runs import Row
from zobench.report.workloads.comparison import Compared, Target
from zobench.report.workloads.page import Page, between_marks, read_page
from zobench.rules import targets
from zobench.rules.records import Records, Run


def write(records: Records, out: Path, readme: Path | None = None) -> list[Path]:
    """Write the page of a comparison with its pictures and numbers, and the headline into another page.

    Args:
        records: of the comparison.
        out: a folder for ``comparison.md`` and what belongs to it.
        readme: a page with the marks between which the headline goes.

    Returns:
        The files.

    Raises:
        ConfigError: if ``readme`` is not there, or a page has no marks.
        UserError: if no scored run is finished.
    """
    page = Page(compared(records))
    if readme is not None:
        between_marks(read_page(readme), "", readme)  # refuses before anything is written
    files = page.write(out)
    return files if readme is None else [*files, page.write_readme(readme, out)]


def claims(records: Records) -> str:
    """What can be said of the entries, for a terminal.

    Raises:
        UserError: if no scored run is finished.
    """
    return Page(compared(records)).said()


def compared(records: Records) -> Compared:
    """The finished and diverged runs of a comparison, by what they are by the rules.

    Targets are those of the version of the rules; for a workload that has none there, what its reference reached here.

    Raises:
        UserError: if no scored run is finished.
    """
    runs, trials = pd.DataFrame(_scored(records)), pd.DataFrame(_trials(records))
    known = targets.of(records.rules.version)
    missing = {held.workload.name for held in records.held} - set(known)
    measured = targets.measured(records) if missing else {}
    reached = {name: Target(of["dev_loss"], of["dev_metric"]) for name, of in {**measured, **known}.items()}
    of = {name: entry.of for name, entry in records.rules.entries.items() if entry.of is not None}
    return Compared(runs, trials, reached, of)


def _scored(records: Records) -> Iterator[Row]:
    for held in records.held:
        names = {"workload": held.workload.name, "entry": held.entry.name}
        for ruleset, of_seeds in held.scored.items():
            yield from (_row(run) | names | {"stage": ruleset} for run in of_seeds.values() if _ended(run))


def _trials(records: Records) -> Iterator[Row]:
    for held in records.held:
        names = {"workload": held.workload.name, "entry": held.entry.name}
        yield from (_row(run) | names for run in held.trials if run is not None and _ended(run))


def _ended(run: Run) -> bool:
    return run.row["state"] in ("finished", "diverged")


def _row(run: Run) -> Row:
    return {**run.row, "directory": str(run.place)}
