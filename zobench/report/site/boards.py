"""The first page, a page for each workload, and the list of all runs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from zobench.errors import UserError
from zobench.report.papers.cite import cite
from zobench.report.site.cells import Cell, Link, Linked, Links, counted, linked, to
from zobench.report.site.content import Content, EntryFacts, RunFacts, address, anchor
from zobench.report.typeset.table import Table, number
from zobench.report.workloads.comparison import STAGES
from zobench.report.workloads.headline import MEAN, claims, headline, headline_notes, power_table
from zobench.report.workloads.page import PICTURE
from zobench.report.workloads.tables import LEGEND, place_table

HOME, RUNS = "index.html", "runs.html"
_PICTURES = (PICTURE, "profiles")


def home(content: Content) -> dict[str, Any]:
    """What the first page shows."""
    numbers, stages = content.numbers, content.compared.stages
    tables = [_entries(table, content) for stage in stages for table in numbers.over_all(stage)]
    shown = headline(content.found, numbers.overall, stages)
    return {
        "claims": {STAGES[stage]: claims(content.found, numbers.overall, stage) for stage in stages},
        "matrix": _matrix(content),
        "headline": _entries(Table(shown.frame, shown.columns, [*headline_notes(content.found), *shown.notes],
                                   "Differences to MeZO in points", shown.rows), content),
        "tables": [*tables, _workloads(power_table(content.compared))],
        "pictures": [_picture(picture, name) for name, picture in numbers.pictures.items() if name in _PICTURES],
        "checks": counted(run.check.verdict for run in content.runs.values()),
        "bibtex": bibtex(content.compared.runs),
        "left_out": content.left_out,
    }  # fmt: skip


def workload(content: Content, name: str) -> dict[str, Any]:
    """What the page of a workload shows: a board for each ruleset."""
    facts, found = content.workloads[name], content.found
    power = power_table(content.compared)
    rows = [row for row in power.rows or [] if row["workload"] == name]
    return {
        "workload": facts,
        "boards": [
            {"id": anchor(name, stage), "title": STAGES[stage], "rule": content.rulesets.get(stage, ""),
             "table": board(content, found[found["workload"].eq(name) & found["stage"].eq(stage)])}
            for stage in content.compared.stages if name in content.compared.workloads(stage)
        ],
        "power": linked(Table(power.frame, power.columns, power.notes, power.title, rows, power.keys), lambda row: {}),
        "legend": LEGEND,
    }  # fmt: skip


def board(content: Content, lines: pd.DataFrame) -> Linked:
    """The entries of a workload at a stage, each with its runs and what was verified of them."""
    place = (str(lines["workload"].iloc[0]), str(lines["stage"].iloc[0]))
    of_entries = content.compared.of_place(*place)
    table = place_table(lines)
    head = table.cells()[0]

    def of_row(row: list[str]) -> dict[str, Cell]:
        runs = content.of_frame(of_entries[row[0]])
        page = address("entry", row[0])
        below = {"tuning passes": anchor("trials", place[0]), "hours": anchor("trials", place[0])}
        cells = {name: to(cell, f"{page}#{below.get(name, anchor(*place))}")
                 for name, cell in zip(head[1:], row[1:], strict=True)}  # fmt: skip
        return {"entry": Link(row[0], page), **cells, "seeds": seeds(runs), "verdicts": verdicts(runs)}

    notes = [*table.notes, *_submitted([content.entries[name] for name in of_entries])]
    return linked(replace(table, notes=notes), of_row, title="")


def _submitted(entries: Sequence[EntryFacts]) -> list[str]:
    """What is said of the entries of others on a board."""
    submitted = [entry.name for entry in entries if entry.source.said]
    own = [entry.name for entry in entries if entry.source.outside]
    told = [f"submitted by others: {', '.join(submitted)}"] if submitted else []
    code = "code that is not zobench's: counted, and made again only where that code is trusted"
    return [*told, f"{code}: {', '.join(own)}"] if own else told


def seeds(runs: Sequence[RunFacts]) -> Links:
    """A link to each run."""
    return Links([Link(str(run.seed), run.page) for run in runs])


def verdicts(runs: Sequence[RunFacts]) -> str:
    """What was verified of some runs."""
    return counted(run.check.verdict for run in runs)


def runs_page(content: Content) -> dict[str, Any]:
    """What the list of all runs shows."""
    rows = [
        [Link(run.entry, run.page), run.workload, run.stage, run.number, str(run.row["state"]),
         number(run.row.get("test_metric"), ".3f"), number(run.row.get("dev/loss"), ".4f"),
         run.check.verdict]
        for run in content.runs.values()
    ]  # fmt: skip
    head = ["entry", "workload", "stage", "run", "state", "test metric", "dev loss", "verdict"]
    return {"table": Linked(head, rows, keys=4, name="all runs")}


def bibtex(runs: pd.DataFrame) -> str:
    """What to cite for some runs; empty where none is finished."""
    try:
        return cite(runs)
    except UserError:
        return ""


def _matrix(content: Content) -> Linked:
    """Workloads by rulesets: what was run, and where it stands."""
    stages, found = content.compared.stages, content.found

    def cell(name: str, stage: str) -> Cell:
        lines = found[found["workload"].eq(name) & found["stage"].eq(stage)]
        if lines.empty:
            return "-"
        count = int((lines["runs"] + lines["diverged"]).sum())
        return Link(f"{len(lines)} entries, {count} runs", f"{address('workload', name)}#{anchor(name, stage)}")

    names = sorted(set(found["workload"]))
    rows = [[Link(name, address("workload", name)), *(cell(name, stage) for stage in stages)] for name in names]
    return Linked(["workload", *(STAGES[stage] for stage in stages)], rows, name="workloads and rulesets")


def _entries(table: Table, content: Content) -> Linked:
    """A table whose first columns are entries, with links to them."""
    keys = [name for name in ("entry", "method", "less its ablation") if name in table.columns]
    head = table.cells()[0]

    def of_row(row: list[str]) -> dict[str, Cell]:
        own = dict(zip(head, row, strict=True))
        page = address("entry", own[keys[-1]])
        return {name: to(cell, address("entry", cell) if name in keys else page) for name, cell in own.items()}

    return linked(table, of_row)


def _workloads(table: Table) -> Linked:
    return linked(table, lambda row: {} if row[0] == MEAN else {"workload": Link(row[0], address("workload", row[0]))})


def _picture(picture: Any, name: str) -> dict[str, Any]:
    key, svgs = picture.svgs(name)
    return {"title": "", "key": key, "svgs": svgs, "caption": picture.caption, "alt": picture.alt}
