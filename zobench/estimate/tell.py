"""An estimate in lines, for a terminal or a file."""

from zobench.estimate.cost import LAW, MEASURED, RUNS, SHORT_RUNS, Cost
from zobench.estimate.law import ASSUMPTIONS
from zobench.estimate.rates import SHORT


def lines(cost: Cost) -> list[str]:
    """What a cell takes, from its passes to its memory; rough numbers have a ``~``.

    Args:
        cost: of a cell that is not refused.
    """
    assert cost.spending is not None
    spent, mark = cost.spending, "~" if cost.rough else ""
    passes = f"{spent.steps:,} steps, {spent.forwards:,} forward passes"
    told = [passes + (f", {spent.backwards:,} backward passes" if spent.backwards else ""), _source(cost)]
    width = max((len(part.name) for part in cost.parts), default=0)
    for part in cost.parts:
        told.append(f"  {part.name:<{width}}  {_times(part.times):>8} x {part.seconds:>9.4g} s = {part.total:>9.4g} s")
    if cost.seconds is None:
        return [*told, "hours and GiB unknown: the model's size is not known before it is there"]
    cpu = f"; {cost.cpu_seconds / 3600:.3g} CPU-hours" if cost.cpu_seconds is not None else ""
    told.append(f"{mark}{cost.seconds / 3600:.3g} hours ({mark}{duration(cost.seconds)}) on a {_device(cost)}{cpu}")
    if cost.gib is not None:
        shares = ", ".join(f"{name} {gib:.2f}" for name, gib in cost.memory.items())
        told.append(f"{mark}{cost.gib:.2f} GiB" + (f": {shares}" if shares else ""))
    return told + {LAW: [ASSUMPTIONS], SHORT_RUNS: [SHORT]}.get(cost.source, [])


def source(cost: Cost) -> str:
    """Where a cost's numbers come from, in a word or two."""
    return {MEASURED: "measured", LAW: "law"}.get(cost.source, cost.said)


def _source(cost: Cost) -> str:
    return {
        MEASURED: f"measured: {cost.said}",
        RUNS: f"from {cost.said} like it",
        SHORT_RUNS: f"rough, from {cost.said} like it",
        LAW: "rough, by law" + (f": {cost.said}" if cost.said else ""),
    }[cost.source]


def _device(cost: Cost) -> str:
    return "GPU" if cost.gpu else "CPU"


def _times(times: float) -> str:
    return f"{times:,.0f}" if times == int(times) else f"{times:,.1f}"


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(45), duration(720), duration(12345), duration(440000)
    ('45 s', '12 min', '3.4 h', '5.1 days')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.1f} days"
