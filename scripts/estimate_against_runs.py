"""Compares estimates with the runs that they are of: six cells, each estimated, then run, in a process of its own.

    python scripts/estimate_against_runs.py [--markdown] [--jobs 2]

CPU seconds are compared, which other work on the machine changes least; both are of one thread, without the imports.
The law is asked for each cell as well, as if nothing were at hand.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

COMMON = "model=smollm2 data=mini wandb=disabled threads=1 device=cpu"
#: methods with two and many queries, a second batch, activations, first order; all tunings; options and free answers
CELLS = (
    "method=mezo tuning=last_layers tuning.layers=1 tuning.only=down_proj task=sst2 batch_size=64 steps=600",
    "method=fzoo tuning=lora task=sst2 batch_size=4 steps=10",
    "method=agzo tuning=full task=sst2 batch_size=4 steps=10",
    "method=mezo_svrg tuning=prefix task=sst2 batch_size=4 steps=10",
    "method=adamw tuning=last_layers task=sst2 batch_size=8 steps=40",
    "method=mezo tuning=lora task=squad batch_size=2 steps=6 eval_every=6",
)
HEAD = ["cell", "run, CPU s", "measured", "by law", "run, GiB", "measured", "by law"]
SIZES = {"sst2": (50, 60), "squad": (4, 8)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="as a table for a document")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    asked = parser.parse_args()
    markdown = asked.markdown
    with ThreadPoolExecutor(asked.jobs) as pool:
        rows = [HEAD, *pool.map(_row, CELLS)]
    for i, row in enumerate(rows):
        print(f"| {' | '.join(row)} |" if markdown else "  ".join(row))
        if markdown and not i:
            print(f"|---|{'---:|' * (len(row) - 1)}")


def _row(cell: str) -> list[str]:
    """A cell's line: what its run took, and its estimates over that."""
    task = cell.partition("task=")[2].split()[0]
    sizes = [f"task.splits.mini.{split}={n}" for split, n in zip(("dev", "test"), SIZES[task], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        words = [*COMMON.split(), *cell.split(), *sizes, f"runs_dir={folder}"]
        found = _in_process("estimate", words) | _in_process("run", words)
    ran = found["run_cpu"]
    times = [f"{found[f'{way}_cpu']:.0f} ({found[f'{way}_cpu'] / ran:.2f})" for way in ("measured", "law")]
    row = [cell, f"{ran:.0f}", *times, *(f"{found[f'{way}_gib']:.2f}" for way in ("run", "measured", "law"))]
    print(" | ".join(row), file=sys.stderr, flush=True)
    return row


def _in_process(what: str, words: list[str]) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--of", what, *words], capture_output=True, text=True, check=True, env=environment
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _estimate(words: list[str]) -> dict[str, float | None]:
    from omegaconf import OmegaConf

    from zobench.config.chosen import Cell
    from zobench.config.signature import compose
    from zobench.estimate.law import by_law
    from zobench.estimate.one import estimate

    cfg = compose(*words)
    cost = estimate(cfg)
    assert cost.spending is not None
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    law = by_law(Cell(settings), cost.spending)  # type: ignore[arg-type]
    return {"measured_cpu": cost.cpu_seconds, "measured_gib": cost.gib, "law_cpu": law.seconds, "law_gib": law.gib}


def _run(words: list[str]) -> dict[str, float]:
    from zobench.config.signature import compose
    from zobench.run.runner import run

    cfg = compose(*words)
    before = time.process_time()
    row = run(cfg)
    return {"run_cpu": time.process_time() - before, "run_gib": row["peak_gib"]}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--of"]:
        print(json.dumps({"estimate": _estimate, "run": _run}[sys.argv[2]](sys.argv[3:])))
    else:
        main()
