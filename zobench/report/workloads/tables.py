"""The tables of a comparison."""

import math
import re
from collections.abc import Callable, Mapping

import pandas as pd

from zobench.report.frames.runs import Row
from zobench.report.typeset.table import Bold, Table, number
from zobench.report.workloads.comparison import CEILING, ENDS, REFERENCE, STAGES, TUNED
from zobench.report.workloads.scores import beats

#: what the columns mean, below the first table
LEGEND = (
    f"Δ: less {REFERENCE}, with its 95 % interval for other seeds, draws of training rows and test rows; bold: above "
    f"{REFERENCE} beyond doubt (p below 0.05, allowing for all entries by Holm's rule)",
    f"scale: 0 is the untrained model with its bias to an option taken away, 1 is {CEILING} at equal forward passes",
    f"to target: until the dev loss is what {REFERENCE} reaches in the end (median over seeds), read at dev "
    "evaluations; median over seeds, in brackets how many got there; a backward pass counts as two forward passes",
    f"time and seconds: CPU seconds of training in units of one forward pass of {REFERENCE}; what dev evaluations took "
    "evens out machines",
    "tuning: forward passes (a backward pass counts as two) and CPU hours of the trials that chose the setting",
    "group: entries that share a letter cannot be told apart",
)


def place_table(lines: pd.DataFrame) -> Table:
    """The entries of one workload at one stage, the best first.

    Args:
        lines: of ``scores``, of one stage and workload.
    """
    one = lines.iloc[0]
    frame = lines.sort_values("test_metric", ascending=False, kind="stable")
    columns: dict[str, Callable[[Row], str]] = {
        "entry": lambda r: r["entry"],
        f"test {one['metric']}": result,
        f"Δ to {REFERENCE}": lambda r: Bold(delta(r)) if r["entry"] not in ENDS and beats(r) else delta(r),
        "scale": lambda r: number(r["normalised"], ".2f"),
        "rank": rank,
        "group": group,
        "time": lambda r: number(r["seconds"], ",.0f"),
        "passes to target": lambda r: to_target(r, "target_forwards"),
        "seconds to target": lambda r: to_target(r, "target_seconds"),
    }
    if one["stage"] in TUNED:
        columns |= {"tuning passes": lambda r: number(r["trial_forwards"] or math.nan, ",.0f"),
                    "hours": lambda r: number(r["trial_hours"] or math.nan, ".3f")}  # fmt: skip
    return Table(frame, columns, [], f"{one['workload']}: {STAGES[one['stage']]}")


def overall_table(lines: pd.DataFrame, profile: Mapping[str, "pd.Series[float]"]) -> Table:
    """The entries of one stage over all workloads, the best first.

    Args:
        lines: of ``together``, of one stage.
        profile: cost -> the areas below the entries' profiles.
    """
    one = lines.iloc[0]
    frame = lines.sort_values("normalised", ascending=False, kind="stable")
    frame = frame.assign(**{f"profile_{name}": frame["entry"].map(areas) for name, areas in profile.items()})
    columns: dict[str, Callable[[Row], str]] = {
        "entry": lambda r: r["entry"],
        "scale": lambda r: number(r["normalised"], ".2f"),
        f"Δ to {REFERENCE}": lambda r: Bold(delta(r)) if r["entry"] not in ENDS and beats(r) else delta(r),
        "rank": rank,
        "group": group,
        **{f"profile, {name}": lambda r, name=name: number(r[f"profile_{name}"], ".2f") for name in profile},  # type: ignore[misc]
    }
    return Table(frame, columns, [], f"All workloads: {STAGES[one['stage']]}")


def own_delta(row: Row) -> str:
    """Write what a method is above its ablation; ``same runs`` where its trials chose the ablation's setting."""
    return "same runs" if row["own_same"] else delta(row, "own_delta")


def ablations_table(found: pd.DataFrame, overall: pd.DataFrame, stage: str) -> Table:
    """Each method less its own ablation, over all workloads of a stage and on each.

    Args:
        found: of ``scores``.
        overall: of ``together``.
        stage: of ``STAGES``.
    """
    lines = pd.concat([overall, found] if found["workload"].nunique() > 1 else [found])
    own = lines[lines["stage"].eq(stage) & lines["own_delta"].notna()]
    cells = {(line["entry"], line["workload"]): own_delta(line) for line in own.to_dict("records")}
    rows = own.drop_duplicates("entry").sort_values(["of", "entry"]).to_dict("records")
    columns: dict[str, Callable[[Row], str]] = {"method": lambda r: r["of"], "less its ablation": lambda r: r["entry"]}
    for workload in dict.fromkeys(own["workload"]):
        columns[workload] = lambda r, workload=workload: cells.get((r["entry"], workload), "-")  # type: ignore[misc]
    return Table(own, columns, [], f"Methods less their own ablations: {STAGES[stage]}", rows, keys=2)


def delta(row: Row, name: str = "delta") -> str:
    """Write a difference and its interval in points: ``+1.2 [-0.3, +2.7]``; a dash where there is none.

    >>> delta({"delta": 0.0123, "delta_low": -0.003, "delta_high": 0.027})
    '+1.2 [-0.3, +2.7]'
    """
    if pd.isna(row[name]):
        return "-"
    if pd.isna(row[f"{name}_low"]):
        return f"{100 * row[name]:+.1f}"
    return f"{100 * row[name]:+.1f} [{100 * row[f'{name}_low']:+.1f}, {100 * row[f'{name}_high']:+.1f}]"


def rank(row: Row) -> str:
    """Write a rank and its interval: ``3 [1, 9]``.

    >>> rank({"rank": 3.0, "rank_low": 1.0, "rank_high": 9.0})
    '3 [1, 9]'
    """
    return "-" if pd.isna(row["rank"]) else f"{row['rank']:.3g} [{row['rank_low']:.3g}, {row['rank_high']:.3g}]"


def result(row: Row) -> str:
    """Write the mean test metric and its standard deviation over seeds, and how many seeds diverged."""
    diverged = f"{row['diverged']} diverged"
    if not row["runs"]:
        return diverged
    spread = "" if pd.isna(row["test_metric_std"]) else f" ± {row['test_metric_std']:.3f}"
    return f"{row['test_metric']:.3f}{spread}" + f" ({diverged})" * bool(row["diverged"])


def to_target(row: Row, name: str) -> str:
    """Write a cost up to the target: ``1,200 (4 of 5)``, or ``never``."""
    if pd.isna(row[name]):
        return "-"
    got, of = int(row["target_runs"]), int(row["runs"] + row["diverged"])
    reached = f"{row[name]:,.0f}" if row[name] < math.inf else "never"
    return reached + f" ({got} of {of})" * (0 < got < of)


def group(row: Row) -> str:
    """Write the letters of the groups that an entry is in, three in a row and more as a span: ``a, c-f``.

    >>> group({"group": "acdef"}), group({"group": "ab"})
    ('a, c-f', 'a, b')
    """
    if not isinstance(row["group"], str):
        return "-"
    spans: list[list[str]] = []
    for letter in re.findall(r"[a-z]", row["group"]):
        if spans and ord(letter) == ord(spans[-1][-1]) + 1:
            spans[-1].append(letter)
        else:
            spans.append([letter])
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 2 else ", ".join(span) for span in spans)
