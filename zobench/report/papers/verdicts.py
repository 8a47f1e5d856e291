"""Verdicts on the claims, from the runs that there are."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pandas as pd

from zobench.report.compare.comparable import Mixed
from zobench.report.compare.slices import slices
from zobench.report.compare.stats import interval
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
        mean, low, high: the mean over the pairs and its interval, in the unit of the claim's measure; the interval is
            NaN where no spread is seen.
        values: of the measure, one a pair.
        resolution: the step in which they move; 0 where it is not known.
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
    resolution: float = 0.0


def verdicts(frame: pd.DataFrame, claims: Sequence[Claim] | None = None) -> pd.DataFrame:
    """Judge the papers' claims by the runs that there are.

    Args:
        frame: runs from ``load``; may be empty.
        claims: those that are judged; all unless given.

    Returns:
        One row for each claim and cell that has runs of both sides, and one for a claim without runs: claim, measure
        and claimed size, ``claim_verdict`` (from the cells at the paper's settings alone), and the fields of
        ``Evidence`` for the cell.
    """
    rows = []
    for claim, items in judged(frame, claims):
        known = {
            "claim": claim.name,
            "measure": claim.measure,
            "claimed": claim.claimed,
            "claim_verdict": overall(items),
        }
        rows += [{**known, **asdict(item)} for item in items] or [known]
    columns = ["claim", "measure", "claimed", "claim_verdict", *(field.name for field in fields(Evidence))]
    return pd.DataFrame(rows, columns=columns)


def judged(frame: pd.DataFrame, claims: Sequence[Claim] | None = None) -> list[tuple[Claim, list[Evidence]]]:
    """List claims with their ``evidence``; every one unless some are given."""
    cells = list(cells_of(frame))
    return [(claim, evidence(claim, cells)) for claim in (registry() if claims is None else claims)]


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
    measure = MEASURES[claim.measure]
    two = runs[runs["known_as"].isin([claim.method, claim.against])]
    if two["known_as"].nunique() < 2 - measure.alone:
        return
    named = {name: str(cell[name]) for name in ("model", "task", "tuning", "protocol", "data", "dtype")}
    if cell["not_paper"].startswith("model="):
        named["model"] += f" ({cell['not_paper']})"
    elif cell["paper_model"] and cell["paper_model"] != cell["model"]:
        named["model"] += f" (by family and size {cell['paper_model']})"
    if cell["objective"] != "loss":
        named["objective"] = f"objective={cell['objective']}"
    seen = Evidence(
        cell=", ".join(named.values()),
        at_paper=claim.is_of(cell), rows=f"{claim.method} and {claim.against}", seeds=0, verdict=NOT_TESTED, why="",
    )  # fmt: skip
    try:
        (slice_,) = slices(two)
    except Mixed as error:
        yield replace(seen, why=str(error))
        return
    if claim.metric and slice_.metric != claim.metric:
        yield replace(seen, why=f"these runs are measured by {slice_.metric}, the claim is of {claim.metric}")
        return
    names = (claim.method, claim.method if measure.alone else claim.against)
    sides = [list(slice_.best[slice_.best["known_as"].eq(name)].groupby("row", sort=False)) for name in names]
    if not all(sides):
        yield replace(seen, why="all runs of one side diverged")
    for row, ours in sides[0]:
        for other, theirs in [(claim.against, ours)] if measure.alone else sides[1]:
            measured = [(measure.of(pair), measure.resolution(pair)) for pair in pairs(ours, theirs)]
            told = [(value, step) for value, step in measured if not math.isnan(value)]
            why = ""
            if len(told) < min(measure.seeds, len(measured)):
                why = f"pairs that tell: {len(told)} of {measure.seeds} needed; a pair needs {measure.needs}"
            yield replace(
                seen, rows=f"{row} and {other}", seeds=len(told), values=tuple(value for value, _ in told), why=why,
                resolution=max((step for _, step in told if not math.isnan(step)), default=0.0),
            )  # fmt: skip


def _judge(item: Evidence, claim: Claim, level: float) -> Evidence:
    measure = MEASURES[claim.measure]
    if item.why:
        return item
    if len(item.values) < measure.seeds:
        return replace(item, why=f"pairs of runs with the same seeds: {len(item.values)} of {measure.seeds} needed")
    if never := sum(map(math.isinf, item.values)):
        why = f"in {never} of {len(item.values)} pairs the level was never reached"
        return replace(item, verdict=NOT_SUPPORTED, why=why)
    found = interval(item.values, item.resolution, level)
    low, high = found.low, found.high
    if alone := math.isnan(low):  # one value, or equal ones of a quantity without a known step
        if measure.seeds > 1:
            why = "undecided: no spread seen, and the step in which the values move is not known"
            return replace(item, verdict=NOT_SUPPORTED, why=why, mean=found.mean)
        low = high = found.mean
    verdict, why = _verdict(claim, measure, low, high, ruled_out=not found.unseen and not alone)
    why += "; no spread seen: judged by the value alone" * alone
    if found.unseen and not alone:
        why += f"; no spread seen: taken to be one step of the measure, {item.resolution:.2g} {measure.unit}"
    return replace(item, verdict=verdict, why=why, mean=found.mean, low=found.low, high=found.high)


def _verdict(claim: Claim, measure: Measure, low: float, high: float, ruled_out: bool) -> tuple[str, str]:
    """Judge an interval: the verdict, and the reason in words.

    Args:
        ruled_out: whether the interval comes from a spread that was seen, and so may rule anything out.
    """
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
        return NOT_SUPPORTED, "a gain of the claimed size is " + ("ruled out" if ruled_out else "not seen")
    return NOT_SUPPORTED, "undecided: no gain and the claimed one are both in the interval; more seeds may tell"
