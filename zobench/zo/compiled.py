"""``philox.py`` as compiled loops for the CPU: the same bits, several times faster, no temporary beyond a span.

Each loop touches few arrays, so that the compiler vectorises it. Contraction to fused multiply-adds stays off: it would
change the bits.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np
import torch

from zobench.zo import philox
from zobench.zo.philox import LANES, SPAN

_f, _u, _i, _w = np.float32, np.uint32, np.int32, np.uint64
_M0, _M1 = (_w(m) for m in philox.MULTIPLIERS)
_W0, _W1 = (_u(w) for w in philox.WEYL)
_HALF, _ONE, _TWO, _SCALE = _f(0.5), _f(1.0), _f(2.0), _f(philox.SCALE)
_LOG_STEP, _ATANH, _ANGLE = _f(philox.LOG_STEP), _f(philox.ATANH), _f(philox.ANGLE)
_L9, _L7, _L5, _L3 = (_f(c) for c in philox.LOG_SERIES)
_S9, _S7, _S5, _S3 = (_f(c) for c in philox.SINE_SERIES)
_C10, _C8, _C6, _C4, _C2 = (_f(c) for c in philox.COSINE_SERIES)
_ROOT_HALF, _SHIFT = _i(philox.ROOT_HALF_BITS), _i(philox.ONE_BITS - philox.ROOT_HALF_BITS)
_ROUNDS = philox.ROUNDS
_SIGN, _QUARTER, _EIGHTH = _u(0x80000000), _u(0x3FFFFFFF), _i(0x20000000)
_NORMALS, _SIGNS, _ONE_BITS = philox.NORMALS, philox.SIGNS, _u(philox.ONE_BITS)
#: below this many elements a second thread costs more than it saves
_WORTH_A_THREAD = 1 << 17

_jit: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=False)


@_jit
def _philox(low, high, span, stream, x):
    at = _w(span) * _w(LANES)
    above = _u(at >> _w(32))
    for i in range(LANES):
        a, b, c, d, p, q = _u(_u(at) + _u(i)), above, _u(stream), _u(0), low, high
        for _ in range(_ROUNDS):
            m, n = _w(a) * _M0, _w(c) * _M1
            a, b, c, d = _u(n >> _w(32)) ^ b ^ p, _u(n), _u(m >> _w(32)) ^ d ^ q, _u(m)
            p, q = _u(p + _W0), _u(q + _W1)
        x[0, i], x[1, i], x[2, i], x[3, i] = a, b, c, d


@_jit
def _radius(x, r, r_bits, k, k_bits):
    for i in range(LANES):
        r[i] = (_f(x[i]) + _HALF) * _SCALE
    for i in range(LANES):
        bits = r_bits[i] + _SHIFT
        k_bits[i] = (bits >> _i(23)) - _i(127)
        r_bits[i] = (bits & _i(0x7FFFFF)) + _ROOT_HALF
    for i in range(LANES):
        k[i] = _f(k_bits[i]) * _LOG_STEP
    for i in range(LANES):
        m = r[i] - _ONE
        s = m / (_TWO + m)
        z = s * s
        p = (((z * _L9 + _L7) * z + _L5) * z + _L3) * z
        r[i] = np.sqrt(k[i] + (s * _ATANH) * (_ONE + p))


@_jit
def _angle(y, cosine, sine, sine_bits):
    for i in range(LANES):
        sine_bits[i] = _i(y[i] & _QUARTER) - _EIGHTH
    for i in range(LANES):
        sine[i] = _f(sine_bits[i]) * _ANGLE
    for i in range(LANES):
        t = sine[i]
        z = t * t
        cosine[i] = _ONE + ((((z * _C10 + _C8) * z + _C6) * z + _C4) * z + _C2) * z
        sine[i] = (_ONE + (((z * _S9 + _S7) * z + _S5) * z + _S3) * z) * t


@_jit
def _rotate(y, r, first, second, first_bits, second_bits):
    for i in range(LANES):
        q, a, b = y[i], first_bits[i], second_bits[i]
        swap = (a ^ b) & (_u(0) - ((q >> _u(30)) & _u(1)))
        first_bits[i] = a ^ swap ^ ((q ^ (q << _u(1))) & _SIGN)
        second_bits[i] = b ^ swap ^ (q & _SIGN)
    for i in range(LANES):
        first[i] = first[i] * r[i]
    for i in range(LANES):
        second[i] = second[i] * r[i]


@_jit
def _normals(low, high, span, x, z, z_bits, r, r_bits):
    _philox(low, high, span, _NORMALS, x)
    for h in range(0, 4, 2):
        _radius(x[h], r, r_bits, z[h], z_bits[h].view(_i))
        _angle(x[h + 1], z[h], z[h + 1], z_bits[h + 1].view(_i))
        _rotate(x[h + 1], r, z[h], z[h + 1], z_bits[h], z_bits[h + 1])


@_jit
def _signs(low, high, span, x, z_bits):
    _philox(low, high, span, _SIGNS, x)
    for j in range(4):
        for i in range(LANES):
            z_bits[j, i] = (x[j, i] & _SIGN) | _ONE_BITS


@_jit
def _scale(out, keep):
    for i in range(out.size):
        out[i] = out[i] * keep


@_jit
def _axpy(out, z, weight):
    for i in range(out.size):
        out[i] = out[i] + z[i] * weight


@_jit
def _add(out, first, lows, highs, weights, keep, stream):
    """``out = keep·out + Σ weights·draws``, the weights of ``out``'s type; one span after another."""
    x = np.empty((4, LANES), np.uint32)
    z, r = np.empty((4, LANES), np.float32), np.empty(LANES, np.float32)
    flat, z_bits, r_bits = z.reshape(-1), z.view(np.uint32), r.view(np.int32)
    done = 0
    while done < out.size:
        span, at = divmod(first + done, SPAN)
        part = out[done : done + min(SPAN - at, out.size - done)]
        if keep != 1.0:
            _scale(part, keep)
        for j in range(lows.size):
            if stream == _NORMALS:
                _normals(lows[j], highs[j], span, x, z, z_bits, r, r_bits)
            else:
                _signs(lows[j], highs[j], span, x, z_bits)
            _axpy(part, flat[at : at + part.size], weights[j])
        done += part.size


@_jit
def _widen(bits, wide_bits):
    for i in range(bits.size):
        wide_bits[i] = _u(bits[i]) << _u(16)


@_jit
def _narrow(wide_bits, bits):
    """Round to nearest, ties to even; a NaN stays one."""
    for i in range(bits.size):
        w = wide_bits[i]
        rounded = (w + _u(0x7FFF) + ((w >> _u(16)) & _u(1))) >> _u(16)
        bits[i] = _u(0x7FC0) if (w & _u(0x7FFFFFFF)) > _u(0x7F800000) else rounded


@_jit
def _add_bf16(bits, first, lows, highs, weights, keep, stream):
    """``_add`` for bf16 numbers, given as their bits: summed in fp32 and rounded once."""
    wide = np.empty(SPAN, np.float32)
    wide_bits = wide.view(np.uint32)
    done = 0
    while done < bits.size:
        n = min(SPAN - (first + done) % SPAN, bits.size - done)
        _widen(bits[done : done + n], wide_bits)
        _add(wide[:n], first + done, lows, highs, weights, keep, stream)
        _narrow(wide_bits, bits[done : done + n])
        done += n


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="zobench-noise")


def add_(out: np.ndarray, first: int, keys: Sequence[int], weights: Sequence[float], keep: float, stream: int) -> None:
    """``out ← keep·out + Σ_k weights[k]·draw(keys[k], first, …)``, for flat fp32 or fp64 numbers, or the bits of bf16.

    Args:
        out: float32, float64, or uint16 for bf16.
        stream: ``philox.NORMALS`` or ``philox.SIGNS``.
    """
    loop, kind = (_add_bf16, np.float32) if out.dtype == np.uint16 else (_add, out.dtype.type)
    lows, highs = (np.array([philox.halves(key)[side] for key in keys], np.uint32) for side in (0, 1))
    factors, kept = np.array(weights, kind), kind(keep)
    threads = min(torch.get_num_threads(), max(1, out.size // _WORTH_A_THREAD))
    if threads == 1:
        loop(out, first, lows, highs, factors, kept, stream)
        return
    share = -(-out.size // threads // SPAN) * SPAN
    common: tuple[Any, ...] = (lows, highs, factors, kept, stream)
    starts = range(0, out.size, share)
    tasks = [_pool(threads).submit(loop, out[at : at + share], first + at, *common) for at in starts]
    for task in tasks:
        task.result()
