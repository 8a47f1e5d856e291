"""What a small sweep costs in CPU seconds of all its processes, and where they go; about two minutes on one core.

    python scripts/sweep_seconds.py                         # this checkout
    python scripts/sweep_seconds.py --checkout ../before    # another one, with the same Python and the same grid

Three methods on two models with the rows that ship with zobench, run as any sweep: one cell after another, one thread,
each in a folder that is thrown away. The columns of the table are CPU seconds. *Forwards* and *outside* share out what
training took by their wall seconds, *evaluation* and *cache* are wall seconds, and *the rest* is what remains of the
total: starting Python, reading models and checking them, planning the sweep, writing records. The total alone means
something where other work runs beside it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("mezo", "ldsd", "loren")
GRID = """\
common: >-
  task=sst2 data=mini steps=20 batch_size=16 eval_every=10 threads=1 device=cpu wandb=disabled keep_weights=false
lines:
  - model=tiny-llama tuning=full method={methods}
  - model={model} tuning=last_layers tuning.layers=1 tuning.only=mlp method={methods}
"""


def measure(checkout: Path, model: str) -> dict[str, Any]:
    """Run the grid by the code of a checkout.

    Returns:
        CPU seconds of all processes together, and their parts by what the cells' rows say.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-seconds-") as name:
        folder = Path(name)
        grid = folder / "grid.yaml"
        grid.write_text(GRID.format(methods=",".join(METHODS), model=model), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(checkout), "ZOBENCH_CACHE": str(folder / "cache")}
        # One run fills what is made once a machine: compiled loops, converted weights.
        command = [sys.executable, "-m", "zobench.sweep", str(grid)]
        for runs in ("first", "measured"):
            before = _children()
            done = subprocess.run(
                [*command, f"runs_dir={folder / runs}"], cwd=folder, env=environment, capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(f"sweep_seconds: the sweep of {checkout} failed:\n{done.stdout}{done.stderr}")
            total = _children() - before
        rows = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "measured").rglob("summary.json")]
    return {"checkout": str(checkout), "cells": len(rows), "cpu_seconds": total, **_parts(rows, total)}


def _children() -> float:
    """CPU seconds of this process's children, and of theirs, that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _parts(rows: list[dict[str, Any]], total: float) -> dict[str, float]:
    parts = dict.fromkeys(("forwards", "outside", "evaluation", "cache"), 0.0)
    for row in rows:
        train = row["cpu_hours"] * 3600
        share = row["forward_seconds"] / row["train_seconds"]
        parts["forwards"] += train * share
        parts["outside"] += train * (1 - share)
        parts["evaluation"] += row["evaluate_seconds"]
        parts["cache"] += row["cache_seconds"]
    return {**parts, "the rest": total - sum(parts.values())}


def main() -> None:
    """Measure, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkout", type=Path, default=ROOT, help="whose zobench runs")
    parser.add_argument("--model", default="smollm2", help="whose last layer trains from cached activations")
    asked = parser.parse_args()
    found = measure(asked.checkout.resolve(), asked.model)
    print(json.dumps({key: round(value, 2) if isinstance(value, float) else value for key, value in found.items()}))


if __name__ == "__main__":
    main()
