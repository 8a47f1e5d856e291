"""Seeded noise per slot: the one place where random numbers are made.

A draw is a function of (key, slot id) alone, and each of its elements of its index alone (``philox.py``): any part can
be drawn by itself, for any thread count and on any device, with the same bits. Fused loops draw and add in one pass:
compiled ones on a CPU (``compiled.py``), a Triton kernel on a GPU (``triton_noise.py``). Where they cannot be had, or
with ``ZOBENCH_NOISE=torch``, torch's own operations do, block by block.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from zobench.zo import philox
from zobench.zo.keys import mix

Distribution = Literal["normal", "sign"]
_STREAMS = {"normal": philox.NORMALS, "sign": philox.SIGNS}

#: elements that are worked on at a time where temporaries are needed; small enough for a CPU's cache
BLOCK = {"cpu": 1 << 16, "cuda": 1 << 21}
HALF = (torch.bfloat16, torch.float16)

#: (flat, first, keys, weights, keep, stream): ``flat ← keep·flat + Σ weights[k]·draw(keys[k], first, …)``, in place
Add = Callable[[Tensor, int, Sequence[int], Sequence[float], float, int], None]


@cache
def _fused(device: torch.device, dtype: torch.dtype, stream: int) -> Add | None:
    """The one-pass function for such tensors; None where there is none."""
    if os.environ.get("ZOBENCH_NOISE") == "torch":
        return None
    if device.type == "cuda":
        return checked(_by_triton, device, dtype, stream)
    if device.type != "cpu" or dtype == torch.float16:
        return None
    try:
        from zobench.zo import compiled
    except ImportError:
        return None
    if dtype == torch.bfloat16:  # numpy has no such type; its bits will do
        return lambda flat, *rest: compiled.add_(flat.detach().view(torch.int16).numpy().view("uint16"), *rest)
    return lambda flat, *rest: compiled.add_(flat.detach().numpy(), *rest)


def checked(add: Add, device: torch.device, dtype: torch.dtype, stream: int) -> Add | None:
    """The function itself if it gives the definition's bits on this device; otherwise None, with a warning."""
    first, keys, weights, keep = (3 << 40) + 77, [5, 2**63 - 1], [0.37, -1.3e-3], 0.99
    expected = torch.linspace(-2, 2, 5000, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    expected = expected.to(dtype).to(expected.dtype)
    try:
        found = expected.to(device, dtype, copy=True)
        add(found, first, keys, weights, keep, stream)
        _by_torch(expected, first, keys, weights, keep, stream)
        if torch.equal(found.cpu(), expected.to(dtype)):
            return add
        trouble = "its bits differ from the definition's"
    except Exception as error:  # a compiler, a driver and a launch each raise errors of their own
        trouble = f"{type(error).__name__}: {error}"
    warnings.warn(
        f"The fused noise kernel is not used for {dtype} on {device} ({trouble}). Torch's own operations draw the same "
        "numbers, more slowly and with temporary memory. ZOBENCH_NOISE=torch chooses them without this warning.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _by_triton(flat: Tensor, *rest: Any) -> None:
    from zobench.zo import triton_noise

    triton_noise.add_(flat, *rest)


def _by_torch(
    flat: Tensor, first: int, keys: Sequence[int], weights: Sequence[float], keep: float, stream: int
) -> None:
    numbers = philox.DRAWS[stream]
    for block in blocks(flat):
        if keep != 1.0:
            block.mul_(keep)
        for key, weight in zip(keys, weights, strict=True):
            block.add_(numbers(key, first, block.numel(), block.device).to(block.dtype).mul_(weight))
        first += block.numel()


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
    """``flat ← keep·flat + Σ weight·u(key)``, in place, for floating-point numbers that are contiguous.

    Every product and every sum is rounded by itself, in the order of ``draws``: what separate operations would give.
    Half-precision numbers are summed in fp32 and rounded once.

    Args:
        draws: weight of each key.
        first: index in the draws of the first element of ``flat``.
        distribution: standard normal numbers, or −1 and 1 with equal probability.
    """
    stream = _STREAMS[distribution]
    fused = _fused(flat.device, flat.dtype, stream)
    if fused is None and flat.dtype in HALF:
        for block in blocks(flat):
            total = block.float()
            add_(total, slot_id, draws, keep, first, distribution)
            block.copy_(total)
            first += block.numel()
        return
    seeds = [mix(key, slot_id) for key in draws]
    (fused or _by_torch)(flat, first, seeds, list(draws.values()), keep, stream)
    if fused is not None and not flat.is_inference():
        torch.autograd.graph.increment_version(flat)  # torch saw no write


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
