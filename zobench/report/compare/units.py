"""The units in which quantities are told."""

_SPANS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


def unit_of(seconds: float) -> tuple[float, str]:
    """Choose the unit in which a span of time is told: its seconds, and its name.

    >>> unit_of(7200.0), unit_of(90.0)
    ((3600.0, 'h'), (1.0, 's'))
    """
    return next(((size, name) for size, name in _SPANS if seconds >= 2 * size), _SPANS[-1])
