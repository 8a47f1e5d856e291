"""Verdicts on the claims, from the runs that there are."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pandas as pd

from zobench.report.compare.comparable import Mixed
from zobench.report.compare.slices import slices
from zobench.report.papers.claims import Claim, registry
from zobench.report.papers.measures import MEASURES, Measure, pairs
from zobench.report.papers.names import cells_of

Cell = tuple[dict[str, Any], pd.DataFrame]
SUPPORTED, NOT_SUPPORTED, NOT_TESTED = "supported", "not supported", "not tested"
_LEVEL = 0.95
_ENOUGH = 0.9  # the share of a claimed size at which the claim holds


@dataclass(frozen=True)
class Evidence:
    """What the runs of one model, task, tuning and protocol say about a claim.

    Args:
        cell: the model, task, tuning and further settings, in words.
        at_paper: whether these are the paper's settings. If not, the verdict decides nothing and is shown as "at our
            scale".
        rows: the two rows that were compared.
        seeds: how many pairs of runs there are.
        verdict, why: of this cell.
        mean, low, high: the mean over the pairs and its interval, in the unit of the claim's measure.
        values: of the measure, one a pair.
    """

    cell: str
    at_paper: bool
    rows: str
    seeds: int
    verdict: str
    why: str
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    values: tuple[float, ...] = ()


def verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """Judge the papers' claims by the runs that there are.

    Args:
        frame: runs from ``load``; may be empty.

    Returns:
        One row for each claim and cell that has runs of both sides, and one for a claim without runs: claim, measure
        and claimed size, ``claim_verdict`` (from the cells at the paper's settings alone), and the fields of
        ``Evidence`` for the cell.
    """
    rows = []
    for claim, items in judged(frame):
        known = {
            "claim": claim.name,
            "measure": claim.measure,
            "claimed": claim.claimed,
            "claim_verdict": overall(items),
        }
        rows += [{**known, **asdict(item)} for item in items] or [known]
    columns = ["claim", "measure", "claimed", "claim_verdict", *(field.name for field in fields(Evidence))]
    return pd.DataFrame(rows, columns=columns)


def judged(frame: pd.DataFrame) -> list[tuple[Claim, list[Evidence]]]:
    """List every claim with its ``evidence``."""
    cells = list(cells_of(frame))
    return [(claim, evidence(claim, cells)) for claim in registry()]


def overall(items: list[Evidence]) -> str:
    """Judge a claim: supported if a cell at the paper's settings supports it, else not supported if one was tested."""
    said = {item.verdict for item in items if item.at_paper}
    return next((verdict for verdict in (SUPPORTED, NOT_SUPPORTED) if verdict in said), NOT_TESTED)


def evidence(claim: Claim, cells: list[Cell]) -> list[Evidence]:
    """Judge a claim in each cell that has runs of both sides, those at the paper's settings first.

    Several cells at the paper's settings are several chances to support the claim, so each must do so with more
    certainty: its interval is at 1 - 0.05 / n.

    Args:
        cells: from ``cells_of``.
    """
    items = [item for cell, runs in cells for item in _of_cell(claim, cell, runs)]
    n = sum(bool(item.at_paper and item.values) for item in items)
    judged = [_judge(item, claim, 1 - (1 - _LEVEL) / (n if item.at_paper and n else 1)) for item in items]
    return sorted(judged, key=lambda item: not item.at_paper)


def _of_cell(claim: Claim, cell: dict[str, Any], runs: pd.DataFrame) -> Iterator[Evidence]:
    two = runs[runs["known_as"].isin([claim.method, claim.against])]
    if two["known_as"].nunique() < 2:
        return
    seen = Evidence(
        cell=", ".join(str(cell[name]) for name in ("model", "task", "tuning", "protocol", "data", "dtype")),
        at_paper=claim.is_of(cell), rows=f"{claim.method} and {claim.against}", seeds=0, verdict=NOT_TESTED, why="",
    )  # fmt: skip
    try:
        (slice_,) = slices(two)
    except Mixed as error:
        yield replace(seen, why=str(error))
        return
    best = slice_.best
    sides = [best[best["known_as"].eq(name)].groupby("row", sort=False) for name in (claim.method, claim.against)]
    if not all(len(side) for side in sides):
        yield replace(seen, why="all runs of one side diverged")
    for row, ours in sides[0]:
        for other, theirs in sides[1]:
            values = [MEASURES[claim.measure].of(pair) for pair in pairs(ours, theirs)]
            values = [value for value in values if not math.isnan(value)]
            yield replace(seen, rows=f"{row} and {other}", seeds=len(values), values=tuple(values))


def _judge(item: Evidence, claim: Claim, level: float) -> Evidence:
    measure = MEASURES[claim.measure]
    if item.why:
        return item
    if len(item.values) < measure.seeds:
        return replace(item, why=f"pairs of runs with the same seeds: {len(item.values)} of {measure.seeds} needed")
    if never := sum(map(math.isinf, item.values)):
        why = f"in {never} of {len(item.values)} pairs the level was never reached"
        return replace(item, verdict=NOT_SUPPORTED, why=why)
    mean, low, high = _interval(item.values, level)
    verdict, why = _verdict(claim, measure, low, high)
    return replace(item, verdict=verdict, why=why, mean=mean, low=low, high=high)


def _interval(values: tuple[float, ...], level: float) -> tuple[float, float, float]:
    """Compute the mean, and Student's interval for it; a single value is its own."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, mean, mean
    from scipy.special import stdtrit  # the quantile of Student's t; scipy.stats takes seconds to import

    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * pd.Series(values).sem()
    return mean, mean - half, mean + half


def _verdict(claim: Claim, measure: Measure, low: float, high: float) -> tuple[str, str]:
    """Judge an interval: the verdict, and the reason in words."""
    if claim.margin is not None:
        inside = -claim.margin <= low and high <= claim.margin
        how = "within" if inside else "not within"
        return SUPPORTED if inside else NOT_SUPPORTED, f"{how} ± {claim.margin:g} {measure.unit}"
    least, most = (low, high) if measure.better > 0 else (-high, -low)  # the gain
    enough = _ENOUGH * abs(claim.claimed or 0)
    if least > 0 and most >= enough:
        return SUPPORTED, "a gain" + (" of the claimed size" if claim.claimed else "")
    if least > 0:
        return NOT_SUPPORTED, "a gain, but smaller than claimed"
    if most < enough:
        return NOT_SUPPORTED, "a gain of the claimed size is ruled out"
    return NOT_SUPPORTED, "undecided: neither no gain nor the claimed one is ruled out; more seeds may tell"
