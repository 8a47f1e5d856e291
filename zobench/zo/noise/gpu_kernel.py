"""The GPU's noise: ``philox.py`` as one Triton kernel, the same bits in one pass over the weights for all keys.

A program works on one span of one row (a run of elements is one row), in whose layout a counter's four words are four
coalesced accesses. Its numbers come in one small tensor (``_plan``), so that there is one binary per dtype and
distribution: the one that ``draws.checked`` tries before it is used. Every division and root is asked for IEEE-rounded,
and fusing to multiply-adds is forbidden at the launch: it would change the bits.
"""

import struct
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from zobench.zo.noise import philox
from zobench.zo.noise.job import NoiseJob

_LANES, _SPAN, _ROUNDS = tl.constexpr(philox.LANES), tl.constexpr(philox.SPAN), tl.constexpr(philox.ROUNDS)
_M0, _M1 = (tl.constexpr(m) for m in philox.MULTIPLIERS)
_W0, _W1 = (tl.constexpr(w) for w in philox.WEYL)
_SCALE, _LOG_STEP = tl.constexpr(philox.SCALE), tl.constexpr(philox.LOG_STEP)
_ATANH, _ANGLE = tl.constexpr(philox.ATANH), tl.constexpr(philox.ANGLE)
_L9, _L7, _L5, _L3 = (tl.constexpr(c) for c in philox.LOG_SERIES)
_S9, _S7, _S5, _S3 = (tl.constexpr(c) for c in philox.SINE_SERIES)
_C10, _C8, _C6, _C4, _C2 = (tl.constexpr(c) for c in philox.COSINE_SERIES)
_ROOT_HALF = tl.constexpr(philox.ROOT_HALF_BITS)
_SHIFT = tl.constexpr(philox.ONE_BITS - philox.ROOT_HALF_BITS)
#: a plan's numbers before its pairs of key and weight: first element, width of a row, its spans, keys, keep
_HEAD = tl.constexpr(5)
_SIGNS, _BITS = tl.constexpr(philox.SIGNS), tl.constexpr(philox.BITS)
#: how the kernel is compiled
OPTIONS = {"enable_fp_fusion": False}


@triton.jit
def _radius(x):
    """The radius of Box and Muller's transform, from words."""
    u = (x.to(tl.float32) + 0.5) * _SCALE
    bits = u.to(tl.int32, bitcast=True) + _SHIFT
    k = (bits >> 23) - 127
    m = ((bits & 0x7FFFFF) + _ROOT_HALF).to(tl.float32, bitcast=True) - 1.0
    s = tl.div_rn(m, 2.0 + m)
    z = s * s
    p = (((z * _L9 + _L7) * z + _L5) * z + _L3) * z
    return tl.sqrt_rn(k.to(tl.float32) * _LOG_STEP + (s * _ATANH) * (1.0 + p))


@triton.jit
def _box_muller(x, y):
    """Pairs of normal numbers, from two words each, as ``philox.py`` makes them."""
    r = _radius(x)
    t = ((y & 0x3FFFFFFF).to(tl.int32) - 0x20000000).to(tl.float32) * _ANGLE
    z = t * t
    cosine = 1.0 + ((((z * _C10 + _C8) * z + _C6) * z + _C4) * z + _C2) * z
    sine = (1.0 + (((z * _S9 + _S7) * z + _S5) * z + _S3) * z) * t
    odd, half = (y & 0x40000000) != 0, (y & 0x80000000) != 0
    first, second = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    return tl.where(odd ^ half, -first, first) * r, tl.where(half, -second, second) * r


@triton.jit
def _sign(word, bit):
    """−1 or 1, by one bit of each word."""
    return tl.where(((word >> bit) & 1) != 0, -1.0, 1.0)


@triton.jit
def _draw(span, key, stream: tl.constexpr):
    """The numbers of one span, in four quarters; the span's index and the draw's key are int64."""
    group = span // _BITS if stream == _SIGNS else span
    at = group * _LANES + tl.arange(0, _LANES)
    a, b = at.to(tl.uint32), (at >> 32).to(tl.uint32)
    c, d = (a ^ a) + stream, a ^ a
    low, high = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    for _ in tl.static_range(_ROUNDS):
        above_a, above_c = tl.umulhi(a, _M0), tl.umulhi(c, _M1)
        below_a, below_c = a * _M0, c * _M1
        a, b, c, d = above_c ^ b ^ low, below_c, above_a ^ d ^ high, below_a
        low, high = low + _W0, high + _W1
    if stream == _SIGNS:
        bit = (span % _BITS).to(tl.uint32)
        z0, z1, z2, z3 = _sign(a, bit), _sign(b, bit), _sign(c, bit), _sign(d, bit)
    else:
        z0, z1 = _box_muller(a, b)
        z2, z3 = _box_muller(c, d)
    return z0, z1, z2, z3


@triton.jit
def _kept(source, at, low, high, keep, kind: tl.constexpr):
    """``keep·source`` at these places of the span; 0 outside ``low`` to ``high``, where the row ends."""
    return tl.load(source + at, mask=(at >= low) & (at < high), other=0.0).to(kind) * keep


@triton.jit
def _store(out, at, low, high, total):
    """Write at these places of the span, rounded to the dtype of ``out``; nothing outside ``low`` to ``high``."""
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(at >= low) & (at < high))


@triton.jit(do_not_specialize=["out", "source", "rows", "plan"])
def _add(out, source, rows, plan, kind: tl.constexpr, stream: tl.constexpr):
    """``out = keep·source + Σ weights·draws`` on one span of one row: the kernel's program.

    Args:
        rows: index of each row of ``out`` in the matrix that is drawn.
        plan: see ``_plan``.
        kind: the dtype that is summed in.
    """
    parts, width = tl.load(plan + 2), tl.load(plan + 1)
    program = tl.program_id(0).to(tl.int64)
    i, part = program // parts, program % parts
    row = tl.load(rows + i)
    begin = tl.load(plan) + row * width
    span, start = begin // _SPAN + part, part * _SPAN - begin % _SPAN
    low = tl.maximum(-start, 0).to(tl.int32)
    high = tl.maximum(tl.minimum(width - start, _SPAN), 0).to(tl.int32)
    keys, keep = tl.load(plan + 3), tl.load(plan + 4).to(tl.float64, bitcast=True).to(kind)
    source, out, at = source + (i * width + start), out + (i * width + start), tl.arange(0, _LANES)
    t0 = _kept(source, at, low, high, keep, kind)
    t1 = _kept(source, at + _LANES, low, high, keep, kind)
    t2 = _kept(source, at + 2 * _LANES, low, high, keep, kind)
    t3 = _kept(source, at + 3 * _LANES, low, high, keep, kind)
    pair = plan + _HEAD
    for _ in range(keys):
        z0, z1, z2, z3 = _draw(span, tl.load(pair), stream)
        weight = tl.load(pair + 1).to(tl.float64, bitcast=True).to(kind)
        t0 += z0.to(kind) * weight
        t1 += z1.to(kind) * weight
        t2 += z2.to(kind) * weight
        t3 += z3.to(kind) * weight
        pair += 2
    _store(out, at, low, high, t0)
    _store(out, at + _LANES, low, high, t1)
    _store(out, at + 2 * _LANES, low, high, t2)
    _store(out, at + 3 * _LANES, low, high, t3)


def _plan(first: int, width: int, spans: int, keys: Sequence[int], weights: Sequence[float], keep: float) -> Tensor:
    """All numbers of a launch, 64 bits each, in one int64 tensor: one copy to the device.

    Args:
        first: index of the draws' element that belongs to the first of the matrix, or of the run.
        width: elements of a row.
        spans: how many spans a row can touch.
    """
    pairs = (number for key, weight in zip(keys, weights, strict=True) for number in (key % 2**64, weight))
    head = (first, width, spans, len(keys), keep)
    # The zero at the end is the row index of a run of elements.
    packed = struct.pack("=4qd" + "Qd" * len(keys) + "q", *head, *pairs, 0)
    return torch.frombuffer(bytearray(packed), dtype=torch.int64)


def add_(jobs: Sequence[NoiseJob], stream: int) -> None:
    """``out ← keep·source + Σ_k weights[k]·draw(keys[k])`` for each job, one launch each.

    Args:
        jobs: on GPUs.
        stream: that of the distribution (``philox.DRAWS``).
    """
    for job in jobs:
        if job.out.numel() == 0:
            continue
        kind = tl.float64 if job.out.dtype == torch.float64 else tl.float32
        width = job.out.numel() if job.rows is None else job.out.shape[1]
        # A row that begins within a span may end in one more than its length alone would need.
        begin = job.first % philox.SPAN if job.rows is None else philox.SPAN - 1
        spans = triton.cdiv(begin + width, philox.SPAN)
        with torch.cuda.device_of(job.out):
            plan = _plan(job.first, width, spans, job.keys, job.weights, job.keep).to(job.out.device, non_blocking=True)
            rows = plan[-1:] if job.rows is None else job.rows
            _add[(len(rows) * spans,)](job.out, job.source, rows, plan, kind, stream, **OPTIONS)
