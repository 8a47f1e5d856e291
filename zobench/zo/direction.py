"""Directions: weighted sums of keys, ``Σ w_k u(k)``.

A probe, a gradient estimate, the offset of a walk and one line of a trajectory are all this one type. It lives on
the host and holds a few numbers; only a ``Perturbation`` knows what tensor a key stands for.
"""

from collections.abc import Iterator, Mapping


class Direction(Mapping[int, float]):
    """An immutable map from key to weight, with the arithmetic of a vector space.

    Keys whose weight cancels to exactly 0.0 are dropped, so that a walk which returns to its start adds nothing.
    """

    __slots__ = ("_terms",)

    def __init__(self, terms: Mapping[int, float] | None = None):
        self._terms = {k: float(w) for k, w in (terms or {}).items() if w != 0.0}

    @classmethod
    def ray(cls, key: int) -> "Direction":
        """The single draw ``u(key)``."""
        return cls({key: 1.0})

    def __getitem__(self, key: int) -> float:
        return self._terms[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __add__(self, other: "Direction") -> "Direction":
        terms = dict(self._terms)
        for key, weight in other.items():
            terms[key] = terms.get(key, 0.0) + weight
        return Direction(terms)

    def __sub__(self, other: "Direction") -> "Direction":
        return self + other * -1.0

    def __mul__(self, scale: float) -> "Direction":
        return Direction({k: w * scale for k, w in self._terms.items()})

    __rmul__ = __mul__

    def __neg__(self) -> "Direction":
        return self * -1.0

    def __repr__(self) -> str:
        return "Direction(" + " ".join(f"{w:+.6g}·u({k:x})" for k, w in self._terms.items()) + ")"


ZERO = Direction()
