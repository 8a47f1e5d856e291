"""Keys: 63-bit integers that name random draws.

A key is made from integers by an explicit mixer (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA 2014), so
that it is the same in every process and Python version. Python's own ``hash`` promises neither.
"""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(*parts: int) -> int:
    """A 63-bit integer that depends on every part and on their order.

    Example:
        >>> mix(1, 2) == mix(1, 2), mix(1, 2) == mix(2, 1)
        (True, False)
        >>> 0 <= mix(-5) < 2**63
        True
    """
    h = _GOLDEN
    for part in parts:
        h = (h ^ (part & _MASK)) * 0xBF58476D1CE4E5B9 & _MASK
        h = (h + _GOLDEN) & _MASK
        h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        h = (h ^ h >> 27) * 0x94D049BB133111EB & _MASK
        h ^= h >> 31
    return h >> 1


def tag(text: str) -> int:
    """A 63-bit integer for a name: FNV-1a over its UTF-8 bytes, then ``mix``."""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 & _MASK
    return mix(h)


class Keys:
    """The keys of a run, a function of (seed, step, query, purpose).

    Args:
        seed: the run's seed of noise; it separates the draws of one run from those of another.

    Example:
        >>> keys = Keys(seed=0)
        >>> keys(step=3) == Keys(seed=0)(step=3)
        True
        >>> len({keys(3), keys(4), keys(3, query=1), keys(3, purpose="anchor"), Keys(1)(3)})
        5
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, step: int, query: int = 0, purpose: str = "probe") -> int:
        """The key of one draw.

        Args:
            step: number of the step, from 0.
            query: number of the draw within the step, from 0.
            purpose: what the draw is for; draws for different purposes share no key.
        """
        return mix(self.seed, step, query, tag(purpose))
