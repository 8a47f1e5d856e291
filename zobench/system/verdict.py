"""Whether a result says that something was learned, and what to try where it does not."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

#: standard errors that a result must be above what is reached without training
ERRORS = 2
#: what a result must be, in words
ABOVE = f"{ERRORS} standard errors (of the test rows) above all that is reached without training"
#: a change of a loss, relative to it, that is next to none
_STILL = 0.01


def above(value: float, error: float, bases: Iterable[float]) -> bool:
    """Whether a result is so far above all that is reached without training that chance in the test rows is no reason.

    >>> above(0.7, 0.05, [0.5, 0.55]), above(0.6, 0.05, [0.5, 0.55])
    (True, False)

    Args:
        error: the result's standard error, or the step in which it moves where that is larger.
    """
    return value - ERRORS * error > max(bases)


def verdict(row: Mapping[str, Any]) -> str | None:
    """What a run's row says of learning, in one line; None of a run that did not train or lacks the numbers.

    >>> row = {"trains": True, "metric": "accuracy", "test_metric": 0.7, "test_metric_stderr": 0.05, "test/n": 84}
    >>> print(verdict(row | {"zero_shot/test/accuracy": 0.5}))
    test accuracy is 2 standard errors (of the test rows) above all that is reached without training: zero-shot 0.500
    """
    metric, value, error = row.get("metric"), row.get("test_metric"), row.get("test_metric_stderr")
    bases = {
        "zero-shot": row.get(f"zero_shot/test/{metric}"),
        "threshold from dev": row.get(f"zero_shot/test/{metric}_calibrated"),
        "majority class": {"accuracy": row.get("zero_shot/test/majority"), "mcc": 0.0}.get(str(metric)),
    }
    known = {name: base for name, base in bases.items() if base is not None}
    if not row.get("trains") or not known or not all(map(_finite, (value, error, *known.values()))):
        return None
    step = 1 / row["test/n"] if row.get("test/n") else 0.0
    learned = above(float(value or 0), max(float(error or 0), step), known.values())
    told = ", ".join(f"{name} {base:.3f}" for name, base in known.items())
    return f"test {metric} is {'' if learned else 'not '}{ABOVE}: {told}" + ("" if learned else _advice(row))


def _advice(row: Mapping[str, Any]) -> str:
    """What to try, by what the dev loss did on the way to the chosen weights; of a score, where it ties."""
    if row.get("objective") == "metric":
        eps = row.get("method.eps")
        return f"; scores tie at a small method.eps (now {eps:g}): try a larger one" if _finite(eps) else ""
    before, after = row.get("zero_shot/dev/loss"), row.get("dev/loss")
    if not _finite(before) or not _finite(after) or not _finite(row.get("method.lr")) or not before:
        return ""
    change, now = after / before - 1, f"method.lr (now {row['method.lr']:g})"
    if abs(change) < _STILL:
        return f"; the dev loss hardly moved: try a higher {now}"
    if change > 0:
        return f"; the dev loss rose: try a lower {now}"
    return f"; the dev loss fell by {-change:.0%}: try more forward passes, more test rows, or another {now}"


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
