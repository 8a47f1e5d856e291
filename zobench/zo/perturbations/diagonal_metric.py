"""Gaussian directions in a diagonal metric, ``u = z / √H``: shorter where the loss curves more, with H learned."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.independent import Gaussian
from zobench.zo.scratch import scratch
from zobench.zo.slot import Rows, Slot, pick, sum_dtype


class DiagonalMetric(Gaussian):
    """``u(key) = z(key) / √H`` on matrices, embeddings and vectors alike; H is 1 at first.

    H moves when ``learn`` is told, with the weights at θ: a walk back through another H would end elsewhere.

    State: H, one fp32 copy (fp64 for fp64 weights) of the trainable weights; none while ``alpha`` is 0.

    Args:
        alpha: rate α of the moving average; 0 leaves H at 1, which is the plain Gaussian to the bit.
        centred: samples of the curvature have the factor ``|z² − 1|``; else ``z²``.

    Example:
        >>> from zobench.zo import make_slots
        >>> slots = make_slots([("w", torch.zeros(4))])
        >>> space, u = DiagonalMetric(alpha=0.5, centred=True), Direction.ray(7)
        >>> z = space.estimate(slots[0], u)
        >>> space.begin(0, slots)
        >>> space.learn(slots, u, 8.0)
        >>> bool(torch.allclose(space.metric["w"], 0.5 + 0.5 * 4 * (z**2 - 1).abs()))
        True
        >>> bool(torch.allclose(space.estimate(slots[0], u), z / space.metric["w"].sqrt()))
        True
    """

    def __init__(self, alpha: float, centred: bool):
        self.alpha, self.centred = alpha, centred
        self.metric: dict[str, Tensor] = {}

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        for slot in slots if self.alpha else ():
            param, held = slot.param, self.metric.get(slot.name)
            if held is None:
                held = torch.ones(param.shape, dtype=sum_dtype(param), device=param.device)
            self.metric[slot.name] = held.to(param.device)

    @torch.no_grad()
    def learn(self, slots: Sequence[Slot], u: Direction, curvature: float) -> None:
        """``H ← (1 − α) H + α |c/2 · H (z² − 1)|``, where c is the curvature ``uᵀ∇²L u`` along one draw.

        ``E[c/2 · H (z² − 1)]`` is the diagonal of ∇²L (arXiv:2402.15173, equation 5).
        """
        (key,), rate = u, self.alpha * abs(curvature) / 2

        def move(slot: Slot, rows: Rows) -> None:
            held = pick(self.metric[slot.name], rows)
            z = scratch("core", held, held.dtype).zero_()
            super(DiagonalMetric, self).accumulate_(slot, Direction.ray(key), z, rows)
            factor = z.square_().sub_(1.0).abs_() if self.centred else z.square_()
            held.mul_(factor.mul_(rate).add_(1.0 - self.alpha))

        self.over_parts(slots if self.alpha else (), move)

    def alone(self, slot: Slot) -> bool:
        return slot.name not in self.metric

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        if self.alone(slot):
            super().add_(slot, core, out, scale)
        else:
            out.addcdiv_(core.to(out.dtype), self.metric[slot.name].sqrt(), value=scale)

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """The draws are summed and divided once."""
        if self.alone(slot) or not direction:
            super().accumulate_(slot, direction, total, rows)
            return
        core = scratch("core", total, total.dtype).zero_()
        super().accumulate_(slot, direction, core, rows)
        root = scratch("root", total, total.dtype)
        total.addcdiv_(core, torch.sqrt(pick(self.metric[slot.name], rows), out=root))

    def state_dict(self) -> dict[str, Tensor | int | float]:
        return dict(self.metric)

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        self.metric = {name: held.clone() for name, held in state.items() if isinstance(held, Tensor)}

    def state_bytes(self) -> int:
        return sum(held.numel() * held.element_size() for held in self.metric.values())
