"""Seeded noise per slot: the one place where random numbers are made.

A draw is a function of (key, slot id) alone, and each of its elements of its index alone (``philox.py``): any part can
be drawn by itself, for any thread count and on any device, with the same bits. Fused loops draw and add in one pass:
compiled ones on a CPU (``compiled.py``), a Triton kernel on a GPU (``triton_noise.py``). Where they cannot be had, or
with ``ZOBENCH_NOISE=torch``, torch's own operations do, block by block.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from zobench.zo.keys import mix
from zobench.zo.noise import philox
from zobench.zo.noise.job import NoiseJob
from zobench.zo.slot import Rows, wide

Distribution = Literal["normal", "sign"]
_STREAMS = {"normal": philox.NORMALS, "sign": philox.SIGNS}

#: elements that are worked on at a time where temporaries are needed; small enough for a CPU's cache
BLOCK = {"cpu": 1 << 18, "cuda": 1 << 21}

#: does the work of jobs that share a device and a dtype, drawing from a stream
Add = Callable[[Sequence[NoiseJob], int], None]


@cache
def _fused(device: torch.device, dtype: torch.dtype, stream: int) -> Add | None:
    """The one-pass function for such tensors; None where there is none."""
    if os.environ.get("ZOBENCH_NOISE") == "torch":
        return None
    if device.type == "cuda":
        return checked(_by_triton, device, dtype, stream)
    if device.type != "cpu":
        return None
    try:
        from zobench.zo.noise import cpu_loops
    except ImportError:
        return None
    return cpu_loops.add_


def checked(add: Add, device: torch.device, dtype: torch.dtype, stream: int) -> Add | None:
    """The function itself if it gives the definition's bits on this device; otherwise None, with a warning."""
    table = torch.linspace(-2, 2, 5000, dtype=torch.float64).to(dtype)
    jobs = [
        NoiseJob(torch.zeros_like(source), source, first, [5, 2**63 - 1], [0.37, -1.3e-3], 0.99, rows)
        for source, first, rows in (
            (table, (3 << 40) + 77, None),
            (table[:400].view(4, 100), 5, torch.tensor([49, 3, 3, 20])),
        )
    ]
    there = [
        replace(
            p,
            out=p.out.to(device, copy=True),
            source=p.source.to(device),
            rows=None if p.rows is None else p.rows.to(device),
        )
        for p in jobs
    ]
    try:
        _by_torch(jobs, stream)
        add(there, stream)
        if all(torch.equal(found.out.cpu(), job.out) for found, job in zip(there, jobs, strict=True)):
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


def _by_triton(jobs: Sequence[NoiseJob], stream: int) -> None:
    from zobench.zo.noise import gpu_kernel

    gpu_kernel.add_(jobs, stream)


def _by_torch(jobs: Sequence[NoiseJob], stream: int) -> None:
    for job in jobs:
        first = job.first
        parts = [(job.out, job.source)]
        if job.rows is None:
            parts = list(zip(blocks(job.out), blocks(job.source), strict=True))
        for to, of in parts:
            total = of.to(wide(of), copy=True).mul_(job.keep)
            for key, weight in zip(job.keys, job.weights, strict=True):
                if job.rows is None:
                    u = philox.elements(key, first, of.numel(), of.device, stream)
                else:
                    u = philox.rows(key, first, job.rows, of.shape[1], stream)
                total.add_(u.to(total.dtype).mul_(weight))
            to.copy_(total)
            first += of.numel()


def block(device: torch.device) -> int:
    """Elements that are worked on at a time where temporaries are needed."""
    return BLOCK.get(device.type, BLOCK["cuda"])


def blocks(flat: Tensor) -> Iterator[Tensor]:
    """Views of a flat tensor, one block each."""
    return iter(flat.split(block(flat.device)))


def make_job(
    out: Tensor,
    slot_id: int,
    draws: Mapping[int, float],
    keep: float = 1.0,
    first: int = 0,
    source: Tensor | None = None,
    rows: Tensor | None = None,
) -> NoiseJob:
    """``out ← keep·source + Σ weight·u(key)`` for a slot; ``draws``: the keys' weights; ``source``: ``out`` if None."""
    seeds = [mix(key, slot_id) for key in draws]
    return NoiseJob(out, out if source is None else source, first, seeds, list(draws.values()), keep, rows)


def add_all_(jobs: Sequence[NoiseJob], distribution: Distribution = "normal") -> None:
    """Do jobs of work, which may lie on several devices.

    Every product and every sum is rounded by itself, in the order of the keys: what separate operations would give.

    Args:
        distribution: standard normal numbers, or −1 and 1 with equal probability.
    """
    stream = _STREAMS[distribution]
    alike: dict[tuple[torch.device, torch.dtype], list[NoiseJob]] = {}
    for one in jobs:
        alike.setdefault((one.out.device, one.out.dtype), []).append(one)
    for kind, group in alike.items():
        fused = _fused(*kind, stream)
        (fused or _by_torch)(group, stream)
        for one in group if fused is not None else ():
            if not one.out.is_inference():
                torch.autograd.graph.increment_version(one.out)  # torch saw no write


def add_(
    out: Tensor,
    slot_id: int,
    draws: Mapping[int, float],
    keep: float = 1.0,
    first: int = 0,
    distribution: Distribution = "normal",
) -> None:
    """``out ← keep·out + Σ weight·u(key)``, from element ``first`` of the draws on; ``out`` is flat."""
    add_all_([make_job(out, slot_id, draws, keep, first)], distribution)


def add_rows_(
    total: Tensor, slot_id: int, draws: Mapping[int, float], rows: Rows = None, distribution: Distribution = "normal"
) -> None:
    """``total += Σ weight·u(key)`` on some rows of the draws.

    Args:
        total: contiguous, of the shape of these rows.
    """
    if not draws:
        return
    width = total.numel() // max(1, len(total)) if total.ndim else 1
    if isinstance(rows, Tensor):
        add_all_([make_job(total.view(len(total), width), slot_id, draws, rows=rows)], distribution)
    else:
        add_(total.view(-1), slot_id, draws, first=width * (rows.start or 0) if rows else 0, distribution=distribution)


def gaussian(key: int, slot_id: int, shape: torch.Size, device: torch.device) -> Tensor:
    """A whole draw of normal numbers: fp32, of the given shape."""
    return draw(key, slot_id, shape, device, "normal")


def draw(key: int, slot_id: int, shape: torch.Size, device: torch.device, distribution: Distribution) -> Tensor:
    """A whole draw: fp32, of the given shape."""
    out = torch.zeros(shape, device=device)
    add_(out.view(-1), slot_id, {key: 1.0}, distribution=distribution)
    return out
