"""Real SLURM: a cluster of one node, started from Debian's packages, runs, warns, preempts and requeues cells."""

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from helpers import waiting
from helpers.waiting import directories

import zobench
from zobench.config.signature import compose
from zobench.run.runner import run

ROOT = Path(zobench.__file__).resolve().parent.parent
STEPS = 500
CELL = (
    "model=tiny-opt", "task=sst2", "data=mini", "wandb=disabled", "threads=1", "batch_size=4", f"steps={STEPS}",
    "method.lr=1e-4", "log_every=1", "eval_every=250", "save_every=25",
)  # fmt: skip
SMALL = ("gpus_per_node=1", "cpus_per_task=1", "mem_gb=1", "timeout_min=30")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin") is None,
        reason="slurmctld is not installed; apt-get install slurm-wlm munge",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", str(ROOT / "scripts/slurm/up.sh"), str(folder)], check=True, timeout=60)
    os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    yield
    subprocess.run(["bash", str(ROOT / "scripts/slurm/down.sh"), str(folder)], check=True, timeout=60)
    del os.environ["SLURM_CONF"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    runs = tmp_path_factory.mktemp("undisturbed")
    return {seed: run(compose(*CELL, f"seed={seed}", f"runs_dir={runs}")) for seed in (0, 1)}


def sweep(runs, *overrides):
    command = [sys.executable, "-m", "zobench", "-m", "hydra/launcher=slurm", *(f"hydra.launcher.{x}" for x in SMALL)]
    with (runs / "log").open("w") as log:
        return subprocess.Popen([*command, *CELL, *overrides, f"runs_dir={runs}"], cwd=runs, stdout=log, stderr=log)


def batch(runs, *overrides):
    """sbatch of one cell with scripts/slurm/cell.sh; the job's number."""
    script = str(ROOT / "scripts/slurm/cell.sh")
    command = ["sbatch", "--parsable", "-o", str(runs / "log"), script, *CELL, *overrides, f"runs_dir={runs}"]
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


wait_for = partial(waiting.wait_for, seconds=240, every=0.1)


def rows(runs):
    return [json.loads((directory / "summary.json").read_text()) for directory in directories(runs)]


def training(runs, cells):
    at = [(directory / "metrics.jsonl").read_bytes().count(b"\n") for directory in directories(runs)]
    return len(at) == cells and min(at) > 40


def assert_same(runs, undisturbed):
    found = rows(runs)
    for row in found:
        for key in ("state", "weights_checksum", "best_weights_checksum", "test/loss", "dev/loss"):
            assert row[key] == undisturbed[row["seed"]][key], key
    return found


def jobs():
    return subprocess.run(["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()


def tell(*command):
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def test_a_sweep(tmp_path, undisturbed):
    assert sweep(tmp_path, "seed=0,1").wait(timeout=400) == 0, (tmp_path / "log").read_text()
    assert [row["restarts"] for row in assert_same(tmp_path, undisturbed)] == [0, 0]


def test_a_preempted_sweep_comes_back(tmp_path, undisturbed):
    process = sweep(tmp_path, "seed=0,1")
    wait_for(lambda: training(tmp_path, 2))
    tell("sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    wait_for(lambda: [row["state"] for row in rows(tmp_path)] == ["interrupted"] * 2)
    assert all(row["reason"].startswith("SIGTERM after step") for row in rows(tmp_path))
    assert process.wait(timeout=400) == 0, (tmp_path / "log").read_text()
    assert [row["restarts"] for row in assert_same(tmp_path, undisturbed)] == [1, 1]


def test_a_warned_cell_is_resubmitted_by_submitit(tmp_path, undisturbed):
    process = sweep(tmp_path, "seed=0,1")
    wait_for(lambda: training(tmp_path, 2))
    tell("scancel", "--signal=USR2", jobs()[0])
    assert process.wait(timeout=400) == 0, (tmp_path / "log").read_text()
    assert sorted(row["restarts"] for row in assert_same(tmp_path, undisturbed)) == [0, 1]


def test_a_warned_batch_job_requeues_itself(tmp_path, undisturbed):
    number = batch(tmp_path, "seed=0")
    wait_for(lambda: training(tmp_path, 1))
    tell("scancel", "--batch", "--signal=USR1", number)
    wait_for(lambda: f"SLURM job {number} requeued" in (tmp_path / "log").read_text())
    assert rows(tmp_path)[0]["reason"].startswith("SIGUSR1 after step")
    wait_for(lambda: number not in jobs(), seconds=400)
    assert [row["restarts"] for row in assert_same(tmp_path, undisturbed)] == [1]


def test_a_cancelled_batch_job_stays_away(tmp_path):
    number = batch(tmp_path, "seed=0")
    wait_for(lambda: training(tmp_path, 1))
    tell("scancel", number)
    wait_for(lambda: number not in jobs())
    time.sleep(8)  # longer than a requeued job waits
    assert number not in jobs()
    assert [(row["state"], row["restarts"]) for row in rows(tmp_path)] == [("interrupted", 0)]
