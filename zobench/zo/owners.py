"""Owners: which example of a batch each row of an activation belongs to, told by those who lay examples out in rows.

Whoever gives each example an offset of its own needs to know. Rows are all axes of an activation but the last,
flattened; they are told as runs, one for each sequence, in order.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class _Layout(NamedTuple):
    """The sequences that run: whose each is, and how many rows it may have, in each way of laying it out."""

    owners: Sequence[int]
    counts: Sequence[Sequence[int]]


_places: ContextVar[Sequence[int] | None] = ContextVar("places", default=None)
_layout: ContextVar[_Layout | None] = ContextVar("layout", default=None)


@contextmanager
def examples(places: Sequence[int]) -> Iterator[None]:
    """A context in which some examples of a batch run, of these places in it."""
    token = _places.set(places)
    try:
        yield
    finally:
        _places.reset(token)


@contextmanager
def sequences(owners: Sequence[int], *counts: Sequence[int]) -> Iterator[None]:
    """A context in which these sequences run.

    Args:
        owners: the number, among the examples that run, of the one that each sequence belongs to.
        counts: the rows of each sequence, in one or several ways to lay them out; in each, all may be padded to the
            longest.
    """
    places = _places.get()
    token = _layout.set(_Layout([owner if places is None else places[owner] for owner in owners], counts))
    try:
        yield
    finally:
        _layout.reset(token)


@contextmanager
def some(chosen: Sequence[int]) -> Iterator[None]:
    """A context in which only some of the sequences run, by their numbers."""
    layout = _layout.get()
    part = layout and _Layout([layout.owners[i] for i in chosen], [[c[i] for i in chosen] for c in layout.counts])
    token = _layout.set(part)
    try:
        yield
    finally:
        _layout.reset(token)


def runs(rows: int) -> list[tuple[int, int]] | None:
    """The place of the example that each run of rows belongs to, and the length of the run; None where nobody told.

    >>> with sequences([0, 1], [3, 5], [1, 1]):
    ...     runs(8), runs(2), runs(10), runs(6)
    ([(0, 3), (1, 5)], [(0, 1), (1, 1)], [(0, 5), (1, 5)], None)
    """
    layout = _layout.get()
    if layout is None or not layout.owners:
        return None
    for counts in layout.counts:
        for ways in (counts, [max(counts)] * len(counts)):
            if sum(ways) == rows:
                return list(zip(layout.owners, ways, strict=True))
    return None


def each(length: int) -> list[tuple[int, int]]:
    """The runs of sequences that have so many rows each; empty where nobody told."""
    layout = _layout.get()
    return [(owner, length) for owner in layout.owners] if layout else []
