"""Seeded noise per slot: the one place where random numbers are made.

A draw is a function of (key, slot id) alone, and each of its elements of its index alone (``philox.py``): any part can
be drawn by itself, for any thread count and on any device, with the same bits. On a CPU compiled loops draw and add in
one pass (``compiled.py``); without numba, or with ``ZOBENCH_NOISE=torch``, and on other devices torch's own operations
do, block by block.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from zobench.zo import philox
from zobench.zo.keys import mix

Distribution = Literal["normal", "sign"]
_STREAMS = {"normal": (philox.NORMALS, philox.normals), "sign": (philox.SIGNS, philox.signs)}

#: elements that are worked on at a time where temporaries are needed; small enough for a CPU's cache
BLOCK = {"cpu": 1 << 16, "cuda": 1 << 21}


@cache
def _compiled() -> ModuleType | None:
    if os.environ.get("ZOBENCH_NOISE") == "torch":
        return None
    try:
        from zobench.zo import compiled
    except ImportError:
        return None
    return compiled


def blocks(flat: Tensor) -> Iterator[Tensor]:
    """Views of a flat tensor, one block each."""
    return iter(flat.split(BLOCK.get(flat.device.type, BLOCK["cuda"])))


def add_(
    flat: Tensor,
    slot_id: int,
    draws: Mapping[int, float],
    keep: float = 1.0,
    first: int = 0,
    distribution: Distribution = "normal",
) -> None:
    """``flat ← keep·flat + Σ weight·u(key)``, in place, for fp32 or fp64 numbers that are contiguous.

    Every product and every sum is rounded by itself, in the order of ``draws``: what separate operations would give.

    Args:
        draws: weight of each key.
        first: index in the draws of the first element of ``flat``.
        distribution: standard normal numbers, or −1 and 1 with equal probability.
    """
    seeds = [mix(key, slot_id) for key in draws]
    stream, numbers = _STREAMS[distribution]
    compiled = _compiled() if flat.device.type == "cpu" else None
    if compiled is not None:
        compiled.add_(flat.detach().numpy(), first, seeds, list(draws.values()), keep, stream)
        if not flat.is_inference():
            torch.autograd.graph.increment_version(flat)  # torch saw no write
        return
    for block in blocks(flat):
        if keep != 1.0:
            block.mul_(keep)
        for seed, weight in zip(seeds, draws.values(), strict=True):
            block.add_(numbers(seed, first, block.numel(), block.device).to(block.dtype).mul_(weight))
        first += block.numel()


class GaussianStream:
    """Standard normal fp32 numbers for one (key, slot), block after block."""

    def __init__(self, key: int, slot_id: int, device: torch.device):
        self._key, self._slot_id, self._at = key, slot_id, 0
        self._block = torch.empty(0, device=device)

    def next(self, n: int) -> Tensor:
        """The next ``n`` numbers. The tensor is overwritten by the next call."""
        if self._block.numel() != n:
            self._block = torch.empty(n, device=self._block.device)
        add_(self._block.zero_(), self._slot_id, {self._key: 1.0}, first=self._at)
        self._at += n
        return self._block


def gaussian(key: int, slot_id: int, shape: torch.Size, device: torch.device) -> Tensor:
    """A whole draw of normal numbers: fp32, of the given shape."""
    return draw(key, slot_id, shape, device, "normal")


def draw(key: int, slot_id: int, shape: torch.Size, device: torch.device, distribution: Distribution) -> Tensor:
    """A whole draw: fp32, of the given shape."""
    out = torch.zeros(shape, device=device)
    add_(out.view(-1), slot_id, {key: 1.0}, distribution=distribution)
    return out
