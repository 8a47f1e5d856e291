"""Directions: weighted sums of random draws, ``Σ w_k u(k)``, written down as the keys k and their weights w.

A probe, a gradient estimate, the offset at which a loss is measured and one line of a trajectory are all this one type.
It lives on the host and holds a few numbers; only a ``Perturbation`` knows which tensor ``u(k)`` a key stands for.

A key of weight 0 moves nothing, and says something all the same: that the loss was measured along ``u(k)`` and is flat
there, as where two losses tie. An update rule with a memory tells that from a draw that was never measured.
"""

from collections.abc import Iterator, Mapping
from typing import Any


class Direction(Mapping[int, float]):
    """An immutable map from key to weight, with the arithmetic of a vector space.

    Keys stay whatever their weights. ``len``, ``in``, iteration and truth go by the keys; ``==`` compares vectors, to
    which a key of weight 0 adds nothing; ``nonzero`` leaves these keys out, for those who draw.

    Args:
        terms: the weight of each key; no terms, the zero vector, if None.

    Example:
        >>> u, v = Direction.ray(7), Direction.ray(11)
        >>> probe = 1e-3 * u
        >>> probe - 2 * probe  # the move from one side of a central difference to the other
        Direction(-0.001·u(7))
        >>> estimate = 0.5 * u + 0.25 * v
        >>> estimate[11], len(estimate)
        (0.25, 2)
        >>> back = estimate - 0.5 * u - 0.25 * v
        >>> back == ZERO, len(back), len(back.nonzero())
        (True, 2, 0)
    """

    __slots__ = ("_terms",)

    def __init__(self, terms: Mapping[int, float] | None = None):
        self._terms = {k: float(w) for k, w in (terms or {}).items()}

    @classmethod
    def ray(cls, key: int) -> "Direction":
        """The single draw ``u(key)``, with weight 1."""
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Direction):
            return NotImplemented
        return self.nonzero()._terms == other.nonzero()._terms

    __hash__ = None  # type: ignore[assignment]  # as of every mapping

    def nonzero(self) -> "Direction":
        """The direction without its keys of weight 0, as those who draw want it: the same vector."""
        if all(self._terms.values()):
            return self
        return Direction({k: w for k, w in self._terms.items() if w != 0.0})

    def as_state(self, name: str) -> dict[str, int | float]:
        """The direction as numbers by name, for a ``state_dict``; keys of weight 0 included."""
        terms = enumerate(self._terms.items())
        return {f"{name}.{part}.{i}": x for i, term in terms for part, x in zip(("key", "weight"), term, strict=True)}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any]) -> "Direction":
        """The direction that ``as_state`` wrote among the entries of a state.

        Example:
            >>> Direction.from_state("anchor", {"t": 3, **Direction({7: 0.5, 8: 0.0}).as_state("anchor")})
            Direction(+0.5·u(7) +0·u(8))
        """
        count = sum(key.startswith(f"{name}.key.") for key in state)
        return cls({int(state[f"{name}.key.{i}"]): float(state[f"{name}.weight.{i}"]) for i in range(count)})

    def __repr__(self) -> str:
        return "Direction(" + " ".join(f"{w:+.6g}·u({k:x})" for k, w in self._terms.items()) + ")"


#: no move at all: the weights as they are
ZERO = Direction()
