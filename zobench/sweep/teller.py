"""What a sweep's console says while cells run: which begins, which has ended and how, and the time left."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from rich.console import Console

from zobench.errors import printable
from zobench.estimate.costs import Costs
from zobench.estimate.tell import duration
from zobench.record.summaries import RESULTS
from zobench.sweep.overview import Overview
from zobench.sweep.state import State
from zobench.sweep.titles import titles

_LOOK_EVERY_S = 2.0
_ENDED = (*RESULTS, "failed")


class Teller:
    """Follows the cells of a sweep, and prints a line for each that begins or ends. Cells are known by their places.

    Args:
        overview: the states before anything runs; kept up to date.
        costs: what cells cost.
        console: where to print.
    """

    def __init__(self, overview: Overview, costs: Costs, console: Console):
        self._overview, self._costs, self._console = overview, costs, console
        self._titles = titles(overview.cells)
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    def name(self, place: int) -> str:
        """Such as ``cell 4 of 18``: the same whichever cells are left."""
        return f"cell {place + 1} of {len(self._titles)}"

    def begin(self, place: int) -> None:
        """Say that a cell begins."""
        self._begun.add(place)
        self._say(f"{self.name(place)}: {self._titles[place]}")

    def look(self, places: Collection[int]) -> None:
        """Look at some cells again, and say of each whether it has begun, or ended since it was looked at last."""
        before = {place: self._overview.states[place].name for place in places}
        self._overview.look_again(places)
        for place in places:
            found = self._overview.states[place]
            if found.name == "running" and place not in self._begun:
                self.begin(place)
            if (
                found.name in _ENDED
                and place not in self._ended
                and (before[place] != found.name or place in self._begun)
            ):
                self._ended.add(place)
                self._say(f"{self.name(place)} {_outcome(found)}: {self._titles[place]}; {self._left()}")

    @contextmanager
    def following(self, places: Collection[int]) -> Iterator[None]:
        """A context in which cells run in other processes, and are looked at now and then."""
        done = Event()

        def follow() -> None:
            while not done.wait(_LOOK_EVERY_S):
                self.look([place for place in places if place not in self._ended])

        thread = Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.look([place for place in places if place not in self._ended])

    def _left(self) -> str:
        overview = self._overview
        done = sum(overview.counts[name] for name in _ENDED)
        seconds = overview.seconds_left(self._costs)
        return f"{done} of {len(self._titles)} done" + (f", about {duration(seconds)} left" if seconds else "")

    def _say(self, text: str) -> None:
        self._console.print(printable(text), markup=False, soft_wrap=True)


def _outcome(found: State) -> str:
    """How a cell ended, with its metric and the time it took."""
    row, words = found.row, [found.name]
    if found.name == "failed":
        return f"failed ({' '.join(found.reason.split())[:200]})"
    if isinstance(row.get("test_metric"), int | float):
        words.append(f"test {row.get('metric')} {row['test_metric']:.3f}")
    if row.get("wall_seconds"):
        words.append(f"{duration(row['wall_seconds'])}")
    return ", ".join(words)
