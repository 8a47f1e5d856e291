"""Keys: 63-bit integers that name random draws.

A key is made from integers by an explicit mixer (the finaliser of SplitMix64, Steele et al. 2014), so that
it is the same in every process and Python version. Python's own ``hash`` promises neither.
"""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(*parts: int) -> int:
    """A 63-bit integer that depends on every part and on their order."""
    h = _GOLDEN
    for part in parts:
        h = (h ^ (part & _MASK)) * 0xBF58476D1CE4E5B9 & _MASK
        h = (h + _GOLDEN) & _MASK
        h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        h = (h ^ h >> 27) * 0x94D049BB133111EB & _MASK
        h ^= h >> 31
    return h >> 1


def tag(text: str) -> int:
    """A 63-bit integer for a name (FNV-1a, then mixed)."""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 & _MASK
    return mix(h)


class Keys:
    """The keys of a run: a function of (seed, step, query, purpose)."""

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, step: int, query: int = 0, purpose: str = "probe") -> int:
        return mix(self.seed, step, query, tag(purpose))
