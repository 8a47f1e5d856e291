"""Which layers of a model a tuning means, as ``tuning.layers`` says it. Standard library only."""

import re
from collections.abc import Sequence
from typing import Any

from zobench.config.schema import as_yaml, is_int

#: k, the last k; a range of places from 0, ``4-7``, both ends included; or a list of places
LayerChoice = int | str | list[int]
_EXPECTED = "expected k for the last k layers, or places from 0: a range 4-7 or a list [0, 1, 29]"
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


def places(layers: Sequence[int] | str) -> list[int]:
    """The places, from 0, that a range or a list names, in order.

    >>> places("4-7"), places([29, 0, 1])
    ([4, 5, 6, 7], [0, 1, 29])

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(layers, str):
        found = _RANGE.fullmatch(layers)
        first, last = (int(end) for end in found.groups()) if found else (1, 0)
        if first <= last < first + 10_000:
            return list(range(first, last + 1))
    elif layers and all(is_int(place) and place >= 0 for place in layers):
        return sorted(set(layers))
    raise ValueError(f"layers={as_yaml(layers)}: {_EXPECTED}")


def check(layers: Any) -> None:
    """Refuse what names no layers of any model.

    Raises:
        ValueError: with what to write instead.
    """
    if isinstance(layers, str | list):
        places(layers)
    elif not is_int(layers) or layers < 1:
        raise ValueError(f"layers={as_yaml(layers)}: {_EXPECTED}")


def chosen(layers: LayerChoice, there: int) -> list[int]:
    """The places of the layers that are meant in a model of so many, in order.

    >>> chosen(2, 30), chosen("0-1", 30)
    ([28, 29], [0, 1])
    >>> chosen("28-30", 30)
    Traceback (most recent call last):
    ValueError: layers=28-30: the model has 30 layers; give 1 to 30 for the last ones, or places of 0 to 29

    Raises:
        ValueError: if they are none, or more than there are.
    """
    if isinstance(layers, str | list):
        found = places(layers)
    else:
        found = list(range(there - layers, there)) if 1 <= layers <= there else [there]
    if found[-1] >= there:
        each = f"give 1 to {there} for the last ones, or places of 0 to {there - 1}"
        raise ValueError(f"layers={as_yaml(layers)}: the model has {there} layers; {each}")
    return found
