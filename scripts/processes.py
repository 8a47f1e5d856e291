"""What several processes give and what they cost: 1, 2 and 4 of them on a tiny model, in one go.

    python scripts/processes.py --steps 200

Query-parallel LOREN must have the losses and weights of one process to the bit, data-parallel MeZO to rounding. The
model is so small that a step is mostly waiting for the others: the ratios of time show the overhead and not a gain.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COMMON = ("model=tiny-opt", "data=mini", "wandb=disabled", "threads=1", "log_every=1")
SETTINGS = {
    "queries": ("method=loren", "method.mode=exact", "method.probes=8", "method.lr=1e-3"),
    "data": ("method=mezo", "method.lr=1e-5"),  # at large rates rounding grows from step to step
}


def run(parallel: str, processes: int, steps: int, runs: Path) -> tuple[dict[str, Any], list[float]]:
    """The row of a run and its loss curve."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "zobench"]
    command += [*COMMON, *SETTINGS[parallel], f"parallel={parallel}", f"steps={steps}", f"runs_dir={runs}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    (path,) = runs.glob("*/*/*/*/summary.json")
    lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    return json.loads(path.read_text()), [line["train/loss"] for line in lines if "train/loss" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="the first is the reference")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, one thread in each process, {arguments.steps} steps")
    head = (
        "parallel",
        "method",
        "processes",
        "losses",
        "largest difference",
        "weights",
        "bytes/step",
        "ms/step",
        "ratio",
    )
    print(("{:<9}" * 3 + "{:>11}{:>20}  {:<18}" + "{:>11}" * 3).format(*head))
    for parallel in SETTINGS:
        reference: tuple[dict[str, Any], list[float]] | None = None
        for processes in arguments.processes:
            with tempfile.TemporaryDirectory() as folder:
                row, losses = run(parallel, processes, arguments.steps, Path(folder))
            reference = reference or (row, losses)
            pairs = list(zip(losses, reference[1], strict=True))
            difference = max(abs(a - b) / abs(b) for a, b in pairs)
            same = "same bits" if losses == reference[1] else "rounding"
            seconds, before = (r["train_seconds"] / r["steps"] for r in (row, reference[0]))
            print(
                f"{parallel:<10}{row['method']:<10}{processes:<10}{same:>11}{difference:>20.1e}  "
                f"{row['weights_checksum']:<18}{row['bytes_per_step']:>11.0f}{1e3 * seconds:>11.2f}"
                f"{seconds / before:>11.2f}"
            )


if __name__ == "__main__":
    main()
