"""A sweep through every launcher, then the same sweep killed again and again: are the results the same, bit for bit?

    python scripts/endure.py --data DIR                    # 12 cells, four launchers, then at least 20 kills; minutes
    python scripts/endure.py --short                       # 2 cells of the mini data, one launcher, 1 kill

DIR holds rte and sst2 in the hub's layout. Real SLURM takes part where its daemons are installed
(``apt-get install slurm-wlm munge``): scripts/slurm/up.sh starts a cluster of one node for the time of the script.
The exit code is 0 if every cell of every sweep is finished and equal, and no finished cell was touched again.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from endurance import cells
from endurance.disturb import DISTURBANCES
from endurance.launch import LAUNCHERS, OWN_CLUSTER, ROOT, Sweep

_PATIENCE_S = 400.0
_FULL = (
    "method=mezo,loren", "task=sst2,rte", "seed=0,1,2", "steps=60", "eval_every=20", "save_every=3",
    "task.splits.{splits}.train=64", "task.splits.{splits}.dev=32", "task.splits.{splits}.test=64",
)  # fmt: skip
_SHORT = (
    "method=mezo,loren", "task=sst2", "seed=0", "steps=24", "eval_every=8", "save_every=2",
    "task.splits.{splits}.train=16", "task.splits.{splits}.dev=8", "task.splits.{splits}.test=8",
)  # fmt: skip
_COMMON = (
    "model=tiny-opt", "wandb=disabled", "threads=1", "batch_size=4", "method.lr=1e-4", "log_every=1",
    "data.splits={splits}",
)  # fmt: skip


def main() -> int:
    asked = _arguments()
    out = Path(asked.out or tempfile.mkdtemp(prefix="endure-")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    splits = "mini" if asked.data is None else "clean"
    data = ["data=mini"] if asked.data is None else ["data=local", f"data.dir={Path(asked.data).resolve()}"]
    overrides = [x.format(splits=splits) for x in (*(_SHORT if asked.short else _FULL), *_COMMON)] + data
    count = 2 if asked.short else 12
    launchers = asked.launchers.split(",")
    cluster = _cluster_up(out / "cluster", launchers)
    try:
        bad = undisturbed(out, launchers, overrides, count)
        rng, longest = random.Random(asked.seed), (0.5 if asked.short else 6.0)
        bad += disturbed(out, launchers, overrides, count, kills=asked.kills, rng=rng, longest=longest)
    finally:
        if cluster:
            subprocess.run(["bash", str(ROOT / "scripts/slurm/down.sh"), str(out / "cluster")], check=False)
    print(f"\n{'everything is equal' if not bad else f'{bad} problems'}; runs and logs: {out}", flush=True)
    return 1 if bad else 0


def undisturbed(out: Path, launchers: list[str], overrides: list[str], count: int) -> int:
    """The sweep once through each launcher, compared with the first; the number of problems."""
    print(f"{'launcher':<10}{'finished':>10}{'equal':>8}{'seconds':>9}", flush=True)
    bad = 0
    for launcher in launchers:
        runs = _folder(out / launcher)
        began = time.monotonic()
        with Sweep(launcher, overrides, runs, out / f"{launcher}.log") as sweep:
            _to_the_end(sweep)
        finished, equal = _compare(runs, out / launchers[0])
        print(f"{launcher:<10}{finished:>10}{equal:>8}{time.monotonic() - began:>9.0f}", flush=True)
        bad += 2 * count - finished - equal
    return bad


def disturbed(
    out: Path, launchers: list[str], overrides: list[str], count: int, *, kills: int, rng: random.Random, longest: float
) -> int:
    """Sweeps started through a random launcher each time and killed at random moments, until it was often enough."""
    bad, done, starts, restarts, rounds = 0, Counter[str](), 0, 0, 0
    while done.total() < kills:
        rounds += 1
        runs = _folder(out / f"disturbed-{rounds}")
        finished_as: dict[str, cells.Snapshot] = {}
        while len(cells.closed(runs)) < count:
            starts += 1
            if starts > 10 * kills + 20:
                raise SystemExit(f"endure: {runs} does not get finished in {starts} starts; see {out}/disturbed.log")
            with Sweep(rng.choice(launchers), overrides, runs, out / "disturbed.log") as sweep:
                _disturb(sweep, rng, done, kills, longest)
            for name, path in cells.closed(runs).items():
                finished_as.setdefault(name, cells.snapshot(path))
        finished, equal = _compare(runs, out / launchers[0])
        touched = [name for name, before in finished_as.items() if cells.snapshot(runs / name) != before]
        restarts += sum(cells.row(path)["restarts"] for path in cells.directories(runs).values())
        print(f"\nsweep {rounds}: {finished} of {count} finished, {equal} equal, {len(touched)} touched after the end")
        bad += 2 * count - finished - equal + len(touched)
    print(f"{done.total()} kills, {starts} starts of a sweep, {restarts} continued starts of a cell:")
    for what, number in done.most_common():
        print(f"  {number:>3}  {what}", flush=True)
    return bad


def _disturb(sweep: Sweep, rng: random.Random, done: Counter[str], kills: int, longest: float) -> None:
    """Let a sweep run to its end or to the kill that ends it, within ``longest`` seconds of a cell's first steps."""
    deadline = time.monotonic() + _PATIENCE_S
    while sweep.alive and time.monotonic() < deadline and done.total() < kills:
        _wait_a_while(sweep, rng, longest)
        what = rng.choice(DISTURBANCES[sweep.launcher])(sweep, rng) if sweep.alive else None
        if what is not None:
            done[f"{sweep.launcher}: {what}"] += 1
    _to_the_end(sweep)


def _wait_a_while(sweep: Sweep, rng: random.Random, longest: float) -> None:
    """Until some cell has begun to train and a random time more; one time in five, any moment of the start."""
    early = rng.random() < 0.2
    while not early and sweep.alive and not cells.trained(sweep.runs):
        time.sleep(0.2)
        sweep.stop_if_stuck()
    until = time.monotonic() + rng.uniform(0.0, longest)
    while sweep.alive and time.monotonic() < until:
        time.sleep(0.05)


def _to_the_end(sweep: Sweep) -> None:
    """Wait for a sweep and whatever it left behind."""
    deadline = time.monotonic() + _PATIENCE_S
    while (sweep.alive or cells.workers(sweep.runs)) and time.monotonic() < deadline:
        time.sleep(0.1)
        sweep.stop_if_stuck()


def _compare(runs: Path, reference: Path) -> tuple[int, int]:
    """(finished cells, those of them that equal the reference's); tells what differs."""
    finished, equal = cells.closed(runs), 0
    for name, path in finished.items():
        found = cells.differences(cells.result(path), cells.result(reference / name))
        equal += not found
        if found:
            print(f"{path}: differs in {', '.join(found)}", file=sys.stderr)
    return len(finished), equal


def _folder(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def _cluster_up(folder: Path, launchers: list[str]) -> bool:
    """Start a SLURM of our own if it is asked for; where its daemons are missing the launcher is taken off the list."""
    if "slurm" not in launchers:
        return False
    started = subprocess.run(["bash", str(ROOT / "scripts/slurm/up.sh"), str(_folder(folder))], check=False)
    if started.returncode == 3:
        launchers.remove("slurm")
        return False
    started.check_returncode()
    os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), OWN_CLUSTER: "1"}
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with rte and sst2; without it the mini data")
    parser.add_argument("--out", help="folder for runs and logs; without it a temporary one")
    parser.add_argument("--launchers", help=f"with commas, of {', '.join(LAUNCHERS)}; the first is the reference")
    parser.add_argument("--kills", type=int, help="at least so many; default 20, --short 1")
    parser.add_argument("--seed", type=int, default=0, help="of the disturbances")
    parser.add_argument("--short", action="store_true", help="2 cells of the mini data, one launcher, 1 kill")
    asked = parser.parse_args()
    asked.launchers = asked.launchers or ("basic" if asked.short else ",".join(LAUNCHERS))
    asked.kills = asked.kills if asked.kills is not None else (1 if asked.short else 20)
    return asked


if __name__ == "__main__":
    sys.exit(main())
