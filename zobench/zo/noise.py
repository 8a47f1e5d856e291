"""Seeded noise per slot: the one place where random numbers are made.

A draw is a function of (key, slot id) alone. It comes from a private ``torch.Generator``, in blocks of a fixed size,
so that a whole tensor and a fused pass over its blocks see the same numbers and no temporary exceeds a block. The
numbers are the same for any thread count; they differ between CPU and CUDA, whose generators differ.

torch's CPU generator reads 32 bits of a seed (CUDA's reads 64). Of n draws in a run about n²/2³³ pairs therefore share
their numbers, between unrelated tensors and steps: for 20,000 steps of 400 tensors, 7,000 of 8 million draws. Each draw
by itself is as good as any.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from zobench.zo.keys import mix

# Multiples of 16, below which torch's CPU normal generator changes its algorithm. Part of the stream's definition.
BLOCK = {"cpu": 1 << 18, "cuda": 1 << 24}


class GaussianStream:
    """Standard normal fp32 numbers for one (key, slot), block after block."""

    def __init__(self, key: int, slot_id: int, device: torch.device):
        self._generator = torch.Generator(device).manual_seed(mix(key, slot_id))
        self._block = torch.empty(0, device=device)

    def next(self, n: int) -> Tensor:
        """The next ``n`` numbers. The tensor is overwritten by the next call."""
        if self._block.numel() != n:
            self._block = torch.empty(n, device=self._block.device)
        return self._block.normal_(generator=self._generator)


def blocks(flat: Tensor) -> Iterator[Tensor]:
    """Views of a flat tensor, one block each."""
    return iter(flat.split(BLOCK.get(flat.device.type, BLOCK["cuda"])))


def gaussian(key: int, slot_id: int, shape: torch.Size, device: torch.device) -> Tensor:
    """A whole draw: fp32, of the given shape."""
    out = torch.empty(shape, device=device)
    stream = GaussianStream(key, slot_id, device)
    for block in blocks(out.view(-1)):
        block.copy_(stream.next(block.numel()))
    return out
