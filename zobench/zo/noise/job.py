"""One piece of work for the noise engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseJob:
    """``out ← keep·source + Σ weights[k]·draw(keys[k])[first:]``, summed in fp32 (fp64 for fp64) and rounded once.

    ``out`` and ``source`` are contiguous, may be one, and have one axis; or, with ``rows`` (int64), two: they are then
    these rows of the matrix that is drawn, which begins at element ``first``.
    """

    out: Tensor
    source: Tensor
    first: int
    keys: Sequence[int]
    weights: Sequence[float]
    keep: float
    rows: Tensor | None = None
