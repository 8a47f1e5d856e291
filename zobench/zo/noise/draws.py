"""Seeded noise per slot: the one place where random numbers are made.

A draw is a function of (key, slot id) alone, and each of its elements of its index alone (``philox.py``): any part can
be drawn by itself, for any thread count and on any device, with the same bits. Fused loops draw and add in one pass:
compiled ones on a CPU (``cpu_loops.py``), a Triton kernel on a GPU (``gpu_kernel.py``). Where they cannot be had, or
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
from zobench.zo.slot import Rows, sum_dtype

#: standard normal numbers; or −1 and 1, each with probability ½
Distribution = Literal["normal", "sign"]
_STREAMS = {"normal": philox.NORMALS, "sign": philox.SIGNS}

#: elements that are worked on at a time where temporaries are needed, by type of device; they fit a CPU's cache
BLOCK = {"cpu": 1 << 18, "cuda": 1 << 21}

#: does jobs that share a device and a dtype; the number is that of the distribution's stream (``philox.py``)
Add = Callable[[Sequence[NoiseJob], int], None]


@cache
def _fused(device: torch.device, dtype: torch.dtype, stream: int) -> Add | None:
    """The function that draws and adds in one pass for a device and a dtype; None where there is none."""
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
    """A one-pass function, tried on small jobs: itself if its bits are torch's own; otherwise None, with a warning."""
    table = torch.linspace(-2, 2, 5000, dtype=torch.float64).to(dtype)
    jobs = [
        NoiseJob(torch.zeros_like(source), source, first, [5, 2**63 - 1], [0.37, -1.3e-3], 0.99, rows)
        for source, first, rows in (
            (table, (3 << 40) + 77, None),
            (table[:400].view(4, 100), 5, torch.tensor([49, 3, 3, 20])),
        )
    ]
    on_device = [
        replace(
            job,
            out=job.out.to(device, copy=True),
            source=job.source.to(device),
            rows=None if job.rows is None else job.rows.to(device),
        )
        for job in jobs
    ]
    try:
        _by_torch(jobs, stream)
        add(on_device, stream)
        if all(torch.equal(tried.out.cpu(), job.out) for tried, job in zip(on_device, jobs, strict=True)):
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
    """Each job as separate torch operations, in blocks where it is one run of elements."""
    for job in jobs:
        first = job.first
        parts = [(job.out, job.source)]
        if job.rows is None:
            parts = list(zip(blocks(job.out), blocks(job.source), strict=True))
        for out, source in parts:
            total = source.to(sum_dtype(source), copy=True).mul_(job.keep)
            if job.beside is not None:
                total.add_(job.beside[first - job.first :][: len(total)], alpha=job.scale)
            for key, weight in zip(job.keys, job.weights, strict=True):
                if job.rows is None:
                    u = philox.elements(key, first, source.numel(), source.device, stream)
                else:
                    u = philox.rows(key, first, job.rows, source.shape[1], stream)
                total.add_(u.to(total.dtype).mul_(weight))
            out.copy_(total)
            first += source.numel()


def block(device: torch.device) -> int:
    """How many elements are worked on at a time where temporaries are needed, on a device."""
    return BLOCK.get(device.type, BLOCK["cuda"])


def blocks(flat: Tensor) -> Iterator[Tensor]:
    """Views of a flat tensor, of ``block`` elements each; the last may be shorter."""
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
    """The job ``out ← keep·source + Σ weight·u(key)`` for one slot; nothing is drawn yet.

    Args:
        out: flat and contiguous; with ``rows``, a matrix of these rows.
        slot_id: names the slot's draws.
        draws: the weight of each key.
        keep: the factor of the source.
        first: index of the draw's element at which ``out`` begins; with ``rows``, at which the matrix begins.
        source: of the shape of ``out``; ``out`` itself if None.
        rows: int64 indices of the rows that ``out`` holds.
    """
    own_keys = [mix(key, slot_id) for key in draws]
    return NoiseJob(out, out if source is None else source, first, own_keys, list(draws.values()), keep, rows)


@cache
def takes_beside(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether jobs of normal numbers may have a tensor ``beside`` the draws, with torch's own bits.

    Not where torch rounds ``add_`` with ``alpha`` twice, as on a CPU without fused multiply-adds, nor on a GPU.
    """
    fused = _fused(device, dtype, philox.NORMALS)
    if device.type != "cpu" or fused is None:
        return device.type == "cpu"
    x, y = (torch.linspace(-1, 1, 1003, dtype=sum_dtype(torch.empty(0, dtype=dtype))) ** power for power in (1, 3))
    out = x.clone()
    fused([NoiseJob(out, out, 0, [], [], 1.0, None, y, 0.37)], philox.NORMALS)
    return torch.equal(out, x.add(y, alpha=0.37))


def add_all_(jobs: Sequence[NoiseJob], distribution: Distribution = "normal") -> None:
    """Do jobs, which may lie on several devices, in as few passes as there are devices and dtypes.

    Every product and every sum is rounded by itself, in the order of the keys: what separate operations would give.

    Args:
        distribution: what is drawn, for all jobs.
    """
    stream = _STREAMS[distribution]
    groups: dict[tuple[torch.device, torch.dtype], list[NoiseJob]] = {}
    for job in jobs:
        groups.setdefault((job.out.device, job.out.dtype), []).append(job)
    for (device, dtype), group in groups.items():
        fused = _fused(device, dtype, stream)
        (fused or _by_torch)(group, stream)
        for job in group if fused is not None else ():
            if not job.out.is_inference():
                torch.autograd.graph.increment_version(job.out)  # torch saw no write


def add_(
    out: Tensor,
    slot_id: int,
    draws: Mapping[int, float],
    keep: float = 1.0,
    first: int = 0,
    distribution: Distribution = "normal",
) -> None:
    """``out ← keep·out + Σ weight·u(key)`` on one flat tensor.

    Args:
        out: flat and contiguous; summed in fp32 (fp64 for fp64 numbers) and rounded once.
        draws: the weight of each key.
        first: index of the draws' element that is added to the first of ``out``.

    Example:
        >>> weights = torch.zeros(5)
        >>> add_(weights, slot_id=1, draws={7: 0.5})
        >>> tail = torch.zeros(2)
        >>> add_(tail, slot_id=1, draws={7: 0.5}, first=3)
        >>> tail.equal(weights[3:])
        True
    """
    add_all_([make_job(out, slot_id, draws, keep, first)], distribution)


def add_rows_(
    total: Tensor, slot_id: int, draws: Mapping[int, float], rows: Rows = None, distribution: Distribution = "normal"
) -> None:
    """``total += Σ weight·u(key)`` on some rows of the draws.

    Args:
        total: contiguous, of the shape of these rows.
        draws: the weight of each key.
        rows: indices (int64) or a slice of the draws' axis 0; None for all.
    """
    if not draws:
        return
    width = total.numel() // max(1, len(total)) if total.ndim else 1
    if isinstance(rows, Tensor):
        add_all_([make_job(total.view(len(total), width), slot_id, draws, rows=rows)], distribution)
    else:
        add_(total.view(-1), slot_id, draws, first=width * (rows.start or 0) if rows else 0, distribution=distribution)


def gaussian(key: int, slot_id: int, shape: torch.Size, device: torch.device) -> Tensor:
    """A whole draw of standard normal numbers, ``draw`` with ``distribution="normal"``: fp32, of the given shape.

    Example:
        >>> z = gaussian(7, 1, torch.Size([200, 500]), torch.device("cpu"))
        >>> abs(float(z.mean())) < 0.02, abs(float(z.std()) - 1) < 0.02
        (True, True)
    """
    return draw(key, slot_id, shape, device, "normal")


def draw(key: int, slot_id: int, shape: torch.Size, device: torch.device, distribution: Distribution) -> Tensor:
    """A whole draw of a slot, a pure function of its arguments: fp32, of the given shape.

    Args:
        key: names the draw, 63 bits.
        slot_id: names the slot; other slots have independent draws.
        shape: the draw's elements lie along it in row-major order, so that shapes of equal size share their numbers.

    Example:
        >>> cpu = torch.device("cpu")
        >>> u = draw(7, 1, torch.Size([3, 4]), cpu, "normal")
        >>> u.equal(draw(7, 1, torch.Size([3, 4]), cpu, "normal"))  # the same key, the same numbers
        True
        >>> row = torch.zeros(1, 4)
        >>> add_rows_(row, 1, {7: 1.0}, rows=slice(2, 3))  # a part is a part of the whole
        >>> row[0].equal(u[2])
        True
    """
    out = torch.zeros(shape, device=device)
    add_(out.view(-1), slot_id, {key: 1.0}, distribution=distribution)
    return out
