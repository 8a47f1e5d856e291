"""The claims and their verdicts as text for a terminal."""

import math

import pandas as pd

from zobench.report.papers.claims import Claim
from zobench.report.papers.measures import MEASURES
from zobench.report.papers.published import named
from zobench.report.papers.verdicts import NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Evidence, judged, overall

_ADVICE = "after the commands of a claim ($): python -m zobench.report runs --claims"


def claims_sheet(frame: pd.DataFrame) -> str:
    """Write every claim with its source, verdict, the numbers behind it, and the commands that test it.

    Args:
        frame: runs from ``load``; may be empty, and then no claim is tested.
    """
    claims = judged(frame)
    said = [overall(items) for _, items in claims]
    counts = ", ".join(f"{said.count(verdict)} {verdict}" for verdict in (SUPPORTED, NOT_SUPPORTED, NOT_TESTED))
    return "\n\n".join([*(_block(claim, items) for claim, items in claims), f"{len(claims)} claims: {counts}", _ADVICE])


def _block(claim: Claim, items: list[Evidence]) -> str:
    measure = MEASURES[claim.measure]
    sides = f"{claim.method} against {claim.against}"
    lines = [
        f"{claim.name}: {overall(items)}",
        f"  {claim.says}",
        f"  {named(claim.paper)}; {claim.source}",
        f"  decided by {measure.says}, {sides}",
        *(f"  {_evidence(item, measure.unit)}" for item in items),
        *(f"  $ {command}" for command in claim.commands),
    ]
    return "\n".join(lines)


def _evidence(item: Evidence, unit: str) -> str:
    place = "at the paper's settings" if item.at_paper else "at our scale"
    return f"{place} ({item.cell}; {item.rows}): {item.verdict}{_numbers(item, unit)}: {item.why}"


def _numbers(item: Evidence, unit: str) -> str:
    if math.isnan(item.mean):
        return ""
    seeds = f"{item.seeds} seed" + "s" * (item.seeds > 1)
    interval = "" if math.isnan(item.low) else f" [{item.low:+.1f}, {item.high:+.1f}]"
    return f", {item.mean:+.1f} {unit}{interval}, {seeds}"
