"""What a run's budget pays for: the one rule by which runs end and plans of sweeps are priced. Imports no torch."""

from dataclasses import dataclass
from itertools import accumulate, count, takewhile
from typing import TYPE_CHECKING

from zobench.config.schema import DEFAULT_FORWARDS
from zobench.errors import ConfigError

if TYPE_CHECKING:
    from zobench.zo import Method

#: forward passes of a step; one that takes more would seem to hang
_MOST_FORWARDS = 1_000_000


@dataclass(frozen=True)
class Spending:
    """What a run takes from its first step to its last, unless it is stopped or diverges.

    Attributes:
        steps: updates of the weights.
        forwards: forward passes of a batch; evaluations are not counted.
        backwards: backward passes of a batch, of first-order references only.
    """

    steps: int
    forwards: int
    backwards: int


def limits(steps: int | None, forwards: int | None) -> dict[str, int | None]:
    """The two ways in which a run's end is set, ``steps`` and ``forwards``; it ends at whichever is reached first.

    >>> limits(100, None)
    {'steps': 100, 'forwards': None}
    >>> limits(None, None)
    {'steps': None, 'forwards': 40000}
    """
    if steps is None and forwards is None:
        forwards = DEFAULT_FORWARDS
    return {"steps": steps, "forwards": forwards}


def total_steps(steps: int | None, forwards: int | None, method: "Method") -> int:
    """The whole steps of a method that the budgets pay for; 0 for a method that does not train.

    Args:
        steps: budget in steps; None for none.
        forwards: budget in forward passes of a batch; None for none, and with neither the default one.

    Raises:
        ConfigError: if the forward passes do not pay for one step, or if a step takes none, or more than any run needs.
    """
    if not method.trains:
        return 0
    steps, forwards = limits(steps, forwards).values()
    each = method.oracle.forwards_each
    if not 0 < method.forwards_at(0) <= _MOST_FORWARDS:
        raise ConfigError(
            f"a step of this method takes {method.forwards_at(0)} forward passes, expected 1 to {_MOST_FORWARDS}; is "
            "one of its settings too large?"
        )
    if forwards is None:
        assert steps is not None
        return steps
    if 0 < forwards < (first := each * method.forwards_at(0)):
        raise ConfigError(f"forwards={forwards}: one step of this method takes {first}")
    from zobench.zo import Method

    if type(method).forwards_at is Method.forwards_at:  # every step alike
        return min(forwards // (each * method.forwards_per_step), forwards if steps is None else steps)
    spent = accumulate(each * method.forwards_at(step) for step in (count() if steps is None else range(steps)))
    return sum(1 for _ in takewhile(lambda total: total <= forwards, spent))


def spending(steps: int | None, forwards: int | None, method: "Method") -> Spending:
    """What a run of a method spends on these budgets, as the method's own ``forwards_at`` says.

    Args:
        steps, forwards: as for ``total_steps``.
        method: is told its ``total_steps``, as in a run.

    Raises:
        ConfigError: if the forward passes do not pay for one step.
    """
    method.total_steps = total_steps(steps, forwards, method)
    taken = range(method.total_steps)
    forwards = method.oracle.forwards_each * sum(map(method.forwards_at, taken))
    return Spending(len(taken), forwards, len(taken) * method.backwards_per_step)
