"""Runs of a tiny model, and what they leave on disk."""

import json
from pathlib import Path

import zobench

ROOT = Path(zobench.__file__).resolve().parent.parent
TINY = (
    "model=tiny-opt", "data=mini", "wandb=disabled", "threads=1", "batch_size=4",
    "task.splits.mini.train=8", "task.splits.mini.dev=8", "task.splits.mini.test=8",
)  # fmt: skip


def strictly(text):
    """JSON without NaN and Infinity, which are not JSON."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def lines_of(directory, name="metrics.jsonl"):
    return [strictly(line) for line in (Path(directory) / name).read_text().splitlines()]


def series(directory):
    """(step, forwards, value) of each training line, then of each dev evaluation."""
    lines = lines_of(directory)
    names = ("train/loss", "dev/loss")
    return [[(x["step"], x["forwards"], x[name]) for x in lines if name in x] for name in names]


def summary_of(directory):
    """The row of a run; written back, it is that of an earlier version, without digests."""
    row = strictly((directory / "summary.json").read_text())
    return {name: value for name, value in row.items() if name not in ("digest", "digests")}
