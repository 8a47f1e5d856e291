"""How long a sweep still takes: estimates, corrected by what the cells that are done took."""

from collections.abc import Iterable
from statistics import fmean

from zobench.estimate.costs import Costs
from zobench.run.budget import limits
from zobench.sweep import state
from zobench.sweep.plan import PlannedCell
from zobench.sweep.state import State

_GROUPS = ("model", "task", "method", "tuning")


def progress(cell: PlannedCell) -> state.Progress:
    """How far a cell's run has come."""
    return state.progress(cell.directory, limits(cell.get("steps"), cell.get("forwards")))


def seconds_left(cells: Iterable[tuple[PlannedCell, State]], costs: Costs) -> float | None:
    """Seconds until the sweep is done, if as many cells run at a time as now; None if nothing says what a cell takes.

    A cell takes what its estimate says, times what finished cells, and those that run now, took of their estimates:
    those of the same method, task and model where there are any, else all. Without an estimate it takes as long.

    Args:
        cells: of the sweep, with their states.
        costs: what cells cost.
    """
    left, running, took = [], [], []
    for cell, found in cells:
        if found.name == "finished" and found.row.get("wall_seconds"):
            took.append((cell, float(found.row["wall_seconds"])))
        elif found.name == "running":
            running.append((cell, progress(cell)))
        elif found.name in ("interrupted", "waiting"):
            left.append((cell, 1 - progress(cell).fraction if found.row else 1.0))
    took += [(cell, now.seconds / now.fraction) for cell, now in running if now.fraction]
    pace = _Pace(took, costs)
    seconds = [now.seconds_left if now.fraction else pace.expected(cell) for cell, now in running]
    for cell, share in left:
        whole = pace.expected(cell)
        seconds.append(None if whole is None else whole * share)
    known = [each for each in seconds if each is not None]
    return sum(known) / max(1, len(running)) if len(known) == len(seconds) else None


class _Pace:
    """What cells take, by their estimates and by what others took.

    Args:
        took: cells with their seconds.
        costs: their estimates.
    """

    def __init__(self, took: Iterable[tuple[PlannedCell, float]], costs: Costs):
        self._costs = costs
        self._took: dict[tuple[str, ...], list[tuple[float | None, float]]] = {}
        for cell, seconds in took:
            for group in (_group(cell), ()):
                self._took.setdefault(group, []).append((costs.of(cell).seconds, seconds))

    def expected(self, cell: PlannedCell) -> float | None:
        """Seconds of a cell; None if nothing says it."""
        like, estimate = self._took.get(_group(cell)) or self._took.get(()) or [], self._costs.of(cell).seconds
        if estimate is None:
            return fmean(seconds for _, seconds in like) if like else None
        known = [(said, seconds) for said, seconds in like if said]
        return estimate * sum(s for _, s in known) / sum(said for said, _ in known) if known else estimate


def _group(cell: PlannedCell) -> tuple[str, ...]:
    return tuple(cell.choice(name) for name in _GROUPS)
