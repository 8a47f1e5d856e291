"""The noise engine's unit of work: draws that are added to one tensor in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseJob:
    """``out ← keep·source + scale·beside + Σ_k weights[k]·draw(keys[k])``, rounded once.

    Sums are made in fp32; in fp64 for fp64 numbers.

    Attributes:
        out: where the sum is written: contiguous, one axis; with ``rows``, a matrix of these rows.
        source: what the draws are added to, of the shape of ``out``; may be ``out``.
        first: index of the draws' element that belongs to the first of ``out``; with ``rows``, to the first of the
            matrix whose rows they are.
        keys: 64 bits each, of (key, slot) mixed.
        weights: one for each key.
        keep: the factor of the source.
        rows: int64 indices of the rows that ``out`` and ``source`` hold; None for a run of elements.
        beside: a tensor that is added between the source and the draws, of the shape of ``out`` and the dtype that is
            summed in; None for none. For runs on a CPU.
        scale: its factor; product and sum are rounded once, as those of torch's ``add_`` with ``alpha``.
    """

    out: Tensor
    source: Tensor
    first: int
    keys: Sequence[int]
    weights: Sequence[float]
    keep: float
    rows: Tensor | None = None
    beside: Tensor | None = None
    scale: float = 0.0
