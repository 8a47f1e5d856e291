"""Running what is left of a sweep, through whichever of Hydra's launchers was chosen."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from zobench.errors import RunBusy, SweepFailed
from zobench.estimate.costs import Costs
from zobench.record.contents import clear_rest
from zobench.sweep.overview import Overview
from zobench.sweep.plan import PlannedCell
from zobench.sweep.teller import Teller
from zobench.system.console import Terminal


def to_run(overview: Overview, *, retry_failed: bool) -> list[PlannedCell]:
    """The cells that a sweep would run: not started, stopped, failed if asked for, and any with ``overwrite=true``."""
    wanted = {"waiting", "interrupted"} | ({"failed"} if retry_failed else set())
    return [
        cell
        for cell, found in zip(overview.cells, overview.states, strict=True)
        if found.name in wanted or (cell.get("overwrite") and found.name != "running")
    ]


def run(
    cells: Sequence[PlannedCell],
    launcher: Launcher,
    *,
    retry_failed: bool,
    batch: int | None,
    costs: Costs,
    retry: str,
) -> list[JobReturn]:
    """Launch what is left, then show how the sweep stands, however it ends.

    Args:
        cells: of the sweep, whatever their state.
        launcher: runs lists of overrides.
        retry_failed: run failed cells again.
        batch: cells handed to the launcher at a time; None for all.
        costs: what cells cost, for the time that is left.
        retry: what a user adds to have failed cells run again.

    Returns:
        What the launcher gave back, for each cell that was launched.

    Raises:
        SweepFailed: if cells failed, now or before, or were stopped; names them and why.
    """
    console = Terminal(highlight=False)
    before = Overview(cells)
    for cell, finished in before.of("finished"):
        clear_rest(cell.directory, finished.row)
    left = to_run(before, retry_failed=retry_failed)
    console.print(f"sweep of {before.line()}; {len(left):,} to run", markup=False, soft_wrap=True)
    returns: list[JobReturn] = []
    errors: dict[Path, str] = {}
    teller, places = Teller(Overview(cells, errors), costs, console), {id(cell): i for i, cell in enumerate(cells)}
    one_by_one = isinstance(launcher, BasicLauncher)
    size = 1 if one_by_one else batch or max(1, len(left))
    trouble = ""
    try:
        for start in range(0, len(left), size):
            part = left[start : start + size]
            own = [places[id(cell)] for cell in part]
            jobs = [
                [*cell.overrides, f"hydra.job.name='{teller.name(place)}'"]
                for cell, place in zip(part, own, strict=True)
            ]
            with nullcontext() if one_by_one else teller.following(own):
                if one_by_one:
                    teller.begin(own[0])
                found = launcher.launch(jobs, initial_job_idx=start)
                errors |= _errors(part, found)
            returns += found
            teller.look(own)
    except Exception as error:  # a launcher that lost a job gives none of its results back; the records have them
        trouble = f"; the launcher gave up: {type(error).__name__}: {error}"
    finally:
        after = Overview(cells, errors)
        after.show(console, costs, failures=False)
    _raise_for(after, retry, trouble)
    return returns


def _errors(cells: Sequence[PlannedCell], returns: Sequence[JobReturn]) -> dict[Path, str]:
    """Why jobs failed, except that another process had the cell already."""
    return {
        cell.directory: str(found._return_value)
        for cell, found in zip(cells, returns, strict=True)
        if found.status == JobStatus.FAILED and not isinstance(found._return_value, RunBusy)
    }


def _raise_for(overview: Overview, retry: str, trouble: str) -> None:
    failed, unfinished = overview.counts["failed"], len(overview.of("interrupted", "waiting"))
    found = []
    if failed:
        lines = "\n".join(overview.failures())
        found.append(f"{failed} of {len(overview.cells)} cells failed; add {retry} to run them again\n{lines}")
    if unfinished or trouble:
        found.append(f"{unfinished} cells were stopped or not started{trouble}; the same command goes on with them")
    if found:
        raise SweepFailed("\n".join(found))
