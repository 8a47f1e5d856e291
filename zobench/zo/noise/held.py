"""Draws that are held for a while, so that whoever needs them next reads them instead of drawing them again.

Draws are pure: one that is held has the bits of one that is made again. Only normal numbers on a CPU are held; signs
cost less to make than to read. What is held is a bounded memory of blocks: of one draw, a run of whole spans within
``BLOCK`` elements. A block that does not fit is drawn whenever it is needed, and nothing is dropped to make room for
it: a pass goes over the draws in a fixed order, in which the oldest is the next to be read.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from zobench.zo.noise.philox import SPAN

#: elements of a draw whose memory is given out at once, from multiples of this number on
BLOCK = 1 << 18
#: bytes that a thread may hold of the draws of the block that it works on
WORKING = 8 << 20
_SPANS = BLOCK // SPAN


class HeldDraws:
    """Memory for draws, filled and read by the compiled loops (``cpu_loops.py``).

    A span is written by the one call that covers it whole, and calls that share a pass do not share spans: so threads
    need no locks for the numbers, only to be given memory.

    Args:
        size: bytes, at most; 0 holds nothing.

    Attributes:
        numbers: fp32, shape (spans, SPAN); pages that nothing was written to take no memory.
        made: uint8 for each span, whether it holds its numbers.
    """

    def __init__(self, size: int):
        self.size = size
        self._lock = threading.Lock()
        self._places: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._used = self._most = 0
        self.numbers, self.made = NOTHING

    @property
    def bytes(self) -> int:
        """The memory that was given out at most, and stays: 0 before any draw was held."""
        return 4 * SPAN * self._most

    def __deepcopy__(self, memo: dict[int, object]) -> "HeldDraws":
        """Of a copied method: the same bound, nothing held."""
        return HeldDraws(self.size)

    def clear(self) -> None:
        """Forget the draws; the memory stays for the next ones."""
        with self._lock:
            self.made[: self._used] = 0
            self._places, self._used = {}, 0

    def places(self, keys: Sequence[int], first: int, count: int) -> np.ndarray | None:
        """Where the spans are held of some elements of draws, memory being given to those that have none yet.

        Args:
            keys: of the draws, mixed with their slot.
            first, count: the elements.

        Returns:
            For each key and each block that the elements touch: the first span that has memory, the span after its last
            one, and the place of the first in ``numbers``; int64 of shape (keys, blocks, 3). None if none has memory.
        """
        low, high = -(-first // SPAN), (first + count) // SPAN
        if high <= low or self.size < 4 * SPAN:
            return None
        blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
        table = np.zeros((len(keys), len(blocks), 3), np.int64)
        with self._lock:
            for j, key in enumerate(keys):
                for i, block in enumerate(blocks):
                    place = self._places.get((key, block))
                    if place is None:
                        begin, end = max(low, block * _SPANS), min(high, (block + 1) * _SPANS)
                        place = self._room(key, block, begin, end)
                    if place is not None:
                        table[j, i] = place
        return table

    def _room(self, key: int, block: int, begin: int, end: int) -> tuple[int, int, int] | None:
        spans = self.size // (4 * SPAN)
        if end <= begin or self._used + end - begin > spans:
            return None
        if not len(self.made):
            self.numbers, self.made = np.empty((spans, SPAN), np.float32), np.zeros(spans, np.uint8)
        self._places[key, block] = place = (begin, end, self._used)
        self._used += end - begin
        self._most = max(self._most, self._used)
        return place


#: no numbers, and none made
NOTHING = np.empty((0, SPAN), np.float32), np.empty(0, np.uint8)
_here = threading.local()


def current() -> HeldDraws | None:
    """Where this thread's draws are held, if anywhere."""
    return getattr(_here, "held", None)


@contextmanager
def holding(held: HeldDraws | None) -> Iterator[None]:
    """Within the context, draws of this thread are held in the given memory."""
    before, _here.held = current(), held
    try:
        yield
    finally:
        _here.held = before


@contextmanager
def working() -> Iterator[None]:
    """Hold the draws of one block of work, until its end; where draws are held already, they go there."""
    if current() is not None:
        yield
        return
    if not hasattr(_here, "own"):
        _here.own = HeldDraws(WORKING)
    _here.own.clear()
    with holding(_here.own):
        yield
