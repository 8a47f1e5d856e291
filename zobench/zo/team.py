"""A team: one run by several processes, of which each holds all weights and moves them alike.

Only scalars cross between them, and short texts where nothing is in a hurry; weights never do. A team of one process is
the default everywhere, and nothing crosses.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")
Work = Callable[[Item], Value]


class TeamError(RuntimeError):
    """The processes of a team cannot go on together."""


class Team:
    """One process. ``Processes`` is the same for several: all of them make the same calls in the same order.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        bytes: of the scalars that all processes together have contributed. Each contribution reaches every other
            process, by a route of the backend's choice. The texts of evaluations and endings are not counted.
        asked: gives the name of the signal that asks this process to stop, or None.
    """

    rank, size = 0, 1

    def __init__(self) -> None:
        self.bytes = 0
        self.asked: Callable[[], str | None] = lambda: None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and speaks for all."""
        return self.rank == 0

    def mine(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's share."""
        return items[self.rank :: self.size]

    def scalars(self, work: Callable[[Item], float], items: Sequence[Item]) -> Iterator[float]:
        """``work`` of each item, in order; each process does its share."""
        return map(work, items)

    def sums(self, work: Callable[[], Sequence[float]], width: int) -> list[float]:
        """The sums over processes of the ``width`` numbers that ``work`` gives in each, in float64 and by rank."""
        return list(work())

    def results(self, work: Work[Item, Value], items: Sequence[Item]) -> list[Value]:
        """``work`` of each item, in order; each process does its share. Results must be what JSON can hold.

        Raises:
            KeyboardInterrupt: in all processes, if one was asked to stop.
        """
        return [work(item) for item in items]

    def together(self, work: Callable[[], Value]) -> Value:
        """``work``, done by every process for itself. If it raises in one, all raise."""
        return work()

    def from_first(self, work: Callable[[], Value]) -> Value:
        """What ``work`` gives in the first process, which alone does it; JSON-able. If it raises, all raise."""
        return work()

    def stop(self) -> str | None:
        """The signal that asks any of the processes to stop."""
        return self.asked()

    def same(self, what: str, work: Callable[[], str]) -> None:
        """Raises TeamError if ``work`` gives other text in one process than in the first."""


class Shards(Team):
    """A team whose processes see parts of each batch: all do every item, and a value is the sum of theirs."""

    def __init__(self, team: Team):
        super().__init__()
        self.team, self.rank, self.size = team, team.rank, team.size

    def scalars(self, work: Callable[[Item], float], items: Sequence[Item]) -> Iterator[float]:
        return iter(self.sums(lambda: [work(item) for item in items], len(items)))

    def sums(self, work: Callable[[], Sequence[float]], width: int) -> list[float]:
        return self.team.sums(work, width)
