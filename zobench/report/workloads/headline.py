"""What a comparison says in short: which entries beat the reference beyond doubt, and which cannot be told from it."""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from zobench.report.compare.crossed import Components, Difference, mean_of, power_to_see
from zobench.report.frames.runs import Row
from zobench.report.typeset.table import Bold, Table, number
from zobench.report.workloads.comparison import CEILING, ENDS, REFERENCE, STAGES, Compared
from zobench.report.workloads.scores import beats, below
from zobench.report.workloads.tables import delta, own_delta

#: the difference that the statement of power speaks of, and the chance that is wanted to see it
POINTS, WANTED = 0.02, 0.8

#: stands for the name of a workload where the mean of all is told of
MEAN = "their mean"
_LACKING = f"not compared, as a workload, seeds or {REFERENCE} are lacking"


def headline(found: pd.DataFrame, overall: pd.DataFrame, stages: Sequence[str]) -> Table:
    """Set the entries that are not below the reference at every stage beside it: a line an entry, a column a stage.

    Args:
        found: of ``scores``.
        overall: of ``together``.
        stages: of ``STAGES``, those that are shown; one at least.
    """
    lines = _lines(found, overall)
    lines = lines[lines["stage"].isin(stages)]
    cells = {(line["entry"], line["stage"]): line for line in lines.to_dict("records")}
    places = lines["delta"].mask(lines["entry"].eq(REFERENCE), 0.0)
    first = lines.assign(place=places)[lines["stage"].eq(stages[0])]
    first = first.sort_values("place", ascending=False, kind="stable")
    order = list(dict.fromkeys([*first["entry"], *lines["entry"]]))
    kept = [entry for entry in order if entry in (REFERENCE, CEILING) or not all(
        below(cells[entry, stage]) for stage in stages if (entry, stage) in cells)]  # fmt: skip

    def cell(entry: str, stage: str) -> str:
        line = cells.get((entry, stage))
        return "-" if line is None else Bold(delta(line)) if entry not in ENDS and beats(line) else delta(line)

    hours = found[found["stage"].eq("tuned")].groupby("entry")["trial_hours"].sum()
    columns: dict[str, Callable[[Row], str]] = {
        "entry": lambda r: r["entry"],
        "scale": lambda r: number(cells.get((r["entry"], stages[0]), {}).get("normalised"), ".2f"),
        **{STAGES[stage]: lambda r, stage=stage: cell(r["entry"], stage) for stage in stages},  # type: ignore[misc]
        "CPU hours of tuning": lambda r: number(hours.get(r["entry"]) or None, ".3f"),
    }
    left = [entry for entry in order if entry not in (*kept, "zeroshot")]
    notes = [f"below {REFERENCE} beyond doubt in every column, {len(left)}: {', '.join(left)}"] if left else []
    return Table(lines, columns, notes, rows=[{"entry": entry, "row": entry} for entry in kept])


def claims(found: pd.DataFrame, overall: pd.DataFrame, stage: str, most: float = math.inf) -> list[str]:
    """Say of each entry which of three things holds at a stage: above the reference, below, or not told apart.

    Args:
        found: of ``scores``.
        overall: of ``together``.
        stage: of ``STAGES``.
        most: entries that are named where they are not told apart or below; of more there is the count.

    Returns:
        Sentences, of all workloads together where there are several.
    """
    lines, single = _of(_lines(found, overall), stage), _of(found, stage)
    said = [
        f"above {REFERENCE} beyond doubt: " + _with_delta(filter(beats, lines)),
        f"above it on single workloads alone: {_alone(single, lines)}",
        f"not told from {REFERENCE}: " + _counted(filter(_untold, lines), most),
        f"below {REFERENCE} beyond doubt, or diverged: " + _counted(filter(below, lines), most),
        f"not above an ablation of theirs: {_no_better(lines)}",
        f"{_LACKING}: " + _counted(filter(_missing, lines), most),
    ]
    return [each for each in said if not (each.endswith(": none") and each.startswith((_LACKING, "above it on")))]


def headline_notes(found: pd.DataFrame) -> list[str]:
    """Say what the claims rest on: workloads, also of stages that have not all of them, entries, seeds and trials."""
    scored = found[~found["entry"].isin(ENDS)]
    tried = scored[scored["trials"].gt(0)]
    trials = f", {_range(tried['trials'])} trials each" if len(tried) else ""
    workloads = sorted(set(found["workload"]))
    of_stages = {STAGES[str(stage)]: sorted(set(of["workload"])) for stage, of in found.groupby("stage", sort=False)}
    partial = [f"{stage}: of {', '.join(own)} alone" for stage, own in of_stages.items() if own != workloads]
    count = scored["entry"].nunique()
    entries = f"{count} {'entry' if count == 1 else 'entries'}"
    return [
        f"{len(workloads)} workload{'s' * (len(workloads) > 1)} ({', '.join(workloads)}), "
        f"{entries}{trials}, {_range(scored['runs'] + scored['diverged'])} scored seeds, which no trial saw, each with "
        "training rows of its own",
        f"points of test metric above {REFERENCE}, mean of the workloads, with 95 % intervals for other seeds, "
        "training rows and test rows; beyond doubt (bold): p below 0.05, allowing for all entries by Holm's rule",
        f"scale: 0 is the untrained model with its bias to an option taken away, 1 is {CEILING}",
        *partial,
    ]


def power_table(compared: Compared) -> Table:
    """What each workload could show: the power for two points at the spread seen, and the seeds that it would take."""
    rows: list[Row] = []
    together: dict[str, list[tuple[float, Difference]]] = {}
    for workload, stage in compared.places:
        entries = compared.entries(workload, stage)
        tables = list(entries.scores.values())
        if entries.components is None:
            continue
        seeds, examples = max(len(each) for each in tables), min(each.shape[1] for each in tables)
        spread: Components = entries.components
        power = spread.power(POINTS, seeds, examples)
        needed = spread.seeds_needed(POINTS, examples)
        rows.append({"workload": workload, "stage": stage, "seeds": seeds, "examples": examples,
                     "power": power, "needed": needed})  # fmt: skip
        if seeds > 1:
            together.setdefault(stage, []).append((1.0, spread.anticipated(seeds, examples)))
    for stage, parts in together.items():
        if len(parts) > 1:
            both = mean_of(parts)
            rows.append({"workload": MEAN, "stage": stage, "seeds": both.seeds, "examples": both.examples,
                         "power": power_to_see(POINTS, both), "needed": math.nan})  # fmt: skip
    columns: dict[str, Callable[[Row], str]] = {
        "workload": lambda r: r["workload"],
        "at": lambda r: STAGES[r["stage"]],
        "seeds": lambda r: str(r["seeds"]),
        "test examples": lambda r: f"{r['examples']:,}",
        f"power for {100 * POINTS:.0f} points": lambda r: number(r["power"], ".2f"),
        f"seeds for {100 * WANTED:.0f} %": lambda r: number(r["needed"], ",.0f"),
    }
    notes = [f"power: the chance that one test (p below 0.05) shows a true difference of {100 * POINTS:.0f} points "
             "between two entries, at the spread over seeds and examples that is seen here; of many entries, that of "
             "the better half"]  # fmt: skip
    return Table(pd.DataFrame(rows), columns, notes, "What could be seen", rows, keys=2)


def _lines(found: pd.DataFrame, overall: pd.DataFrame) -> pd.DataFrame:
    """What the claims are read from: all workloads together, where there are several."""
    return overall if found["workload"].nunique() > 1 else found


def _of(lines: pd.DataFrame, stage: str) -> list[Row]:
    """The lines of a stage without the ends and the reference, the best first."""
    kept = lines[lines["stage"].eq(stage) & ~lines["entry"].isin([*ENDS, REFERENCE])]
    return kept.sort_values("delta", ascending=False, kind="stable").to_dict("records")


def _missing(line: Row) -> bool:
    return not line["diverged"] and pd.isna(line["delta"])


def _untold(line: Row) -> bool:
    return not (beats(line) or below(line) or _missing(line))


def _alone(single: Sequence[Row], lines: Sequence[Row]) -> str:
    """The entries that beat the reference on some workload, and not over all."""
    over_all = {line["entry"] for line in filter(beats, lines)}
    where: dict[str, list[str]] = {}
    for line in filter(beats, single):
        if line["entry"] not in over_all:
            where.setdefault(line["entry"], []).append(line["workload"])
    return ", ".join(f"{entry} ({', '.join(sorted(of))})" for entry, of in where.items()) or "none"


def _no_better(lines: Sequence[Row]) -> str:
    """The methods whose own ablation they do not beat, each with it and the difference."""
    told = [line for line in lines if pd.notna(line["own_delta"]) and not line["own_delta_low"] > 0]
    return ", ".join(f"{line['of']} (less {line['entry']}: {own_delta(line)})" for line in told) or "none"


def _with_delta(lines: "filter[Row] | Sequence[Row]") -> str:
    return ", ".join(f"{line['entry']} {delta(line)}" for line in lines) or "none"


def _counted(lines: "filter[Row]", most: float) -> str:
    names = [str(line["entry"]) for line in lines]
    if len(names) > most:
        return f"{len(names)} entries"
    return f"{len(names)}: {', '.join(names)}" if names else "none"


def _range(values: "pd.Series[int]") -> str:
    """The one value of all, or the least and the most.

    >>> _range(pd.Series([6, 6])), _range(pd.Series([3, 5]))
    ('6', '3 to 5')
    """
    least, most = values.min(), values.max()
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"
