"""Two measurements of a sweep of 1,000 cells: planning and showing it, and loading its records into a DataFrame.

    python scripts/thousand.py

Writes 1,000 records, as large as those of real runs, to a temporary folder, and removes them again.
"""

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir

from zobench.config.folders import conf_dir
from zobench.config.signature import register
from zobench.report import curves, load
from zobench.sweep.plan import PlannedCell, Planner

LINE = (
    "method=mezo,loren,ldsd,kerzoo,curvzo task=rte,sst2 model=opt-1.3b,opt-13b wandb=disabled "
    "method.lr=1e-7,2e-7,5e-7,1e-6,2e-6 seed=range(0,10)"
)
#: for the first plan, which Hydra composes, and for all that comes after it
FIRST_S, LIMIT_S = 30.0, 5.0


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        runs, grid = Path(scratch) / "runs", Path(scratch) / "thousand.yaml"
        os.environ["ZOBENCH_CACHE"] = f"{scratch}/cache"
        grid.write_text(f"# A thousand cells\nlines:\n  - {LINE}\n", encoding="utf-8")
        register()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            planner = Planner(
                lambda overrides: compose("config", overrides=overrides, return_hydra_config=True), [conf_dir()]
            )
            cells = planner.cells([[*LINE.split(), f"runs_dir={runs}"]])
        command = [sys.executable, "-m", "zobench.sweep", str(grid), f"runs_dir={runs}"]
        first = _timed("first dry run", len(cells), [*command, "--dry-run"])
        times = [_timed("second dry run", len(cells), [*command, "--dry-run"])]
        for cell in cells:
            _write(cell, random.Random(cell.signature))
        size = sum(path.stat().st_size for path in runs.rglob("*") if path.is_file())
        print(f"wrote {len(cells):,} records, {size / 2**20:.0f} MiB")
        times.append(_timed("dry run, all records there", len(cells), [*command, "--dry-run"]))
        times.append(_timed("status", len(cells), [*command, "--status"]))
        start = time.perf_counter()
        frame = load(runs)
        times.append(time.perf_counter() - start)
        print(f"load: {len(frame):,} records, {len(frame.columns)} columns in {times[-1]:.2f} s")
        start = time.perf_counter()
        lines = curves(frame)
        print(f"curves (all of metrics.jsonl): {len(lines):,} lines in {time.perf_counter() - start:.2f} s")
    good = first < FIRST_S and max(times) < LIMIT_S
    print(f"the first under {FIRST_S:g} s, the others but curves under {LIMIT_S:g} s: {'yes' if good else 'NO'}")
    return not good


def _timed(what: str, cells: int, command: list[str]) -> float:
    """Seconds of a whole process, from its start to its end."""
    start = time.perf_counter()
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    assert f"{cells:,} cells" in found.stdout, found.stdout
    print(f"{what}: {cells:,} cells in {seconds:.2f} s, {len(found.stdout.splitlines())} lines shown")
    return seconds


def _write(cell: PlannedCell, dice: random.Random) -> None:
    """The files of a finished run of 2,000 steps that logged every tenth."""
    folder = cell.directory
    (folder / "checkpoint").mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / "config.yaml").write_text(yaml.dump(cell.settings, Dumper=yaml.CSafeDumper), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"python": "3.11", "device": "cuda"}), encoding="utf-8")
    forwards, loss, lines = 40_000, 0.9, []
    for step in range(10, 2001, 10):
        loss *= math.exp(dice.gauss(-0.002, 0.01))
        lines.append({"step": step, "forwards": 20 * step, "train/loss": loss, "projected_grad": dice.gauss(0, 30),
                      "lr": cell.get("method.lr"), "train_seconds": 0.6 * step})  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    updates = (
        json.dumps({"step": step, "lr": 1e-6, "keys": [dice.getrandbits(62)], "weights": [dice.gauss(0, 30)]})
        for step in range(2000)
    )
    (folder / "trajectory.jsonl").write_text("\n".join(updates) + "\n", encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(_row(cell, dice, forwards), indent=1), encoding="utf-8")


def _row(cell: PlannedCell, dice: random.Random, forwards: int) -> dict[str, object]:
    names = ("method", "model", "task", "tuning", "protocol", "data", "experiment")
    row: dict[str, object] = {"state": "finished", "reason": None}
    row |= {name: cell.settings["choices"][name] for name in names}
    row |= {name: cell.get(name) for name in ("seed", "data_seed", "noise_seed", "order_seed", "init_seed")}
    row |= {name: cell.get(name) for name in ("batch_size", "micro_batch_size", "dtype")}
    row |= {f"method.{name}": value for name, value in cell.settings["method"].items() if not isinstance(value, dict)}
    row |= {"config_hash": cell.signature, "directory": str(cell.directory), "device": "cuda", "variant": "paper"}
    for part in ("zero_shot/dev", "zero_shot/test", "dev", "test", "last/test"):
        for name in ("accuracy", "accuracy_stderr", "loss", "majority", "auc", "auc_stderr", "accuracy_calibrated"):
            row[f"{part}/{name}"] = dice.random()
        row[f"{part}/n"] = 1000
    row |= {"dev_metric": dice.random(), "test_metric": dice.random(), "metric": "accuracy", "trains": True}
    row |= {"steps": 20_000, "forwards": forwards, "wall_seconds": 1200 + 100 * dice.random(), "peak_gib": 27.0}
    row |= {name: dice.random() for name in ("train_seconds", "forward_seconds", "gpu_hours", "cpu_hours")}
    return row | {"versions": dict.fromkeys(("torch", "transformers", "hydra-core", "numpy"), "1.0"), "restarts": 0}


if __name__ == "__main__":
    sys.exit(main())
