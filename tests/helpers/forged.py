"""Records that were edited by somebody who knows how they are made: all that can be made to fit is."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from helpers.damage import reseal
from zobench.config.signature import digest
from zobench.objective import metrics
from zobench.record import configs, digests
from zobench.record.trajectory import Chain
from zobench.run import measures
from zobench.run.provenance import identity


def row(record):
    return json.loads((record / "summary.json").read_text())


def write_row(record, **values):
    """Other values in the row, under a digest that fits."""
    plain = {name: value for name, value in (row(record) | values).items() if name != digests.ROW}
    (record / "summary.json").write_text(json.dumps(digests.sealed(plain), indent=1))


def lines(record, name="metrics.jsonl"):
    return [json.loads(line) for line in (record / name).read_text().splitlines()]


def write_lines(record, made, name="metrics.jsonl"):
    (record / name).write_text("".join(json.dumps(line) + "\n" for line in made))


def rename(record, settings):
    """Other settings, and all that follows from them without a step: the name, and the head of the losses."""
    (record / configs.NAME).write_text(yaml.safe_dump(settings, sort_keys=False))
    write_row(record, config_hash=digest(settings))
    rechain(record)


def rechain(record, change=lambda steps: None):
    """The trajectory with other losses, under checksums that fit, as the run that the row says."""
    head, *steps = lines(record, "trajectory.jsonl")
    steps = [step[:-1] for step in steps]
    change(steps)
    said, chain = row(record), Chain()
    facts = [said[name] for name in ("config_hash", "rows_hash", "base_checksum", "model_checksum", "device")]
    text = chain.head(head["missed"], identity(*facts, 1), head["by"])
    text += "".join(chain.line(step[0], step[1:]) for step in steps)
    (record / "trajectory.jsonl").write_text(text)
    reseal(record)


def answer_rightly(record, split="test"):
    """Scores by which every answer of a split is right, with all values that follow from them."""
    table = pq.read_table(record / "predictions.parquet").to_pylist()
    for example in table:
        if example["split"] == split and example["prediction"] != example["gold"]:
            example |= {"prediction": example["gold"], "scores": example["scores"][::-1], "score": 1.0}
    pq.write_table(pa.Table.from_pylist(table), record / "predictions.parquet")
    made, threshold = {}, None
    for part in ("dev", "test"):
        rows = [example for example in table if example["split"] == part]
        gold, scores = [int(example["gold"]) for example in rows], [example["scores"] for example in rows]
        chosen = list(map(metrics.likeliest, scores))
        added = {"accuracy": [float(g == c) for g, c in zip(gold, chosen, strict=True)]}
        moved, threshold = measures.of_margins(gold, scores, threshold)
        values = measures.means(added | measures.of_classes(gold, chosen)) | moved
        values["loss"] = sum(map(measures.cross_entropy, scores, gold)) / len(rows)
        made |= {f"{part}/{name}": value for name, value in values.items()}
        made |= {f"{part}_metric": values["accuracy"], f"{part}_metric_stderr": values["accuracy_stderr"]}
    write_row(record, **made)
    *before, last = lines(record)
    write_lines(record, [*before, last | {f"final/{name}": v for name, v in made.items() if f"final/{name}" in last}])
    reseal(record)
