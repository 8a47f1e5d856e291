"""What tells the cells of a sweep from each other, in words."""

from collections.abc import Sequence

from zobench.sweep.plan import PlannedCell
from zobench.system.console import cell_title

#: keys that every title has
_IN_TITLE = {"model", "method", "task", "tuning", "seed", "method.lr"}


def varied(cells: Sequence[PlannedCell]) -> set[str]:
    """The keys that do not have the same value in every cell."""
    values: dict[str, set[str]] = {}
    for cell in cells:
        for key, value in map(_pair, cell.overrides):
            values.setdefault(key, set()).add(value)
    common = set.intersection(*({key for key, _ in map(_pair, cell.overrides)} for cell in cells)) if cells else set()
    return {key for key, found in values.items() if len(found) > 1 or key not in common}


def titles(cells: Sequence[PlannedCell]) -> list[str]:
    """A line for each cell: task, model, method, rate and seed, and whatever else differs between the cells."""
    others = varied(cells) - _IN_TITLE
    return [_title(cell, others) for cell in cells]


def _title(cell: PlannedCell, others: set[str]) -> str:
    chosen = {group: cell.choice(group) for group in ("task", "model", "method", "tuning")}
    words = [cell_title({**chosen, "method.lr": cell.get("method.lr"), "seed": cell.get("seed")})]
    return ", ".join([*words, *(override for override in cell.overrides if _pair(override)[0] in others)])


def _pair(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value
