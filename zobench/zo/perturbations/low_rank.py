"""Gaussian directions of low rank on matrices: ``u = U Vᵀ / √r``, both factors drawn from the key."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import at_least
from zobench.zo.direction import Direction
from zobench.zo.factors import Factors, add_product_
from zobench.zo.independent import Gaussian
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

#: factors are held for a step where they take less than this share of a slot's numbers
_HELD = 1 / 32


class LowRank(Gaussian):
    """Directions ``u = U Vᵀ / √r`` on matrices, with ``U`` (m × r) and ``V`` (n × r) drawn from ``N(0, I)``.

    Entries have mean 0 and variance 1 and are uncorrelated, but neither independent nor normal: a distribution of its
    own, not MeZO's. On vectors, and on tensors of more than two axes, it is a plain Gaussian. A rank of the short side
    or more is cut to it. In half precision the direction is the product of factors that the weights' dtype can hold.

    LOZO (arXiv:2410.07698, Algorithm 1) draws ``U Vᵀ`` too, without the scale, and keeps ``V`` for some steps; here
    both are new with each key.

    Args:
        rank: r.

    Raises:
        ValueError: for a rank below 1.

    State: none between steps.

    Example:
        >>> from zobench.zo import make_slots
        >>> slot = make_slots([("w", torch.zeros(30, 20))])[0]
        >>> u = LowRank(rank=2).estimate(slot, Direction.ray(7))
        >>> int(torch.linalg.matrix_rank(u)), 0.5 < float(u.std()) < 1.5
        (2, True)
    """

    def __init__(self, *, rank: int = 8):
        at_least(1, rank=rank)
        self.r = rank
        self._held: dict[str, tuple[int, Factors]] = {}  # of the last key on a slot, within a step

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        self._held = {}

    def after(self, step: int, slots: Sequence[Slot]) -> None:
        self._held = {}

    def factor_rank(self, slot: Slot) -> int | None:
        return min(self.r, *slot.param.shape) if slot.param.ndim == 2 else None

    def factors(self, slot: Slot, direction: Direction) -> Factors | None:
        """Those of each key side by side: a direction of q keys has rank q·r."""
        if slot.param.ndim != 2 or not direction:
            return None
        scale, own = self._scaled(slot, direction)
        return Factors(own.U * scale, own.V)

    def _scaled(self, slot: Slot, direction: Direction) -> tuple[float, Factors]:
        """A number c and factors with ``c U Vᵀ`` the direction: small weights are kept out of half precision."""
        scale = max(map(abs, direction.values()))
        parts = [(self._drawn(slot, key), weight / scale) for key, weight in direction.items()]
        U = [own.U if weight == 1.0 else own.U * weight for own, weight in parts]
        V = [own.V for own, _ in parts]
        return scale, Factors(*(x[0] if len(x) == 1 else torch.cat(x, dim=1) for x in (U, V)))

    def _drawn(self, slot: Slot, key: int) -> Factors:
        """The factors of ``u(key)``, in the weights' dtype."""
        held = self._held.get(slot.name)
        if held is not None and held[0] == key and held[1].U.device == slot.param.device:
            return held[1]
        (m, n), r = slot.param.shape, min(self.r, *slot.param.shape)
        U, V = noise.gaussian(key, slot.id, torch.Size((m + n, r)), slot.param.device).split((m, n))
        drawn = Factors(U.div_(r**0.5), V).to(slot.param.dtype)
        if r * (m + n) <= _HELD * m * n:
            self._held[slot.name] = key, drawn
        return drawn

    def draw(self, slot: Slot, key: int) -> Tensor:
        """The whole direction, in the dtype of sums: the lift is the identity, as the product is linear in neither."""
        if slot.param.ndim != 2:
            return super().draw(slot, key)
        own = self._drawn(slot, key).to(sum_dtype(slot.param))
        return own.U @ own.V.T

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        if slot.param.ndim != 2:
            super().accumulate_(slot, direction, total, rows)
            return
        for key, weight in direction.items():
            own = self._drawn(slot, key).to(total.dtype)
            total.addmm_(pick(own.U, rows), own.V.T, alpha=weight)

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        direction = self.local(slot, direction).nonzero()
        if slot.param.ndim != 2 or rows is not None or not direction:
            super().write_(slot, direction, out, keep, rows)
            return
        if out is not slot.param:
            out.copy_(slot.param)
        add_product_(out, *self._scaled(slot, direction), keep)

    def alone(self, slot: Slot) -> bool:
        return slot.param.ndim != 2
