"""The CPU's noise: ``philox.py`` as compiled loops, the same bits many times faster, no temporary beyond a span.

A span (2,048 elements of a draw) is summed in fp32 (fp64 for fp64 numbers) and written once. Fusing to multiply-adds
stays off: it would change the bits. Philox runs in 64-bit lanes, whose low halves a vector unit multiplies without
shuffling.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numba
import numpy as np
import torch

from zobench.zo.noise import philox, workers
from zobench.zo.noise.cpu_words import as_float, as_int, fma, get, put
from zobench.zo.noise.held import BLOCK, NOTHING, HeldDraws, current
from zobench.zo.noise.job import NoiseJob
from zobench.zo.noise.philox import BITS, LANES, SPAN

_f, _u, _i, _w = np.float32, np.uint32, np.int32, np.uint64
_M0, _M1 = (_w(m) for m in philox.MULTIPLIERS)
_W0, _W1 = (_w(w) for w in philox.WEYL)
_LOW = _w(0xFFFFFFFF)
_HALF, _ONE, _TWO, _SCALE = _f(0.5), _f(1.0), _f(2.0), _f(philox.SCALE)
_LOG_STEP, _ATANH, _ANGLE = _f(philox.LOG_STEP), _f(philox.ATANH), _f(philox.ANGLE)
_L9, _L7, _L5, _L3 = (_f(c) for c in philox.LOG_SERIES)
_S9, _S7, _S5, _S3 = (_f(c) for c in philox.SINE_SERIES)
_C10, _C8, _C6, _C4, _C2 = (_f(c) for c in philox.COSINE_SERIES)
_ROOT_HALF, _SHIFT = _i(philox.ROOT_HALF_BITS), _i(philox.ONE_BITS - philox.ROOT_HALF_BITS)
_ROUNDS, _SIGNS = philox.ROUNDS, philox.SIGNS
_SIGN, _ODD, _ANGLE_BITS, _EIGHTH = _i(-(2**31)), _i(2**30), _i(2**30 - 1), _i(2**29)
_ONE_BITS = _i(philox.ONE_BITS)
#: elements that a thread takes at a time: so many that taking them costs nothing, so few that all end together
_SHARE = BLOCK
_BLOCK_SPANS = BLOCK // SPAN

_LOW_HALF = 0 if sys.byteorder == "little" else 1
_NO_TABLE, _NONE = np.empty((0, 0, 3), np.int64), {number: np.empty(0, number) for number in (np.float32, np.float64)}

_jit: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=False)


@_jit
def _philox(low, high, group, stream, x):
    """Write the words of a group to ``x``: all first words, then all second ones, and so on (``philox.words``)."""
    at = _w(group) * _w(LANES)
    above, at = at >> _w(32), at & _LOW
    for i in range(LANES):
        a, b, c, d, p, q = at + _w(i), above, _w(stream), _w(0), _w(low), _w(high)
        for _ in range(_ROUNDS):
            m, n = (a & _LOW) * _M0, (c & _LOW) * _M1
            a, b, c, d = (n >> _w(32)) ^ b ^ p, n, (m >> _w(32)) ^ d ^ q, m
            p, q = (p + _W0) & _LOW, (q + _W1) & _LOW
        x[i], x[LANES + i], x[2 * LANES + i], x[3 * LANES + i] = _i(a), _i(b), _i(c), _i(d)


@_jit
def _box_muller(x, y):
    """Two normal numbers from two words, as ``philox.py`` makes them."""
    bits = as_int((_f(_u(x)) + _HALF) * _SCALE) + _SHIFT
    k = (bits >> _i(23)) - _i(127)
    m = as_float((bits & _i(0x7FFFFF)) + _ROOT_HALF) - _ONE
    s = m / (_TWO + m)
    z = s * s
    p = (((z * _L9 + _L7) * z + _L5) * z + _L3) * z
    r = np.sqrt(_f(k) * _LOG_STEP + (s * _ATANH) * (_ONE + p))
    t = _f((y & _ANGLE_BITS) - _EIGHTH) * _ANGLE
    z = t * t
    cosine = _ONE + ((((z * _C10 + _C8) * z + _C6) * z + _C4) * z + _C2) * z
    sine = (_ONE + (((z * _S9 + _S7) * z + _S5) * z + _S3) * z) * t
    odd = (y & _ODD) != _i(0)
    a = as_float(as_int(sine if odd else cosine) ^ ((y ^ (y << _i(1))) & _SIGN))
    b = as_float(as_int(cosine if odd else sine) ^ (y & _SIGN))
    return a * r, b * r


@_jit
def _sign(x, shift):
    """−1 or 1: the bit of a word that ``shift`` moves to its top."""
    return as_float(((x << shift) & _SIGN) | _ONE_BITS)


# Where a compiler cannot tell whether two arrays overlap, it does not vectorise: hence each loop in two forms.


@_jit
def _normals(x, source, keep, weight, out):
    """``out = keep·source + weight·draw`` on the whole span of these words."""
    for h in (0, 2 * LANES):
        for i in range(h, h + LANES):
            a, b = _box_muller(x[i], x[LANES + i])
            put(out, i, get(source, i) * keep + a * weight)
            put(out, LANES + i, get(source, LANES + i) * keep + b * weight)


@_jit
def _normals_in_place(x, keep, weight, out):
    for h in (0, 2 * LANES):
        for i in range(h, h + LANES):
            a, b = _box_muller(x[i], x[LANES + i])
            put(out, i, get(out, i) * keep + a * weight)
            put(out, LANES + i, get(out, LANES + i) * keep + b * weight)


@_jit
def _signs(x, shift, source, keep, weight, out):
    for i in range(SPAN):
        put(out, i, get(source, i) * keep + _sign(x[i], shift) * weight)


@_jit
def _signs_in_place(x, shift, keep, weight, out):
    for i in range(SPAN):
        put(out, i, get(out, i) * keep + _sign(x[i], shift) * weight)


@_jit
def _copy(source, keep, out):
    """``out = keep·source``."""
    for i in range(out.size):
        put(out, i, get(source, i) * keep)


@_jit
def _add_draw(x, shift, stream, source, keep, weight, out, in_place):
    """``out = keep·source + weight·draw`` on a whole span, for either distribution."""
    if stream == _SIGNS:
        if in_place:
            _signs_in_place(x, shift, keep, weight, out)
        else:
            _signs(x, shift, source, keep, weight, out)
    elif in_place:
        _normals_in_place(x, keep, weight, out)
    else:
        _normals(x, source, keep, weight, out)


@_jit
def _copy_and_add(source, keep, beside, scale, out):
    """``out = keep·source + scale·beside``, the second product and the sum rounded once."""
    for i in range(out.size):
        out[i] = fma(beside[i], scale, get(source, i) * keep)


@_jit
def _make(x, out):
    """Write the normal numbers of these words."""
    for h in (0, 2 * LANES):
        for i in range(h, h + LANES):
            out[i], out[LANES + i] = _box_muller(x[i], x[LANES + i])


@_jit
def _add_made(made, source, keep, weight, out):
    """``out = keep·source + weight·draw`` on a whole span of numbers that were made before."""
    for i in range(SPAN):
        put(out, i, get(source, i) * keep + made[i] * weight)


@_jit
def _add_made_in_place(made, keep, weight, out):
    for i in range(SPAN):
        put(out, i, get(out, i) * keep + made[i] * weight)


@_jit
def _place(table, j, span, block):
    """Where the numbers of a draw's span are held or may be; −1 for nowhere. ``block`` is the first of the table."""
    if table.shape[0] > 0:
        low, high, at = table[j, span // _BLOCK_SPANS - block]
        if low <= span < high:
            return at + span - low
    return -1


@_jit
def _add(out, source, first, lows, highs, weights, keep, stream, in_place, beside, scale, table, numbers, made):
    """``out = keep·source + scale·beside + Σ weights·draws``, span by span; summed in the dtype of ``weights``.

    Args:
        first: index of the draws' element that belongs to the first of ``out``.
        lows, highs: the halves of the keys.
        in_place: whether ``out`` is ``source``.
        beside: of no elements where nothing is added beside the draws.
        table: where spans of the draws are held (``HeldDraws.places``); of no keys where nothing is.
        numbers, made: the held numbers, and whether they are made.
    """
    x = np.empty((max(1, lows.size), SPAN), np.int32)
    total, one, last_group = np.zeros(SPAN, weights.dtype), weights.dtype.type(1.0), -1
    shift, block = _i(0), first // BLOCK
    done = 0
    while done < out.size:
        span, at = divmod(first + done, SPAN)
        n = min(SPAN - at, out.size - done)
        if stream == _SIGNS:
            group, shift = span // BITS, _i(BITS - 1 - span % BITS)
            if group != last_group:
                for j in range(lows.size):
                    _philox(lows[j], highs[j], group, stream, x[j])
            last_group = group
        target, origin = out[done : done + n], source[done : done + n]
        alone = n == SPAN and lows.size == 1 and beside.size == 0
        part = total[at : at + n]
        if beside.size > 0:
            _copy_and_add(origin, keep, beside[done : done + n], scale, part)
        elif not alone:
            _copy(origin, keep, part)
        for j in range(lows.size):
            place = _place(table, j, span, block)
            if place >= 0 and made[place] == 0:
                if n == SPAN:
                    _philox(lows[j], highs[j], span, stream, x[j])
                    _make(x[j], numbers[place])
                    made[place] = 1
                else:
                    place = -1
            if place < 0:
                if stream != _SIGNS:
                    _philox(lows[j], highs[j], span, stream, x[j])
                if alone:
                    _add_draw(x[j], shift, stream, origin, keep, weights[j], target, in_place)
                else:
                    _add_draw(x[j], shift, stream, total, one, weights[j], total, True)
            elif not alone:
                _add_made_in_place(numbers[place], one, weights[j], total)
            elif in_place:
                _add_made_in_place(numbers[place], keep, weights[j], target)
            else:
                _add_made(numbers[place], origin, keep, weights[j], target)
        if not alone:
            _copy(part, one, target)
        done += n


@_jit
def _add_rows(
    out, source, rows, first, lows, highs, weights, keep, stream, in_place, beside, scale, table, numbers, made
):
    """``_add`` for each row of ``out``, which holds these rows of a matrix that begins at element ``first``."""
    for i in range(rows.size):
        begin, common = first + rows[i] * out.shape[1], (lows, highs, weights, keep, stream, in_place)
        _add(out[i], source[i], begin, *common, beside, scale, table, numbers, made)


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    """The memory of a tensor; numbers of 16 bits as integers of their bits (``cpu_words.py``)."""
    tensor = tensor.detach()  # numpy lacks bf16, and numba fp16 on a CPU
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.view(torch.int16).numpy() if tensor.dtype == torch.float16 else tensor.numpy()


def add_(jobs: Sequence[NoiseJob], stream: int) -> None:
    """Each job's ``out ← keep·source + scale·beside + Σ_k weights[k]·draw(keys[k])``, on as many threads as torch uses.

    Normal numbers are held, and read where they are held, if this thread's are (``held.py``).

    Args:
        jobs: on the CPU; of one dtype or of several.
        stream: that of the distribution (``philox.DRAWS``).
    """
    held = current() if stream == philox.NORMALS else None
    workers.run(task for job in jobs for task in _tasks(job, stream, held))


def _tasks(job: NoiseJob, stream: int, held: HeldDraws | None) -> Iterator[workers.Task]:
    """Calls of loops that do a job between them and do not touch each other's memory."""
    out, source, rows, first = _as_array(job.out), _as_array(job.source), job.rows, job.first
    number = np.float64 if job.out.dtype == torch.float64 else np.float32
    halves = np.array(job.keys, np.uint64).view(np.uint32)  # low halves and high halves in turn
    lows, highs = halves[_LOW_HALF::2].copy(), halves[1 - _LOW_HALF :: 2].copy()
    with np.errstate(over="ignore"):  # of a run that diverges; the loss says so
        weights, keep, scale = np.array(job.weights, number), number(job.keep), number(job.scale)
    common = (lows, highs, weights, keep, stream, job.out is job.source)
    beside = _NONE[number] if job.beside is None else _as_array(job.beside)
    nowhere = _NO_TABLE, *NOTHING
    if rows is None:
        for begin in range(0, out.size, _SHARE):
            part = slice(begin, begin + _SHARE)
            table = held.places(job.keys, first + begin, out[part].size) if held else None
            places = nowhere if held is None or table is None else (table, held.numbers, held.made)
            yield partial(_add, out[part], source[part], first + begin, *common, beside[part], scale, *places)
        return
    size = max(1, _SHARE // max(1, out.shape[1]))
    for begin in range(0, len(out), size):
        part = slice(begin, begin + size)
        yield partial(_add_rows, out[part], source[part], rows[part].numpy(), first, *common, beside, scale, *nowhere)
