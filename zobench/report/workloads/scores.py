"""The scores of all entries: tidy numbers behind the tables, pictures and claims."""

import math

import pandas as pd

from zobench.report.compare.crossed import ENOUGH, Difference
from zobench.report.compare.entries import Comparison
from zobench.report.compare.groups import holm
from zobench.report.compare.stats import ALPHA
from zobench.report.frames.runs import Row
from zobench.report.workloads.comparison import CEILING, ENDS, REFERENCE, TUNED, Compared
from zobench.report.workloads.to_target import arrivals, median

#: the name under which a line speaks of all workloads together
ALL = "all workloads"
_NAMES = ("delta", "own_delta")
_ENDS = ("", "_low", "_high", "_p", "_seeds")
_RANKS = {"rank": "rank", "best": "rank_low", "worst": "rank_high", "groups": "group"}


def scores(compared: Compared) -> pd.DataFrame:
    """Score every entry: a line for each stage, workload and entry.

    Columns: ``runs`` and ``diverged``; ``test_metric`` with ``_std``, ``test/loss``; ``normalised`` (0 is the
    calibrated untrained model, 1 the ceiling); ``delta`` to the reference, with interval, p value, ``delta_seeds`` that
    both have, and ``delta_p_holm``, the p value for all entries of the place; ``own_delta``: the method that an
    ablation is of, less the ablation, and ``own_same``: whether both are the same runs, as trials of the method chose
    the ablation's setting;
    ``rank`` with ``_low`` and ``_high``, and ``group``; ``forwards``, ``seconds``; ``target_runs`` that reached the
    target, the median ``target_forwards`` and ``target_seconds``; and what tuning took: ``trials``,
    ``trial_forwards``, ``trial_hours``. Seconds are in units of one forward pass of the reference.
    """
    lines: list[Row] = []
    for workload, stage in compared.places:
        entries, ends = compared.entries(workload, stage), compared.ends(workload, stage)
        told = _claims(entries, compared)
        of_entries = compared.of_place(workload, stage)
        for entry, runs in of_entries.items():
            line: Row = {"stage": stage, "workload": workload, "entry": entry, "of": compared.of.get(entry)}
            own = of_entries.get(line["of"], runs.iloc[:0])
            line["own_same"] = set(own["directory"]) == set(runs["directory"])
            line |= _results(compared, workload, runs)
            line |= told.get(entry) or _told("delta", _versus(ends, entry, REFERENCE))
            lines.append(line | _to_target(compared, workload, runs) | _tuning(compared, workload, stage, entry))
    return _frame(lines)


def together(compared: Compared, found: pd.DataFrame) -> pd.DataFrame:
    """Set the entries against one another over all workloads of a stage: a line for each stage and entry.

    Columns as of ``scores``: the mean ``normalised`` score; ``delta``, ``own_delta``, ``rank`` and ``group`` for the
    entries that were scored on every workload of the stage; ``diverged`` runs.

    Args:
        found: of ``scores``.
    """
    lines: list[Row] = []
    for stage, of_stage in found.groupby("stage", sort=False):
        told = _claims(compared.together(str(stage)), compared)
        ends = compared.together(str(stage), ends=True)
        count = of_stage["workload"].nunique()
        for entry, own in of_stage.groupby("entry"):
            whole = len(own) == count and own["runs"].gt(0).all()
            lines.append({
                "stage": stage, "workload": ALL, "entry": entry, "of": compared.of.get(str(entry)),
                "workloads": len(own), "own_same": bool(own["own_same"].all()), "diverged": int(own["diverged"].sum()),
                "normalised": own["normalised"].mean() if whole else math.nan,
                **(told.get(str(entry)) or _told("delta", _versus(ends, str(entry), REFERENCE))),
            })  # fmt: skip
    return _frame(lines)


def _frame(lines: list[Row]) -> pd.DataFrame:
    """Lines with all columns of claims, also where nothing could be compared."""
    told = [name + end for name in _NAMES for end in _ENDS]
    frame = pd.DataFrame(lines)
    return frame.reindex(columns=list(dict.fromkeys([*frame, *told, "delta_p_holm", *_RANKS.values()])))


def _claims(entries: Comparison, compared: Compared) -> dict[str, Row]:
    """What pairwise tests say of each entry."""
    names = [name for name in entries.names if not math.isnan(entries.mean(name))]
    found = {name: _versus(entries, name, REFERENCE) for name in names}
    tested = [name for name, each in found.items() if each is not None]
    adjusted = dict(zip(tested, holm([found[name].p for name in tested]), strict=True))  # type: ignore[union-attr]
    ranked = entries.ranks().rename(columns=_RANKS)[[*_RANKS.values()]].to_dict("index") if len(names) > 1 else {}
    return {
        name: {**_told("delta", found[name]), "delta_p_holm": adjusted.get(name, math.nan), **ranked.get(name, {}),
               **_told("own_delta", _versus(entries, compared.of.get(name, ""), name))}
        for name in names
    }  # fmt: skip


def _versus(entries: Comparison, one: str, other: str) -> Difference | None:
    return entries.versus(one, other) if one != other and {one, other} <= set(entries.names) else None


def _told(name: str, found: Difference | None) -> Row:
    values = (math.nan,) * 5 if found is None else (found.mean, found.low, found.high, found.p, found.seeds)
    return {name + end: value for end, value in zip(_ENDS, values, strict=True)}


def _results(compared: Compared, workload: str, runs: pd.DataFrame) -> Row:
    done = runs[runs["state"].eq("finished")]
    low, high = scale(compared, workload)
    return {
        "runs": len(done), "diverged": int(runs["state"].eq("diverged").sum()), "metric": runs["metric"].iloc[0],
        "test_metric": done["test_metric"].mean(), "test_metric_std": done["test_metric"].std(),
        "test/loss": done["test/loss"].mean(),
        "normalised": (done["test_metric"].mean() - low) / (high - low) if high > low else math.nan,
        "forwards": done["forwards"].mean(), "backwards": done["backwards"].mean(),
        "seconds": compared.forwards_in_time(workload, done).mean(),
    }  # fmt: skip


def scale(compared: Compared, workload: str) -> tuple[float, float]:
    """The ends of a workload's scale: the calibrated untrained model's test metric, and the ceiling's.

    The ceiling is the same for all stages: that at equal forward passes, where it was run; NaN without one.
    """
    runs = compared.runs[compared.runs["workload"].eq(workload)]
    name = f"zero_shot/test/{runs['metric'].iloc[0]}"
    calibrated = runs.get(f"{name}_calibrated", runs[name])
    reached = runs[runs["entry"].eq(CEILING)].groupby("stage")["test_metric"].mean()
    tops = [reached[stage] for stage in compared.stages if stage in reached]
    return float(calibrated.fillna(runs[name]).mean()), float(tops[0]) if tops else math.nan


def _to_target(compared: Compared, workload: str, runs: pd.DataFrame) -> Row:
    if workload not in compared.targets or not runs["trains"].any():
        return {"target_runs": math.nan, "target_forwards": math.nan, "target_seconds": math.nan}
    found = arrivals(runs, compared.targets[workload].dev_loss, compared.forwards_in_time(workload, runs))
    return {"target_runs": sum(each["forwards"] < math.inf for each in found),
            "target_forwards": median([each["forwards"] for each in found]),
            "target_seconds": median([each["seconds"] for each in found])}  # fmt: skip


def _tuning(compared: Compared, workload: str, stage: str, entry: str) -> Row:
    """What the trials of an entry took, the diverged with them; nothing where settings are not chosen by trials."""
    own = compared.trials.reindex(columns=["workload", "entry", "forwards", "backwards", "cpu_hours"])
    own = own[own["workload"].eq(workload) & own["entry"].eq(entry) & (stage in TUNED)]
    passes = own["forwards"].sum() + 2 * own["backwards"].sum()
    return {"trials": len(own), "trial_forwards": passes, "trial_hours": own["cpu_hours"].sum()}


def beats(line: Row) -> bool:
    """Whether an entry is above the reference beyond doubt: by a p value that allows for all entries, and seeds."""
    return line["delta"] > 0 and _sure(line)


def below(line: Row) -> bool:
    """Whether an entry is below the reference beyond doubt, or diverged."""
    return bool(line["diverged"]) or (line["delta"] < 0 and _sure(line))


def _sure(line: Row) -> bool:
    return line["delta_p_holm"] < ALPHA and line["delta_seeds"] >= ENOUGH


def costs(found: pd.DataFrame, stage: str, name: str) -> pd.DataFrame:
    """The cost up to the target at a stage, for performance profiles: a row a workload, a column an entry.

    Args:
        found: of ``scores``.
        stage: of ``STAGES``.
        name: ``target_forwards`` or ``target_seconds``.
    """
    lines = found[found["stage"].eq(stage) & ~found["entry"].isin(ENDS) & found[name].notna()]
    return lines.pivot(index="workload", columns="entry", values=name)
