"""Sums of scores over the parts of tensors: the same bits in whatever order threads are done with the parts."""

from collections.abc import Sequence
from threading import Lock

from torch import Tensor

from zobench.zo.slot import Rows

_lock = Lock()


class ScoreSums:
    """``Σ w_k s_k`` per slot, summed part by part, and within a part key by key.

    Args:
        open: whether the step is to fill them as it goes.

    Attributes:
        total: the sums so far, by the slot's name.
    """

    def __init__(self, open: bool = False):
        self.open = open
        self.total: dict[str, Tensor] = {}
        self._next: dict[str, int] = {}
        self._waiting: dict[tuple[str, int], tuple[int, Sequence[Tensor], Sequence[float]]] = {}

    def add(self, name: str, rows: Rows, scores: Sequence[Tensor], weights: Sequence[float], zero: Tensor) -> None:
        """Add the scores of a part: now, or once those of the parts before it are there.

        Args:
            rows: a slice, or None for the whole.
            zero: what a sum begins with; it is taken over.
        """
        start, stop = (rows.start, rows.stop) if isinstance(rows, slice) else (0, -1)
        with _lock:
            total = self.total.setdefault(name, zero)
            self._waiting[name, start] = (stop, scores, weights)
            while (part := self._waiting.pop((name, self._next.get(name, 0)), None)) is not None:
                self._next[name], scores, weights = part
                for score, weight in zip(scores, weights, strict=True):
                    total.add_(score, alpha=weight)

    def state_bytes(self) -> int:
        """Bytes that the sums take."""
        return sum(total.numel() * total.element_size() for total in self.total.values())
