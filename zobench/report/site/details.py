"""The page of an entry, and that of a run."""

import re
from collections.abc import Sequence
from typing import Any

from zobench.record.summaries import RESULTS
from zobench.report.compare.comparable import text
from zobench.report.frames.runs import Row
from zobench.report.site.boards import bibtex, seeds, verdicts
from zobench.report.site.cells import Cell, Link, Linked, to, web
from zobench.report.site.content import Content, EntryFacts, RunFacts, address, anchor
from zobench.report.typeset.table import number
from zobench.report.workloads.comparison import REFERENCE, STAGES, Place
from zobench.report.workloads.tables import delta, group, own_delta, rank, result, to_target

#: columns of the record that stand above the others
_RESULT = ("state", "reason", "metric", "test_metric", "dev_metric", "dev/loss", "forwards")
_PAPER = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def entry(content: Content, name: str) -> dict[str, Any]:
    """What the page of an entry shows: what it is, its scores everywhere, its runs, and what its trials chose."""
    facts, places, trials = content.entries[name], content.of_entry(name), content.trials_of(name)
    runs = content.compared.runs
    return {
        "entry": facts,
        "links": _links(facts, content.documentation),
        "of": Link(of, address("entry", of)) if (of := content.compared.of.get(name)) else "",
        "space": Linked(["setting", "searched in", "ships with"], [[k, *v] for k, v in facts.space.items()], texts=True,
                        name="settings searched"),
        "scores": _scores(content, name, places),
        "ablations": _ablations(content, name),
        "places": [
            {"id": anchor(*place), "title": f"{place[0]}: {STAGES[place[1]]}", "settings": _settings(facts, of_place),
             "table": _runs(of_place)}
            for place, of_place in places
        ],
        "trials": [
            {"id": anchor("trials", workload), "title": f"{workload}: trials", "table": _trials(facts, tried)}
            for workload, tried in trials.items()
        ],
        "bibtex": bibtex(runs[runs["entry"].eq(name)]),
    }  # fmt: skip


def run(content: Content, facts: RunFacts) -> dict[str, Any]:
    """What the page of a run shows: result, record, the command that makes it again, and its verdict."""
    check = facts.check
    said = [["verified", ", ".join(check.verified)], *([f"not verified: {what}", why] for what, why in
            check.unverified.items()), *(["differs", line] for line in check.differs)]  # fmt: skip
    at = anchor(facts.workload, facts.stage) if facts.trial is None else anchor("trials", facts.workload)
    return {
        "run": facts,
        "result": [(name, facts.row[name]) for name in _RESULT if facts.row.get(name) is not None],
        "elsewhere": "=DIR" in facts.command,
        "name": facts.row.get("config_hash", ""),
        "back": Link(facts.entry, f"{address('entry', facts.entry)}#{at}"),
        "workload": Link(facts.workload, address("workload", facts.workload)),
        "said": Linked(["check", "what was found"], [line for line in said if line[1]], texts=True, name="verdict"),
        "record": Linked(["column", "value"], _record(facts.row), texts=True, name="the row of the record"),
    }  # fmt: skip


def _record(row: Row) -> list[list[str]]:
    return [[name, str(value)] for name, value in row.items() if value is not None]


def _links(facts: EntryFacts, documentation: str) -> list[Link]:
    """Where more is said of an entry: its code, its papers, and its method's page."""
    found = [Link(f"arXiv:{paper}", f"https://arxiv.org/abs/{paper}") for paper in _PAPER.findall(facts.described)]
    if web(facts.source.code):
        found.append(Link("code", facts.source.code))
    elif web(documentation):
        found.append(Link(f"documentation of {facts.method}", f"{documentation.rstrip('/')}/methods/{facts.method}/"))
    return found


def _scores(content: Content, name: str, places: Sequence[tuple[Place, list[RunFacts]]]) -> Linked:
    """The entry's line on each board."""
    lines = {(line["workload"], line["stage"]): line
             for line in content.found[content.found["entry"].eq(name)].to_dict("records")}  # fmt: skip
    head = ["workload", "ruleset", "test metric", f"Δ to {REFERENCE}", "scale", "rank", "group", "passes to target",
            "seconds to target", "seeds", "verdicts"]  # fmt: skip
    rows: list[list[Cell]] = []
    for place, of_place in places:
        line, here = lines[place], f"#{anchor(*place)}"
        told = [result(line), delta(line), number(line["normalised"], ".2f"), rank(line), group(line),
                to_target(line, "target_forwards"), to_target(line, "target_seconds")]  # fmt: skip
        board = f"{address('workload', place[0])}#{anchor(*place)}"
        rows.append([Link(place[0], board), STAGES[place[1]], *(to(cell, here) for cell in told),
                     seeds(of_place), verdicts(of_place)])  # fmt: skip
    return Linked(head, rows, "Scores", keys=2)


def _ablations(content: Content, name: str) -> Linked | None:
    """What the entry is above its ablations, on each board; None where it has none there."""
    found = content.found
    own = found[found["of"].eq(name) & (found["own_delta"].notna() | found["own_same"])]
    rows = [
        [Link(line["entry"], address("entry", line["entry"])), line["workload"], STAGES[line["stage"]],
         to(own_delta(line), f"{address('entry', line['entry'])}#{anchor(line['workload'], line['stage'])}")]
        for line in own.to_dict("records")
    ]  # fmt: skip
    head = ["ablation", "workload", "ruleset", "entry less ablation"]
    note = "Points of test metric of the entry less its ablation, with a 95 % interval."
    return Linked(head, rows, "Ablations", [note], keys=3) if rows else None


def _settings(facts: EntryFacts, runs: Sequence[RunFacts]) -> str:
    """The settings of the space that some runs have in common."""
    one = [key for key in facts.space if len({text(run.row.get(key)) for run in runs}) == 1]
    return " ".join(f"{key}={_said(runs[0].row, key)}" for key in one)


def _runs(runs: Sequence[RunFacts]) -> Linked:
    rows: list[list[Cell]] = [
        [Link(f"seed {run.seed}", run.page), str(run.row["state"]),
         *(to(cell, run.page) for cell in (
             number(run.row.get("test_metric"), ".3f"), number(run.row.get("dev_metric"), ".3f"),
             number(run.row.get("dev/loss"), ".4f"), number(run.row.get("best_step"), ",.0f"),
             number(run.row.get("forwards"), ",.0f"), number(run.row.get("train_seconds"), ",.1f"))),
         run.check.verdict]
        for run in runs
    ]  # fmt: skip
    measured = ["test metric", "dev metric", "dev loss", "selected step", "forward passes", "train s"]
    return Linked(["run", "state", *measured, "verdict"], rows, name="scored runs")


def _trials(facts: EntryFacts, trials: Sequence[RunFacts]) -> Linked:
    rows: list[list[Cell]] = [
        [Link(f"trial {run.trial}", run.page), *(_said(run.row, key) for key in facts.space), str(run.row["state"]),
         *(to(cell, run.page) for cell in (
             number(run.row.get("dev/loss"), ".4f"), number(run.row.get("forwards"), ",.0f"),
             number(run.row.get("cpu_hours"), ".4f"))),
         "scored" if run.chosen else "-", run.check.verdict]
        for run in trials
    ]  # fmt: skip
    head = ["run", *facts.space, "state", "dev loss", "forward passes", "CPU hours", "choice", "verdict"]
    return Linked(head, rows, name="trials")


def _said(row: Row, key: str) -> str:
    value = row.get(key)
    return f"{value:.3g}" if isinstance(value, float) and row["state"] in RESULTS else text(value)
