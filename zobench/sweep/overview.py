"""How a sweep stands: a table by method and task, what runs, what failed, and when it will be done."""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from zobench.errors import printable
from zobench.estimate.costs import Costs
from zobench.estimate.tell import duration
from zobench.record.summaries import RESULTS
from zobench.sweep import state
from zobench.sweep.found import compared
from zobench.sweep.left import progress, seconds_left
from zobench.sweep.plan import PlannedCell
from zobench.sweep.state import STATES, State

_LOOK_EVERY_S = 2.0
_PLAIN_EVERY_S = 30.0
_FAILURES_SHOWN = 20
_RUNNING_SHOWN = 20


class Overview:
    """The states of all cells at one moment.

    Args:
        cells: of the sweep.
        errors: reasons of cells that failed before they had a record, by directory.

    Attributes:
        states: of the cells, in their order.
        counts: state's name → number of cells.
    """

    def __init__(self, cells: Sequence[PlannedCell], errors: Mapping[Path, str] | None = None):
        self.cells, self._errors = list(cells), errors if errors is not None else {}
        self.states = [_state(cell, self._errors) for cell in self.cells]
        self.counts = Counter(found.name for found in self.states)

    def of(self, *names: str) -> list[tuple[PlannedCell, State]]:
        """The cells that are in some states, each with its state."""
        return [(c, s) for c, s in zip(self.cells, self.states, strict=True) if s.name in names]

    def line(self) -> str:
        """The counts in one line, as in ``12 cells: 10 finished, 2 waiting``."""
        found = ", ".join(f"{self.counts[name]} {name}" for name in STATES if self.counts[name])
        return f"{_cells(len(self.cells))}: {found or 'none'}"

    def failures(self, shown: int = _FAILURES_SHOWN) -> list[str]:
        """A line for each failed cell with the reason, for the first ``shown`` of them."""
        failed = self.of("failed")
        lines = [
            printable(f"failed: {cell.directory}: {' '.join(found.reason.split())}") for cell, found in failed[:shown]
        ]
        return lines + ([f"... and {len(failed) - shown} more"] if len(failed) > shown else [])

    def look_again(self, places: Collection[int]) -> None:
        """Read the states of the cells at some places anew."""
        for place in places:
            self.states[place] = _state(self.cells[place], self._errors)
        self.counts = Counter(found.name for found in self.states)

    def seconds_left(self, costs: Costs) -> float | None:
        """Seconds until the sweep is done, as ``left.seconds_left`` has them."""
        return seconds_left(zip(self.cells, self.states, strict=True), costs)

    def lines(self, costs: Costs) -> list[str]:
        """The counts and what runs, in lines for a log."""
        return [self._headline(costs), *(f"running: {' '.join(words)}" for words in self._running())]

    def rich(self, costs: Costs) -> Group:
        """The counts and what runs, as tables for a terminal."""
        parts: list[Any] = [self._table()]
        running = self._running()
        if running:
            table = Table("running", "progress", "loss", "left")
            for words in running:
                table.add_row(*words)
            parts.append(table)
        return Group(*parts, Text(self._headline(costs)))

    def show(self, console: Console, costs: Costs, *, failures: bool = True) -> None:
        """Print tables on a terminal, plain lines elsewhere, and below them what failed."""
        if console.is_terminal:
            console.print(self.rich(costs))
        for line in [] if console.is_terminal else self.lines(costs):
            console.print(line, markup=False, soft_wrap=True)
        for line in self.failures() if failures else []:
            console.print(line, markup=False, soft_wrap=True)

    def _headline(self, costs: Costs) -> str:
        left = self.seconds_left(costs)
        if not left:
            return self.line()
        if self.counts["running"]:
            return f"{self.line()}; done in about {duration(left)}"
        rough = any(costs.of(cell).rough for cell, _ in self.of("interrupted", "waiting"))
        return f"{self.line()}; {'roughly' if rough else 'about'} {duration(left)} of work left"

    def _table(self) -> Table:
        shown = [name for name in STATES if self.counts[name]]
        rows: dict[tuple[str, str, str], Counter[str]] = {}
        for cell, found in zip(self.cells, self.states, strict=True):
            key = (cell.choice("model"), cell.choice("task"), cell.choice("method"))
            rows.setdefault(key, Counter())[found.name] += 1
        table = Table("model", "task", "method")
        for name in shown:
            table.add_column(name, justify="right")
        for key, counts in rows.items():
            table.add_row(*key, *(str(counts[name] or "") for name in shown))
        return table

    def _running(self) -> list[list[str]]:
        found = []
        for cell, _ in self.of("running")[:_RUNNING_SHOWN]:
            now = progress(cell)
            loss = "-" if now.loss is None else f"loss {now.loss:.4f}"
            left = "-" if now.seconds_left is None else f"{duration(now.seconds_left)} left"
            found.append([cell.settings["out"], f"step {now.step}, {now.fraction:.0%}", loss, left])
        return found


def watch(cells: Sequence[PlannedCell], costs: Costs, console: Console) -> None:
    """Show a sweep until nothing is left to run: live on a terminal, now and then in lines elsewhere.

    Args:
        cells: of the sweep.
        costs: what cells cost.
        console: where to show them.
    """
    overview = Overview(cells)
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            if live is None:
                overview.show(console, costs)
            else:
                failures = [Text(printable(line)) for line in overview.failures()]
                live.update(Group(overview.rich(costs), *failures), refresh=True)
            if not overview.of("running", "interrupted", "waiting"):
                return
            time.sleep(_PLAIN_EVERY_S if live is None else _LOOK_EVERY_S)
            overview = Overview(cells)


def _state(cell: PlannedCell, errors: Mapping[Path, str]) -> State:
    found = state.read(cell.directory)
    if cell.directory in errors and cell.get("overwrite"):  # the record is still that of an earlier run
        return State("failed", found.row | {"reason": errors[cell.directory]})
    if found.name in RESULTS:
        return compared(cell, found)
    if cell.directory in errors and found.name in ("interrupted", "waiting"):
        return State("failed", found.row | {"reason": errors[cell.directory]})
    return found


def _cells(n: int) -> str:
    return f"{n:,} cell" + "s" * (n != 1)
