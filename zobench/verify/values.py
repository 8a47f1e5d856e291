"""The row's values: those of the evaluations in ``metrics.jsonl`` and of the answers in ``predictions.parquet``."""

import math
from typing import Any

from omegaconf import OmegaConf

from zobench.config import instantiate
from zobench.errors import ConfigError
from zobench.objective import metrics as metric
from zobench.protocols import Protocol
from zobench.record import configs, metrics, predictions, summaries
from zobench.record.reading import Unreadable
from zobench.run import measures, trust
from zobench.run.build import build_task
from zobench.run.criteria import criterion_of
from zobench.tasks.base import Task
from zobench.verify.files import Record
from zobench.verify.verdict import SELECTION, VALUES, Verdict, close

#: a dev evaluation is made again for the record, with scores of another rounding: metrics may move by so many examples
_MOVED = 2
#: nats between two losses of the same weights, in one dtype
_LOSS = 1e-3
Row = dict[str, Any]


def check_selection(verdict: Verdict, record: Record) -> None:
    """That the weights which were tested are those that the protocol selects among the dev evaluations."""
    row, before = record.row, len(verdict.differs)
    if row["state"] != "finished" or not row.get("trains", True):
        return
    if not trust.is_ours(record.settings["protocol"], "protocol"):
        verdict.leave(SELECTION, "the protocol is code of others")
        return
    key, loss = f"dev/{row['metric']}", "dev/loss"
    seen = [line for line in record.lines if key in line]
    every = row.get("eval_every") or row["steps"]
    due = [*range(every, row["steps"], every), row["steps"]]
    if [line["step"] for line in seen if loss in line] != due:
        verdict.refute(f"{metrics.NAME}: dev evaluations of {len(seen)} steps, expected {len(due)}, every {every}")
        return
    better = instantiate.build(record.settings["protocol"], "protocol", kind=Protocol).better

    def judged(line: Row) -> Row:
        return {"metric": line[key], "loss": math.inf if line[loss] is None else line[loss]}

    best: Row | None = None
    for line in seen:
        if best is None or better(judged(line), judged(best)):
            best = line
    assert best is not None
    for name, column in (("step", "best_step"), ("forwards", "best_forwards")):
        if best[name] != row.get(column):
            verdict.refute(f"{summaries.NAME}: {column}={row.get(column)}, but dev selects {name} {best[name]}")
    far = _MOVED / max(1, row.get("dev/n") or 1)
    for name, tolerance in ((key, far), (loss, _LOSS if row.get("dtype") == "float32" else far)):
        if name in best and name in row and not close(best[name], row[name], tolerance):
            verdict.refute(f"{summaries.NAME}: {name}={row[name]}, but {metrics.NAME} has {best[name]} at that step")
    if len(verdict.differs) == before:
        verdict.hold(SELECTION)


def check_values(verdict: Verdict, record: Record) -> None:
    """That the row's metrics are those of the predictions, and of the first and last line of the metrics."""
    row, before = record.row, len(verdict.differs)
    logged = {name: v for line in record.lines[:1] for name, v in line.items() if name.startswith("zero_shot/")}
    for line in record.lines[-1:]:
        logged |= {name.removeprefix("final/"): v for name, v in line.items() if name.startswith("final/")}
    said = {name for name in row if name.startswith(("zero_shot/", "dev/", "test/"))}
    for name in sorted(logged.keys() | said):
        if not close(row.get(name), logged.get(name)):
            verdict.refute(f"{summaries.NAME}: {name}={row.get(name)}, but {metrics.NAME} has {logged.get(name)}")
    if row["state"] != "finished":
        return
    groups = {"task", configs.LATER} & record.settings.keys()
    if theirs := [group for group in sorted(groups) if not trust.is_ours(record.settings[group], group)]:
        verdict.leave(VALUES, f"the {theirs[0]} is code of others")
        return
    try:
        task = build_task(record.settings["task"])
        judged = criterion_of(OmegaConf.create(record.settings)).metric(task)
        if row["metric"] != judged:
            verdict.refute(f"{summaries.NAME}: metric={row['metric']}, but {configs.NAME} makes it {judged}")
            return
        threshold: float | None = None
        for split in ("dev", "test"):
            rows = predictions.read(record.place, split)
            made, threshold = _made_of(record, task, split, rows, threshold)
            for name, value in made.items():
                if not close(row.get(f"{split}/{name}", value), value, 1e-7):
                    said = row[f"{split}/{name}"]
                    verdict.refute(f"{summaries.NAME}: {split}/{name}={said}, but {predictions.NAME} makes it {value}")
            for end in ("", "_stderr"):
                stated, made_again = row.get(f"{split}_metric{end}"), made[f"{row['metric']}{end}"]
                if not close(stated, made_again, 1e-7):
                    verdict.refute(
                        f"{summaries.NAME}: {split}_metric{end}={stated}, but {predictions.NAME} makes it {made_again}"
                    )
    except Unreadable as error:
        verdict.refute(error.said)
    except (ConfigError, ValueError, IndexError, KeyError, ZeroDivisionError, OverflowError) as error:
        verdict.refute(f"{predictions.NAME}: no predictions of this task ({error})")
    if len(verdict.differs) == before:
        verdict.hold(VALUES)


def _made_of(
    record: Record, task: Task, split: str, rows: list[Row], threshold: float | None
) -> tuple[Row, float | None]:
    """The measures that predictions make by themselves, and the threshold that dev's margins set.

    Raises:
        ValueError: where answers or scores of examples are not those of their options.
    """
    row = record.row
    scored = [each["score"] for each in rows]
    added = {str(row["metric"]): scored}
    if task.generates:
        added["exact_match"] = [each["exact_match"] for each in rows]
        return measures.means(added) | {"n": len(rows)}, None
    gold, scores = [int(each["gold"]) for each in rows], [each["scores"] for each in rows]
    chosen = [metric.likeliest(each) for each in scores]
    if wrong := [e["index"] for e, c in zip(rows, chosen, strict=True) if int(e["prediction"]) != c]:
        raise ValueError(f"{split} {wrong[0]}: another answer than the option with the highest score")
    if not all(0 <= g < len(s) for g, s in zip(gold, scores, strict=True)):
        raise ValueError(f"{split}: a right option that there is not")
    facts: Row = {"n": len(rows)}
    if f"{split}/majority" in row:  # an option is a class, right alone
        made = {"accuracy": [float(g == c) for g, c in zip(gold, chosen, strict=True)]}
        made |= measures.of_classes(gold, chosen)
        if not all(map(close, made.get(row["metric"], scored), scored)):
            raise ValueError(f"{split}: a score that is not that of its answer")
        added |= made
        facts["majority"] = measures.majority(gold)
        if task.loss != "lm":
            facts["loss"] = sum(map(measures.cross_entropy, scores, gold)) / len(rows)
    moved, threshold = measures.of_margins(gold, scores, threshold)
    return measures.means(added) | facts | moved, threshold
