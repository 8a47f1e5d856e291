"""Ours beside the published numbers, with what differs between the two."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd

from zobench.errors import UserError
from zobench.record.summaries import RESULTS
from zobench.report.compare.comparable import text
from zobench.report.compare.identity import identified
from zobench.report.compare.memory import SHARED, of_the_run_alone
from zobench.report.compare.selection import results
from zobench.report.compare.slices import slices
from zobench.report.frames.runs import Row
from zobench.report.papers.names import cells_of, known_as
from zobench.report.papers.published import published, split_protocol, where
from zobench.report.typeset.table import Table, number

_GB_PER_GIB = 2**30 / 1e9
_GIB = {"GB": _GB_PER_GIB, "GiB": 1.0}
_COLUMNS = (
    "method", "known_as", "model", "task", "tuning", "metric", "unit", "ours", "ours_std", "runs", "published",
    "deviation", "n_seeds", "difference", "where", "source", "via", "differs",
)  # fmt: skip


def beside(frame: pd.DataFrame) -> Table:
    """Set our results beside the published numbers of the same method, model, task and tuning, one row each.

    A model is one of the papers' by its family and size, never by the name of its option alone. Ours is the mean over
    seeds at the learning rate with the best mean dev value, in the published unit: percent, GB or GiB. Every pair has a
    note with all that is known to differ. A run without an equal in the literature is a row with the reason: another
    model, task or tuning is never set beside it.

    Args:
        frame: runs from ``load``.

    Raises:
        Mixed: if runs of one model, task and protocol are not comparable; the message names what differs.
        UserError: if no run is finished.
    """
    lines = [line for cell, runs in cells_of(frame) for line in _lines(cell, runs)]
    if not lines:
        results(frame)  # says which states there are
        raise UserError("every run diverged; there is nothing to set beside the published numbers")
    numbers = pd.DataFrame(lines, columns=list(_COLUMNS))
    differs = list(dict.fromkeys(line["differs"] for line in lines if line["differs"]))
    columns: dict[str, Callable[[Row], str]] = {
        "method": lambda r: r["method"],
        "model": lambda r: r["model"],
        "task": lambda r: r["task"],
        "tuning": lambda r: r["tuning"],
        "metric": lambda r: f"{r['metric']}, {r['unit']}",
        "runs": lambda r: str(r["runs"]),
        "ours": lambda r: _with_deviation(r["ours"], r["ours_std"]),
        "published": lambda r: _with_deviation(r["published"], r["deviation"]),
        "difference": lambda r: number(r["difference"], "+.1f"),
        "where": lambda r: r["where"] + (" (second hand)" if r["source"] == "second hand" else "") or "-",
        "note": lambda r: str(1 + differs.index(r["differs"])) if r["differs"] else "-",
    }
    notes = [
        "difference: ours less published. A difference is of whole set-ups, not of methods: the notes say what differs",
        *identified(frame[frame["state"].isin(RESULTS)])[1],
    ]
    return Table(numbers, columns, [*notes, *(f"({n}) {note}" for n, note in enumerate(differs, start=1))])


def _lines(cell: dict[str, Any], runs: pd.DataFrame) -> Iterator[Row]:
    numbers = published()
    numbers = numbers[numbers["value"].notna()]
    (slice_,) = slices(runs)
    for name, ours in slice_.best.groupby("row", sort=False):
        run: Row = {**ours.iloc[0].to_dict(), "n_seeds": len(ours), "model": cell["paper_model"] or cell["model"]}
        line = {**cell, "method": name, "known_as": known_as(run), "runs": len(ours)}
        metric = run["metric"]
        score = _measured(line, metric, "%", 100 * ours["test_metric"])
        equal = numbers[_equal(numbers, run)]
        scores = equal[equal["metric"].eq(metric) & equal["task"].eq(run["task"]) & equal["unit"].eq("%")]
        if other := _other_data(run) or _other_model(cell) or _own_score(run):
            yield {**score, "differs": other}
            continue
        yield from (_pair(score, theirs, run) for theirs in scores.to_dict("records"))
        if scores.empty:
            yield {**score, "differs": _why_none(numbers, run)}
        memory = equal[equal["metric"].eq("peak_memory") & equal["task"].isin([run["task"], ""])]
        for theirs in memory[memory["unit"].isin(list(_GIB))].to_dict("records"):
            peak = ours["peak_gib"] * _GIB[theirs["unit"]]
            if not ours["memory_measured_by"].map(of_the_run_alone).all():
                yield {**_measured(line, "peak_memory", theirs["unit"], peak), "differs": f"here: {SHARED}"}
                break
            yield _pair(_measured(line, "peak_memory", theirs["unit"], peak), theirs, run)


def _equal(numbers: pd.DataFrame, run: Row) -> "pd.Series[bool]":
    same = numbers["method"].eq(known_as(run)) & numbers["model"].eq(run["model"])
    return same & numbers["tuning"].eq(run["tuning"] if run["trains"] else "")


def _measured(line: Row, metric: str, unit: str, values: "pd.Series[float]") -> Row:
    none = {"where": "", "source": "", "via": ""}
    return {**line, **none, "metric": metric, "unit": unit, "ours": values.mean(), "ours_std": values.std(ddof=1)}


def _pair(measured: Row, theirs: Row, run: Row) -> Row:
    differs = "; ".join(_differing(theirs, run)) or "nothing else is known of the published run's protocol"
    known = {name: theirs[name] for name in ("deviation", "n_seeds", "source", "via")}
    value = theirs["value"]
    known |= {"published": value, "difference": measured["ours"] - value, "where": where(theirs), "differs": differs}
    return {**measured, **known}


def _differing(theirs: Row, run: Row) -> Iterator[str]:
    """Tell the settings that are known on both sides and differ, then what is known of theirs alone."""
    settings, notes = split_protocol(theirs["protocol"])
    settings = {"objective": "loss", **settings}
    if theirs["task"] == "":
        notes.append("task not said")
    if pd.notna(theirs["n_seeds"]):
        settings["n_seeds"] = text(theirs["n_seeds"])
    for key, value in settings.items():
        ours = run.get(key)
        if ours is None or pd.isna(ours):
            notes.append(f"{key}={value}")
        elif not _same(value, ours):
            yield f"{key}: {value} there, {text(ours)} here"
    if notes:
        yield f"there: {', '.join(notes)}"


def _same(value: str, ours: Any) -> bool:
    try:
        return float(value) == float(ours)
    except ValueError:
        return value == text(ours)


def _other_data(run: Row) -> str | None:
    return None if run["data"] in ("hub", "local") else f"data={run['data']} is not the data of the papers"


def _other_model(cell: dict[str, Any]) -> str | None:
    return cell["not_paper"] if cell["not_paper"].startswith("model=") else None


def _own_score(run: Row) -> str | None:
    path = run.get("objective.score")
    return None if pd.isna(path) else f"objective.score={path} is no metric of the papers"


def _why_none(numbers: pd.DataFrame, run: Row) -> str:
    """Say which of method, task, model and tuning has no published number, and what there is instead."""
    left = numbers[numbers["method"].eq(known_as(run)) & numbers["metric"].eq(run["metric"]) & numbers["unit"].eq("%")]
    if left.empty:
        return f"no published {run['metric']} of {known_as(run)}"
    for key in ("task", "model", "tuning"):
        kept = left[left[key].eq(run[key])]
        if kept.empty:
            there = _listed(value for value in left[key] if value)
            return f"no published number of {known_as(run)} for {key} {run[key]}; there are some for {there or 'none'}"
        left = kept
    return f"no published number of {known_as(run)} for these together"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def _with_deviation(value: float, deviation: float) -> str:
    return number(value, ".4g") + ("" if pd.isna(deviation) else f" ± {deviation:.2g}")
