"""Learning-rate schedules: the factor that multiplies ``lr`` at a step."""

import math

SCHEDULES = ("constant", "linear", "cosine")


def factor(schedule: str, step: int, total_steps: int | None, warmup: int = 0) -> float:
    """The factor of a step; linear and cosine schedules fall from 1 to 0 at ``total_steps``.

    >>> [factor("linear", step, total_steps=4) for step in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]

    Args:
        schedule: one of ``SCHEDULES``.
        step: from 0.
        warmup: steps of linear warm-up, before which nothing falls.

    Raises:
        ValueError: for a decaying schedule without ``total_steps``.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    if total_steps is None:
        raise ValueError(f"lr_schedule={schedule!r} needs total_steps")
    done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
