"""Perturbations: distributions of directions.

``draw`` and ``add_`` define one: ``u(key) = lift(draw(key))``, where the core is random and the lift is linear.
``local`` gives the weights of a direction on one slot, for distributions that skip slots or scale them one by one.
``move_`` adds a whole direction to the weights, and must equal its definition here bit for bit.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.direction import Direction
from zobench.zo.slot import Slot


def _accumulator(param: Tensor) -> Tensor:
    """The tensor in which sums over a parameter are made: itself, or an fp32 copy of a half-precision one."""
    return param.float() if param.dtype in noise.HALF else param


class Perturbation:
    """A distribution of directions; draws are pure functions of (key, slot, frozen state)."""

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        """Refresh or freeze state. Only here and in ``after`` may it change."""

    def draw(self, slot: Slot, key: int) -> Tensor:
        """The random core of ``u(key)`` for this slot, fp32."""
        raise NotImplementedError

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        """``out += scale * lift(core)``, linear in the core; ``out`` has the slot's shape."""
        raise NotImplementedError

    def local(self, slot: Slot, direction: Direction) -> Direction:
        """The direction as this slot sees it: the draws that reach it and their weights."""
        return direction

    def after(self, step: int, slots: Sequence[Slot]) -> None:
        """Learn from what was measured in this step."""

    def estimate(self, slot: Slot, direction: Direction) -> Tensor:
        """The direction's tensor for one slot, in fp32 (fp64 for fp64 weights)."""
        dtype = torch.float64 if slot.param.dtype == torch.float64 else torch.float32
        out = torch.zeros(slot.param.shape, dtype=dtype, device=slot.param.device)
        for key, weight in self.local(slot, direction).items():
            self.add_(slot, self.draw(slot, key), out, weight)
        return out

    def move_(self, slot: Slot, direction: Direction, keep: float = 1.0) -> None:
        """``θ ← keep·θ + Σ w_k u(k)`` for one slot, summed in fp32 and rounded once to the weights' dtype."""
        direction = self.local(slot, direction)
        if not direction and keep == 1.0:
            return
        out = _accumulator(slot.param)
        if keep != 1.0:
            out.mul_(keep)
        for key, weight in direction.items():
            self.add_(slot, self.draw(slot, key), out, weight)
        if out is not slot.param:
            slot.param.copy_(out)

    def move(self, slots: Sequence[Slot], direction: Direction) -> None:
        """``θ ← θ + Σ w_k u(k)`` for all slots."""
        for slot in slots:
            self.move_(slot, direction)

    def state_dict(self) -> dict[str, Tensor | int | float]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        pass

    def state_bytes(self) -> int:
        """Bytes held between steps, beyond the weights."""
        return 0


def move_blocks_(slot: Slot, terms: Sequence[tuple[Callable[[int], Tensor], float]], keep: float) -> None:
    """``θ ← keep·θ + Σ w_k u_k`` block after block, for a contiguous slot and draws that come in blocks.

    Args:
        terms: (the next ``n`` numbers of a draw, which may be overwritten; its weight).
    """
    for block in noise.blocks(slot.param.view(-1)):
        out = _accumulator(block)
        if keep != 1.0:
            out.mul_(keep)
        for following, weight in terms:
            out.add_(following(block.numel()).to(out.dtype).mul_(weight))
        if out is not block:
            block.copy_(out)


class Independent(Perturbation):
    """Independent numbers over all trainable weights: matrices, embeddings and vectors alike. No state."""

    distribution: noise.Distribution

    def draw(self, slot: Slot, key: int) -> Tensor:
        return noise.draw(key, slot.id, slot.param.shape, slot.param.device, self.distribution)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        # Two roundings, not a fused multiply-add: the whole draw and the pass that draws as it adds agree bit for bit.
        out.add_(core.to(out.dtype).mul(scale))

    def move_(self, slot: Slot, direction: Direction, keep: float = 1.0) -> None:
        if not slot.param.is_contiguous():
            super().move_(slot, direction, keep)
            return
        direction = self.local(slot, direction)
        if not direction and keep == 1.0:
            return
        noise.add_(slot.param.view(-1), slot.id, direction, keep, distribution=self.distribution)


class Gaussian(Independent):
    """``u ~ N(0, I)``."""

    distribution = "normal"


class Rademacher(Independent):
    """``u`` of −1 and 1, each with probability ½: the second moments of ``N(0, I)`` at a fraction of the cost."""

    distribution = "sign"
