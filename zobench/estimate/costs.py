"""The cost of a planned cell: from finished runs like it, else by the law."""

from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from zobench.config.chosen import Chosen
from zobench.errors import ConfigError, told
from zobench.estimate.cost import LAW, RUNS, SHORT_RUNS, Cost, Part
from zobench.estimate.law import by_law, on_gpu
from zobench.estimate.prices import Prices
from zobench.estimate.rates import Rates, evaluations, rates, split_sizes
from zobench.record import summaries
from zobench.record.reading import Unreadable
from zobench.record.runs import find
from zobench.run.budget import Spending

#: settings that decide what a forward pass costs, the least important last
_LIKE = ("model", "tuning", "objective", "objective.max_new_tokens", "dtype", "batch_size", "task", "method")
_GROUPS = ("model", "tuning", "objective", "task", "method")


class Costs:
    """Exact prices of cells, and estimates of hours and memory from the finished runs below some folders.

    Args:
        folders: where runs are looked for, at any depth.
    """

    def __init__(self, folders: Iterable[Path]):
        self._prices, self._folders = Prices(), list(folders)
        self._of = cache(self._from_runs)

    @cached_property
    def _known(self) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
        """The rows of finished runs by what they have in common; read once something is left to be estimated."""
        known: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in _finished(self._folders):
            key = tuple(row.get(name) for name in _LIKE)
            for length in (len(_LIKE), len(_LIKE) - 1):
                known.setdefault(key[:length], []).append(row)
        return known

    def of(self, cell: Chosen) -> Cost:
        """What a cell costs: as runs of the same settings did, else as those of any method, else by the law."""
        try:
            spending = self._prices.of(cell)
        except Exception as error:  # the class may be anybody's, and raise anything
            return Cost(None, (), None, gpu=on_gpu(cell), source=LAW, refusal=told(error, ConfigError))
        key = tuple(cell.choice(n) if n in _GROUPS else cell.get(n) for n in _LIKE)
        for length in (len(_LIKE), len(_LIKE) - 1):
            if key[:length] in self._known:
                known = self._of(key[:length])
                if spending.forwards and known.forward is None:  # they only evaluated
                    continue
                return _as_they_did(cell, spending, known, "" if length == len(_LIKE) else " of other methods")
        return by_law(cell, spending)

    def _from_runs(self, key: tuple[Any, ...]) -> Rates:
        return rates(self._known[key])


def _as_they_did(cell: Chosen, spending: Spending, known: Rates, whose: str) -> Cost:
    """What a cell takes at the rates of runs like it: its start, its steps and its evaluations."""
    sizes = [size or then for size, then in zip(split_sizes(cell)[1:], known.sizes, strict=True)]
    often = evaluations(spending.steps, cell.get("eval_every"))
    parts = [Part("start", 1, known.before)]
    if spending.steps:
        parts.append(Part("steps", spending.steps, (known.forward or 0.0) * spending.forwards / spending.steps))
    for name, size, times in zip(("dev", "test"), sizes, often, strict=True):
        parts.append(Part(f"{name} evaluations", times, size * (known.example or 0.0)))
    source = SHORT_RUNS if spending.forwards and not known.steady else RUNS
    said = f"{known.runs} {'short ' * (source == SHORT_RUNS)}run{'s' * (known.runs != 1)}{whose}"
    return Cost(spending, tuple(parts), known.gib, known.gpu, source, said)


def _finished(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for directory in find(folder).runs if folder.is_dir() else ():
            try:
                row = summaries.as_row(summaries.read(directory))
            except Unreadable:
                continue
            if row["state"] == "finished" and row.get("wall_seconds"):
                yield row
