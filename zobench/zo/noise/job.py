"""The noise engine's unit of work: draws that are added to one tensor in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseJob:
    """``out ← keep·source + Σ_k weights[k]·draw(keys[k])``, summed in fp32 (fp64 for fp64) and rounded once.

    Attributes:
        out: where the sum is written: contiguous, one axis; with ``rows``, a matrix of these rows.
        source: what the draws are added to, of the shape of ``out``; may be ``out``.
        first: index of the draws' element that belongs to the first of ``out``; with ``rows``, to the first of the
            matrix whose rows they are.
        keys: 64 bits each, of (key, slot) mixed.
        weights: one for each key.
        keep: the factor of the source.
        rows: int64 indices of the rows that ``out`` and ``source`` hold; None for a run of elements.
    """

    out: Tensor
    source: Tensor
    first: int
    keys: Sequence[int]
    weights: Sequence[float]
    keep: float
    rows: Tensor | None = None
