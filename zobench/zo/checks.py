"""Checks of settings: each names what was given and what is expected, ``eps=0.0: must be positive``.

Values come by keyword, so that the message has the setting's own name; nan never passes.
"""

from collections.abc import Collection


def positive(**values: float) -> None:
    """Refuse numbers that are not above 0.

    Raises:
        ValueError: for the first of them.
    """
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: must be positive")


def not_negative(**values: float) -> None:
    """Refuse numbers below 0.

    Raises:
        ValueError: for the first of them.
    """
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name}={value}: must be 0 or positive")


def at_least(least: int, **values: int) -> None:
    """Refuse counts below the least that makes sense.

    Raises:
        ValueError: for the first of them.
    """
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name}={value}: must be at least {least}")


def within(interval: str, **values: float) -> None:
    """Refuse numbers outside an interval.

    >>> within("[0, 1)", beta=1.0)
    Traceback (most recent call last):
    ValueError: beta=1.0: must lie in [0, 1)

    Args:
        interval: two numbers; a square bracket takes its end in, a round one leaves it out.

    Raises:
        ValueError: for the first of them.
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name, value in values.items():
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise ValueError(f"{name}={value}: must lie in {interval}")


def one_of(choices: Collection[object], **values: object) -> None:
    """Refuse values that are not among the choices.

    >>> one_of(("paper", "official"), variant="offical")
    Traceback (most recent call last):
    ValueError: variant=offical: expected one of paper, official

    Raises:
        ValueError: for the first of them.
    """
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"{name}={value}: expected one of {', '.join(map(str, choices))}")
