"""Gaussian directions about a mean that is learned: a tensor for each slot, held between steps."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.direction import Direction
from zobench.zo.independent import Gaussian
from zobench.zo.slot import Rows, Slot, pick, sum_dtype


class LearnedMean(Gaussian):
    """Draws ``u(key) = s·μ + σ z(key)`` with ``z ~ N(0, I)``; a subclass says how μ, s and σ move, in ``begin`` alone.

    State: μ, one fp32 copy (fp64 for fp64 weights) of the slots that have one.

    Args:
        sigma: standard deviation σ.

    Attributes:
        mean: μ by the slot's name; a slot without one has plain draws ``σ z``.
        shift: the factor s of the mean.
    """

    def __init__(self, sigma: float):
        self.sigma, self.shift = sigma, 1.0
        self.mean: dict[str, Tensor] = {}

    def add_normals_(self, slot: Slot, draws: Mapping[int, float], total: Tensor, rows: Rows = None) -> None:
        """``total += Σ w_k z(k)`` on these rows. The one pass over slots that are ``alone`` draws the same numbers."""
        noise.add_rows_(total, self._stream(slot), draws, rows)

    def _stream(self, slot: Slot) -> int:
        """What names a slot's numbers."""
        return slot.id

    def draw(self, slot: Slot, key: int) -> Tensor:
        """``sμ + σz``, in fp32 (fp64 for fp64 weights)."""
        out = torch.zeros(slot.param.shape, dtype=sum_dtype(slot.param), device=slot.param.device)
        self.accumulate_(slot, self.local(slot, Direction.ray(key)), out)
        return out

    def alone(self, slot: Slot) -> bool:
        return slot.name not in self.mean or noise.takes_beside(slot.param.device, slot.param.dtype)

    def _job(self, slot: Slot, direction: Direction, out: Tensor, keep: float) -> noise.NoiseJob:
        source, draws = slot.param.view(-1), direction * self.sigma
        to = source if out is slot.param else out.view(-1)
        job = noise.make_job(to, self._stream(slot), draws, keep, source=source)
        scale = self.shift * sum(direction.values())
        if slot.name not in self.mean or scale == 0:  # as from one candidate to the next
            return job
        return replace(job, beside=self.mean[slot.name].view(-1), scale=scale)

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """Add ``(Σ w_k) s μ + Σ w_k σ z(k)``: the mean once, with the sum of the weights."""
        if slot.name in self.mean and (scale := self.shift * sum(direction.values())) != 0:
            total.add_(pick(self.mean[slot.name], rows), alpha=scale)
        self.add_normals_(slot, direction * self.sigma, total, rows)

    def state_bytes(self) -> int:
        return sum(mean.numel() * mean.element_size() for mean in self.mean.values())


def square(x: Tensor) -> float:
    """Squared norm; block by block, for the whole in fp64 would be a copy."""
    return float(torch.stack([block.dot(block).double() for block in noise.blocks(x.reshape(-1))]).sum())
