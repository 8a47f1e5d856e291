"""Which rows are worth their cost, as far as the tests can tell."""

import math
from itertools import permutations

import pandas as pd

from zobench.report.compare.board import Board
from zobench.report.compare.slices import Slice
from zobench.report.frames.runs import Row

#: rows by their cost, and the pairs of them that are joined
Front = tuple[list[Row], list[tuple[Row, Row]]]
_SAME_COST = 1e-3  # relative
_SAME_MIB = 16.0  # of peaks on a CPU: what its allocators keep differs so much from one time to another


def noise_of(row: Row, other: Row, x: str, on_cpu: bool) -> float:
    """The difference of two rows' costs up to which they are equal.

    That is the root of the sum of their variances over seeds; a thousandth, and for peaks of memory on a CPU 16 MiB, at
    least.

    >>> noise_of({"time": 10.0, "time_std": 3.0}, {"time": 12.0, "time_std": 4.0}, "time", on_cpu=True)
    5.0
    """
    spread = math.hypot(*(each.get(f"{x}_std") or 0.0 for each in (row, other)))
    return max(0.0 if spread != spread else spread, _SAME_COST * row[x], _SAME_MIB if x == "peak_mib" and on_cpu else 0)


def supported_front(board: Board, slice_: Slice, points: pd.DataFrame, x: str) -> Front:
    """Find the rows that are better than every cheaper one by the tests; where nothing is tested, none.

    Of rows of equal cost (``noise_of``) each stays unless another is better than it by the tests.

    Args:
        points: rows of the slice with the columns ``x`` and, where it is known, ``x`` and ``_std``.

    Returns:
        The rows by their cost, and those that a front joins: neighbours of unequal cost, of which the dearer is better
        by the tests. Rows within noise of one another are not joined.
    """
    if slice_.mixed:
        return [], []
    known: list[Row] = points[points[x].notna()].sort_values(x, kind="stable").to_dict("records")

    def dearer(row: Row, other: Row) -> bool:
        return bool(row[x] > other[x] + noise_of(row, other, x, board.on_cpu))

    def beaten(row: Row, other: Row) -> bool:
        if dearer(row, other):
            return not board.supported(slice_, row["row"], other["row"])
        return not dearer(other, row) and board.supported(slice_, other["row"], row["row"])

    front = [row for row in known if not any(beaten(row, other) for other in known if other is not row)]
    joined = [
        (row, other) for row, other in permutations(front, 2)
        if dearer(other, row) and not any(dearer(mid, row) and dearer(other, mid) for mid in front)
    ]  # fmt: skip
    return front, joined
