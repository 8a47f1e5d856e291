"""Checks of settings: each names what was given and what is expected, ``eps=0.0: must be positive``.

Values come by keyword, so that the message has the setting's own name; nan never passes, and None always does: what may
be left out is a matter of types. A check is made where the setting is used, and ``noting`` tells which ones a
constructor makes: a command line is held to them too.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

_notes: list[dict[str, dict[str, Any]]] = []


@contextmanager
def noting() -> Iterator[dict[str, dict[str, Any]]]:
    """A context that gives the checks made in it, by setting: an ``interval`` or ``choices``, and the complaint.

    Of several checks of one setting it is the first, whose complaint a user meets.

    >>> with noting() as made:
    ...     at_least(1, probes=3)
    >>> made
    {'probes': {'interval': '[1, inf)', 'expected': 'must be at least 1'}}
    """
    made: dict[str, dict[str, Any]] = {}
    _notes.append(made)
    try:
        yield made
    finally:
        _notes.pop()


def positive(**values: float | None) -> None:
    """Refuse numbers that are not above 0.

    Raises:
        ValueError: for the first of them.
    """
    _within("(0, inf)", "must be positive", values)


def not_negative(**values: float | None) -> None:
    """Refuse numbers below 0.

    Raises:
        ValueError: for the first of them.
    """
    _within("[0, inf)", "must be 0 or positive", values)


def at_least(least: int, **values: int | None) -> None:
    """Refuse counts below the least that makes sense.

    Raises:
        ValueError: for the first of them.
    """
    _within(f"[{least}, inf)", f"must be at least {least}", values)


def within(interval: str, **values: float | None) -> None:
    """Refuse numbers outside an interval.

    >>> within("[0, 1)", beta=1.0)
    Traceback (most recent call last):
    ValueError: beta=1.0: must lie in [0, 1)

    Args:
        interval: two numbers; a square bracket takes its end in, a round one leaves it out.

    Raises:
        ValueError: for the first of them.
    """
    _within(interval, f"must lie in {interval}", values)


def one_of(choices: Collection[object], **values: object) -> None:
    """Refuse values that are not among the choices.

    >>> one_of(("paper", "official"), variant="offical")
    Traceback (most recent call last):
    ValueError: variant=offical: expected one of paper, official

    Raises:
        ValueError: for the first of them.
    """
    expected = f"expected one of {', '.join(map(str, choices))}"
    for name, value in values.items():
        _note(name, choices=list(choices), expected=expected)
        if value not in choices:
            raise ValueError(f"{name}={value}: {expected}")


def contains(interval: str, value: float) -> bool:
    """Whether a number lies in an interval, written as for ``within``."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def _within(interval: str, expected: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        _note(name, interval=interval, expected=expected)
        if value is not None and not contains(interval, value):
            raise ValueError(f"{name}={value}: {expected}")


def _note(name: str, **check: Any) -> None:
    for made in _notes:
        made.setdefault(name, check)
