"""Does the memory column mean the method, or the cell's place in the sweep?

One grid runs forwards and backwards, each in one command; then come cells alone, and cells stopped and continued.

    python scripts/memory_order.py FOLDER [--checkout DIR] [--model NAME]

Prints peak memory beyond the weights of each cell in both orders, and its rank correlation with the place. What is
done is not done again. ``--checkout`` measures the code of another checkout.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

METHODS = ("loren", "mezo", "curvzo", "adamw", "kerzoo", "ldsd")
BATCHES = (32, 8)
FIXED = (
    "task=sst2", "data=mini", "wandb=disabled", "threads=1", "steps=2", "log_every=1", "eval_every=2",
    "eval_batch_size=8", *(f"task.splits.mini.{part}=32" for part in ("train", "dev", "test")),
)  # fmt: skip


def main() -> int:
    asked = _parser().parse_args()
    code = asked.checkout or str(Path(__file__).resolve().parents[1])
    cells = [(method, batch) for batch in BATCHES for method in METHODS]
    found: dict[str, list[float]] = {}
    for order, chosen in (("forwards", cells), ("backwards", cells[::-1])):
        grid = Path(asked.folder).resolve() / f"{order}.yaml"
        grid.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"method={m} batch_size={b} model={asked.model} {' '.join(FIXED)}" for m, b in chosen]
        grid.write_text(json.dumps({"lines": lines}))
        runs = grid.with_suffix("")
        _zobench(code, "zobench.sweep", str(grid), f"runs_dir={runs}").wait()
        found[order] = [_beyond(runs, *cell) for cell in chosen]
    backwards = found["backwards"][::-1]
    print(f"{'cell':20}{'forwards':>10}{'backwards':>11}   MiB beyond the weights")
    for (method, batch), one, other in zip(cells, found["forwards"], backwards, strict=True):
        print(f"{method + ' ' + str(batch):20}{one:10.1f}{other:11.1f}")
    means = [(a + b) / 2 for a, b in zip(found["forwards"], backwards, strict=True)]
    for order, values in (("forwards", found["forwards"]), ("backwards", backwards)):
        places = list(range(len(cells)))[:: 1 if order == "forwards" else -1]
        off = [value - mean for value, mean in zip(values, means, strict=True)]
        print(
            f"{order}: rank correlation with the place {_spearman(places, values):+.3f} as it is, and "
            f"{_spearman(places, off):+.3f} of what differs from the cells' means, at most {max(map(abs, off)):.1f} MiB"
        )
    for method in ("mezo", "adamw"):
        words = [f"method={method}", f"batch_size={BATCHES[0]}", *f"model={asked.model}".split(), *FIXED]
        alone, stopped = (Path(asked.folder).resolve() / name for name in ("alone", "stopped"))
        _zobench(code, "zobench", *words, f"runs_dir={alone}").wait()
        if not list(stopped.glob(f"*/*/{method}/*/summary.json")):
            _stop_after_a_step(_zobench(code, "zobench", *words, f"runs_dir={stopped}"), stopped, method)
        _zobench(code, "zobench", *words, f"runs_dir={stopped}").wait()
        one, other = (_beyond(runs, method, BATCHES[0]) for runs in (alone, stopped))
        print(f"{method} {BATCHES[0]}: {one:.1f} alone, {other:.1f} stopped and continued")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", help="where the runs are kept")
    parser.add_argument("--checkout", metavar="DIR", help="measure the zobench of this folder instead of this one")
    parser.add_argument("--model", default="tiny-llama model.hidden=256 model.layers=4", help="and settings of it")
    return parser


def _zobench(code: str, module: str, *words: str) -> "subprocess.Popen[bytes]":
    env = {**os.environ, "PYTHONPATH": code}
    return subprocess.Popen([sys.executable, "-m", module, *words], env=env, stdout=sys.stderr, cwd=code)


def _beyond(runs: Path, method: str, batch: int) -> float:
    """The memory of a cell beyond its weights, in MiB."""
    for path in runs.glob(f"*/*/{method}/*/summary.json"):
        row = json.loads(path.read_text())
        if row["batch_size"] == batch and row["state"] == "finished":
            return float(row["peak_gib"] - row["weights_gib"]) * 1024
    raise SystemExit(f"{runs}: no finished run of {method} at batch_size={batch}")


def _stop_after_a_step(process: "subprocess.Popen[bytes]", runs: Path, method: str) -> None:
    """Ask a run to stop while it trains."""
    while process.poll() is None:
        if any('"train/loss"' in path.read_text() for path in runs.glob(f"*/*/{method}/*/metrics.jsonl")):
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.05)
    process.wait()


def _spearman(x: list[int], y: list[float]) -> float:
    """Rank correlation of numbers without ties."""
    ranks = [sorted(values).index(value) for values in (x, y) for value in values]
    n = len(x)
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(ranks[:n], ranks[n:], strict=True)) / (n * (n * n - 1))


if __name__ == "__main__":
    sys.exit(main())
