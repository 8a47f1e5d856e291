"""A subspace that follows the leading directions of layers' inputs by Oja's rule, and directions of rank one in it."""

import math

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import at_least, not_negative
from zobench.zo.direction import Direction
from zobench.zo.factors import Factors
from zobench.zo.perturbations.activation import ActivationSubspace
from zobench.zo.perturbations.bases import Basis, orthonormal
from zobench.zo.perturbations.input_sketch import BasisSketch
from zobench.zo.slot import Rows, Slot, pick


class OjaSubspace(ActivationSubspace):
    """Directions ``u = √(mn) · a bᵀ Qᵀ / (‖a‖ ‖b‖)`` on matrices of linear layers, of rank one; elsewhere a Gaussian.

    a and b are Gaussian, and b is 0 but for the first ``shared`` columns of Q and ``sampled`` others, which each key
    chooses anew. Q (n × rank) follows the leading eigenvectors of the inputs' ``C = Σ Xᵀ X / rows``, in their order:
    ``Q ← qf(Q + eta · C Q)``, the Q of a QR decomposition. Entries of u have mean square 1, exactly.

    Args:
        rank: K, columns of Q, cut to the length of an input.
        shared: h, leading columns that all directions use.
        sampled: columns that a direction uses of the K − h others.
        eta: step of Oja's rule.

    Raises:
        ValueError: for a setting out of range.

    State: Q, in fp32 (fp64 for fp64 weights).
    """

    def __init__(self, *, rank: int = 128, shared: int = 48, sampled: int = 16, eta: float = 0.3):
        at_least(1, rank=rank, shared=shared)
        not_negative(sampled=sampled, eta=eta)
        super().__init__(rank=rank)
        self.shared, self.sampled, self.eta = shared, sampled, eta
        #: slot name and key → a and b of a draw, within a step
        self._drawn: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    def follow(self, sketch: BasisSketch) -> None:
        """Move the bases of the slots that a sketch saw; those of other slots stay."""
        moved = {}
        for slot in sketch.seen():
            axis = sketch.axis(slot)
            assert axis is not None
            step = sketch.sketch(slot) * (self.eta / sketch.rows(slot))
            Q = orthonormal(sketch.omega(slot, axis) + step)  # column by column in memory, as no file holds it
            moved[slot.name] = Basis.along(axis, Q.contiguous())
        self.span(self.bases | moved)

    def draw_core(self, slot: Slot, key: int, basis: Basis) -> Tensor:
        """``√(mn) a bᵀ / (‖a‖ ‖b‖)``, of the basis's core shape."""
        a, b = self._pair(slot, key, basis)
        return torch.outer(b, a) if basis.V is None else torch.outer(a, b)

    def _pair(self, slot: Slot, key: int, basis: Basis) -> tuple[Tensor, Tensor]:
        """a, scaled so that ``a bᵀ`` is the core, and b with its zeros; a few numbers, which are held for the step."""
        if (held := self._drawn.get((slot.name, key))) is not None:
            return held
        Q = basis.matrix
        outs, width = slot.param.numel() // len(Q), Q.shape[1]
        shared = min(self.shared, width)
        others, active = width - shared, min(shared + self.sampled, width)
        drawn = noise.gaussian(key, slot.id, torch.Size((outs + active + others,)), slot.param.device).to(Q.dtype)
        a, numbers, order = drawn.split((outs, active, others))
        b = torch.zeros_like(Q[0])
        b[:shared] = numbers[:shared]
        b[shared + order.topk(active - shared).indices] = numbers[shared:]
        a = a * (math.sqrt(slot.param.numel()) / (a.norm() * b.norm()))
        self._drawn[slot.name, key] = a, b
        return a, b

    def _product(self, slot: Slot, direction: Direction, basis: Basis) -> Factors:
        """Those of all keys side by side."""
        pairs = [(self._pair(slot, key, basis), weight) for key, weight in direction.items()]
        left = torch.stack([a * weight for (a, _), weight in pairs], dim=1)
        right = basis.matrix @ torch.stack([b for (_, b), _ in pairs], dim=1)
        return Factors(right, left) if basis.V is None else Factors(left, right)

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        basis = self.bases.get(slot.name)
        if basis is None:
            super().accumulate_(slot, direction, total, rows)
        elif direction:
            own = self._product(slot, direction, basis)
            total.addmm_(pick(own.U, rows), own.V.T)

    def factor_rank(self, slot: Slot) -> int | None:
        return None if super().factor_rank(slot) is None else 1

    def largest_factor_rank(self, slot: Slot) -> int | None:
        return 1 if self.takes(slot) else None

    def _let_go(self) -> None:
        super()._let_go()
        self._drawn = {}
