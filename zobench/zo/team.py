"""A team: the processes of one run, of which each holds all weights and moves them alike.

Only scalars cross between them, and short texts where nothing is in a hurry; weights never do. A team of one process is
the default everywhere, and then nothing crosses.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")
Work = Callable[[Item], Value]


class TeamError(RuntimeError):
    """The processes of a team cannot go on together."""


class TeamLost(TeamError):
    """Another process of the team ended or hung, without a word."""


class Team:
    """One process, and the base of teams of several.

    All processes of a team make the same calls in the same order; each call is a collective operation. ``work`` is a
    function that each process calls for its share. Here, with one process, everything is its share.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        bytes: of the scalars that all processes together have contributed. Each contribution reaches every other
            process, by a route of the backend's choice. The texts of evaluations and endings are not counted.
        stop_request: gives the name of the signal that asks this process to stop, or None.

    Example:
        >>> team = Team()
        >>> team.rank, team.size, team.leads
        (0, 1, True)
        >>> list(team.scalars(lambda x: x / 2, [1, 2, 3]))
        [0.5, 1.0, 1.5]
        >>> list(team.vectors(lambda pair: [x / 2 for x in pair], [(1, 2), (3,)], widths=[2, 1]))
        [[0.5, 1.0], [1.5]]
        >>> team.sums(lambda: [0.25, 4.0], width=2)
        [0.25, 4.0]
    """

    rank, size = 0, 1

    def __init__(self) -> None:
        self.bytes = 0
        self.stop_request: Callable[[], str | None] = lambda: None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and speaks for all."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's items: one of every ``size``, from the ``rank``-th on."""
        return items[self.rank :: self.size]

    def scalars(self, work: Callable[[Item], float], items: Sequence[Item]) -> Iterator[float]:
        """``work`` of each item, in order and in every process; each does its share. Float64 crosses."""
        found = self.vectors(lambda item: [work(item)], items, [1] * len(items))
        return (value for (value,) in found)

    def vectors(
        self, work: Callable[[Item], Sequence[float]], items: Sequence[Item], widths: Sequence[int]
    ) -> Iterator[Sequence[float]]:
        """``scalars``, for ``work`` that gives several numbers.

        Args:
            work: gives the numbers of an item.
            items: what there is to do; an item is one process's work.
            widths: how many numbers each item gives.
        """
        return map(work, items)

    def sums(self, work: Callable[[], Sequence[float]], width: int) -> list[float]:
        """The sums over processes of what ``work`` gives in each, in float64 and in the order of ranks.

        Args:
            work: gives ``width`` numbers.
        """
        return list(work())

    def results(self, work: Work[Item, Value], items: Sequence[Item]) -> list[Value]:
        """``work`` of each item, in order and in every process; each does its share.

        Args:
            work: gives what JSON can hold.

        Raises:
            KeyboardInterrupt: in all processes, if one was asked to stop.
        """
        return [work(item) for item in items]

    def together(self, work: Callable[[], Value]) -> Value:
        """``work``, done by every process for itself. If it raises in one, all raise."""
        return work()

    def from_first(self, work: Callable[[], Value]) -> Value:
        """What ``work`` gives in the first process, which alone does it. If it raises there, all raise.

        Args:
            work: gives what JSON can hold.
        """
        return work()

    def stop(self) -> str | None:
        """The name of the signal that asks any of the processes to stop, or None."""
        return self.stop_request()

    def check_same(self, what: str, work: Callable[[], str]) -> None:
        """Check that ``work`` gives one text in all processes.

        Args:
            what: names what is compared, for the message.

        Raises:
            TeamError: if a process has another text than the first.
        """

    def check_alike(self, work: Callable[[], Mapping[str, str]]) -> None:
        """Check that ``work`` gives the same names with the same texts in all processes.

        Raises:
            TeamError: in all processes, if one has others than the first; it names the process and what differs.
        """


class Shards(Team):
    """A team whose processes see parts of each batch: all do every item, and a value is the sum of theirs.

    Args:
        team: the processes, which the sums cross.
    """

    def __init__(self, team: Team):
        super().__init__()
        self.team, self.rank, self.size = team, team.rank, team.size

    def vectors(
        self, work: Callable[[Item], Sequence[float]], items: Sequence[Item], widths: Sequence[int]
    ) -> Iterator[Sequence[float]]:
        """The sums over processes of what ``work`` gives for each item, in order; every process does every item."""
        found = iter(self.sums(lambda: [x for item in items for x in work(item)], sum(widths)))
        return ([*islice(found, width)] for width in widths)

    def sums(self, work: Callable[[], Sequence[float]], width: int) -> list[float]:
        """The sums over the processes of ``team``, as it makes them."""
        return self.team.sums(work, width)
