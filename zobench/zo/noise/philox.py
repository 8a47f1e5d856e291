"""The random numbers of zobench, defined: a counter-based generator, and the normal transform of its bits.

Element ``e`` of a draw is a pure function of the draw's 64-bit key and of ``e``: nothing before it is drawn. Philox4x32
with 7 rounds (Salmon et al., SC 2011, which passes BigCrush) turns a 128-bit counter into four 32-bit words. Elements
come in spans of SPAN = 4 × LANES: word ``j`` of counter ``(e // SPAN)·LANES + i`` belongs to the span's element
``j·LANES + i``, so that each word fills a contiguous run. Words 0 and 1, and words 2 and 3, make pairs of normal
numbers (Box and Muller, 1958): exact, from 32-bit uniforms, no larger than 6.8. Signs use all bits of a word: the
words of group ``g`` of LANES counters serve the BITS = 32 spans from ``32·g`` on, bit ``b`` of each word the ``b``-th.

Logarithm, sine and cosine are truncated Taylor series, so that each number is the result of fp32 additions,
multiplications, divisions and square roots in a fixed order, which IEEE 754 rounds alike everywhere: these functions,
the compiled loops (``cpu_loops.py``) and the GPU's kernel (``gpu_kernel.py``) give the same bits.
"""

import math

import torch
from torch import Tensor

#: counters whose words make one span
LANES = 512
#: elements of a draw that are made together
SPAN = 4 * LANES
#: spans of signs that share their words, a bit each
BITS = 32
ROUNDS = 7
#: Philox4x32's multipliers, and what is added to the halves of its key after each round
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)

#: the bits of fp32 √½: mantissas are taken from [√½, √2), where the logarithm's series converges fastest
ROOT_HALF_BITS = 0x3F3504F3
ONE_BITS = 0x3F800000
SCALE = 2.0**-32
#: −2 log u = k·LOG_STEP + ATANH·s·(1 + s²/3 + s⁴/5 + …), with u = 2ᵏ·m and s = (m − 1)/(m + 1)
LOG_STEP = -2.0 * math.log(2.0)
ATANH = -4.0
LOG_SERIES = (1 / 9, 1 / 7, 1 / 5, 1 / 3)
ANGLE = math.pi / 2 * 2.0**-30
SINE_SERIES = (1 / 362880, -1 / 5040, 1 / 120, -1 / 6)
COSINE_SERIES = (-1 / 3628800, 1 / 40320, -1 / 720, 1 / 24, -1 / 2)

#: streams: values of the counter's third word, one for each distribution
NORMALS, SIGNS = 0, 1

_MASK = 0xFFFFFFFF
_SIGN = 0x80000000


def halves(key: int) -> tuple[int, int]:
    """A key's low 32 bits and its high 32 bits, as Philox takes them."""
    return key & _MASK, key >> 32 & _MASK


def words(key: int, groups: Tensor, stream: int = 0) -> list[Tensor]:
    """The four 32-bit words that Philox4x32-7 makes of each counter: the raw bits of a draw.

    Args:
        key: the draw's, 64 bits.
        groups: which groups of LANES successive counters, int64.
        stream: third word of the counter; each distribution has its own.

    Returns:
        Four tensors, int64 of shape (groups, LANES), with values from 0 to 2³² − 1.

    Example:
        The vector that Salmon et al. publish for 7 rounds, key 0 and counter 0:

        >>> [f"{int(word[0, 0]):08x}" for word in words(0, torch.tensor([0]))]
        ['5f6fb709', '0d893f64', '4f121f81', '4f730a48']
    """
    counter = groups[:, None] * LANES + torch.arange(LANES, device=groups.device)
    a, b = counter & _MASK, counter >> 32
    c, d = torch.full_like(counter, stream), torch.zeros_like(counter)
    low, high = halves(key)
    for _ in range(ROUNDS):
        m, n = a * MULTIPLIERS[0], c * MULTIPLIERS[1]  # modulo 2⁶⁴, as a sign does not matter
        a, b = (n >> 32 & _MASK) ^ b ^ low, n & _MASK
        c, d = (m >> 32 & _MASK) ^ d ^ high, m & _MASK
        low, high = low + WEYL[0] & _MASK, high + WEYL[1] & _MASK
    return [a, b, c, d]


def normals(key: int, spans: Tensor) -> Tensor:
    """Standard normal numbers: the elements of the given spans of a draw, fp32 of shape (spans, SPAN)."""
    w = words(key, spans, NORMALS)
    return torch.cat([z for h in (0, 2) for z in _box_muller(w[h], w[h + 1])], dim=1)


def signs(key: int, spans: Tensor) -> Tensor:
    """Signs, −1 or 1 with equal probability: the elements of the given spans of a draw, fp32 of shape (spans, SPAN)."""
    w = torch.cat(words(key, spans // BITS, SIGNS), dim=1)
    return torch.where((w >> (spans % BITS)[:, None] & 1) != 0, -1.0, 1.0)


#: the function that draws, for each stream
DRAWS = {NORMALS: normals, SIGNS: signs}


def elements(key: int, first: int, count: int, device: torch.device, stream: int = NORMALS) -> Tensor:
    """Elements ``first`` to ``first + count - 1`` of a draw, fp32 of shape (count,).

    Example:
        >>> cpu = torch.device("cpu")
        >>> elements(7, 5000, 3, cpu).equal(elements(7, 0, 6000, cpu)[5000:5003])
        True
    """
    spans = torch.arange(first // SPAN, -(-(first + count) // SPAN), device=device)
    return DRAWS[stream](key, spans).view(-1)[first % SPAN :][:count]


def rows(key: int, first: int, which: Tensor, width: int, stream: int = NORMALS) -> Tensor:
    """Some rows of a draw that is seen as a matrix: fp32 of shape (rows, width).

    Args:
        first: index of the draw's element at which the matrix begins.
        which: the rows, int64; any, repeated or in any order.
        width: elements of a row.
    """
    at = first + which[:, None] * width + torch.arange(width, device=which.device)
    spans, place = (at // SPAN).unique(return_inverse=True)
    return DRAWS[stream](key, spans)[place, at % SPAN]


def _box_muller(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """``r cos φ`` and ``r sin φ``, with the radius from the words x and the angle φ from the words y."""
    r = _radius(x)
    t = ((y & 0x3FFFFFFF) - 0x20000000).float() * ANGLE  # within a quarter turn, ±π/4
    t2 = t * t
    cosine, sine = 1.0 + _horner(COSINE_SERIES, t2), (1.0 + _horner(SINE_SERIES, t2)) * t
    odd, half = (y & 0x40000000) != 0, (y & _SIGN) != 0  # the quarter that y's upper bits name
    first, second = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    return torch.where(odd ^ half, -first, first) * r, torch.where(half, -second, second) * r


def _radius(x: Tensor) -> Tensor:
    """The radius ``√(−2 log u)`` of Box and Muller's transform, with ``u = (x + ½)/2³²``."""
    u = (x.float() + 0.5) * SCALE
    bits = u.view(torch.int32) + (ONE_BITS - ROOT_HALF_BITS)
    k = (bits >> 23) - 127
    m = ((bits & 0x7FFFFF) + ROOT_HALF_BITS).view(torch.float32) - 1.0
    s = m / (2.0 + m)
    square = k.float() * LOG_STEP + (s * ATANH) * (1.0 + _horner(LOG_SERIES, s * s))
    return square.double().sqrt().float()  # torch's fp32 root is not correctly rounded on every CPU; this is


def _horner(series: tuple[float, ...], x: Tensor) -> Tensor:
    """A power series without its constant term, at x: ``series[-1]·x + series[-2]·x² + …``."""
    total = x * series[0]
    for coefficient in series[1:]:
        total = (total + coefficient) * x
    return total
