"""Learning-rate schedules: the factor that multiplies ``lr`` at a step."""

import math

SCHEDULES = ("constant", "linear", "cosine")


def check(schedule: str) -> None:
    """Raises ValueError for an unknown schedule."""
    if schedule not in SCHEDULES:
        raise ValueError(f"lr_schedule={schedule}: expected one of {', '.join(SCHEDULES)}")


def factor(schedule: str, step: int, total_steps: int | None, warmup: int = 0) -> float:
    """The factor for step 0, 1, ...; linear and cosine fall to 0 at ``total_steps``.

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
