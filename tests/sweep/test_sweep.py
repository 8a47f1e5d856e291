"""Sweeps run: what is skipped, what goes on, what fails and is tried again. Real processes and real files."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

import zobench
from zobench.sweep import state
from zobench.sweep.estimate import Costs, forwards
from zobench.sweep.overview import Overview
from zobench.sweep.plan import PlannedCell

ROOT = Path(zobench.__file__).resolve().parent.parent
TINY = (
    "model=tiny-opt", "task=rte", "wandb=disabled", "threads=1", "steps=4", "batch_size=4",
    "task.splits.mini.train=8", "task.splits.mini.dev=8", "task.splits.mini.test=8",
)  # fmt: skip
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def python(module, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True
    )


def sweep(*arguments, cwd):
    return python("zobench.sweep", *arguments, cwd=cwd)


def states(runs):
    """State of each run directory, by the folder of its data and its seed."""
    rows = [json.loads(path.read_text()) for path in sorted(runs.rglob("summary.json"))]
    return {(row["data"], row["seed"]): row["state"] for row in rows}


def changes(runs):
    return {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file() and path.name != ".lock"}


@contextmanager
def running(directory):
    """A run directory as a process that is at work holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "summary.json").write_text(json.dumps({"state": "running", "data": "elsewhere", "seed": 9}))
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def grid(tmp_path):
    """Four cells, of which two fail: their data is not there yet."""
    common = " ".join(TINY)
    path = tmp_path / "grid.yaml"
    local = f"data=local data.dir={tmp_path}/data data.splits=mini task.splits.mini.test=6"
    path.write_text(f"# Four cells\ncommon: {common}\nlines:\n  - {local} seed=0,1\n  - data=mini seed=0,1\n")
    return path


def test_a_sweep_goes_on_past_failures_and_runs_nothing_twice(grid, tmp_path):
    runs = tmp_path / "r"
    ended = sweep(grid.name, "runs_dir=r", cwd=tmp_path)
    assert states(runs) == {
        ("local", 0): "failed", ("local", 1): "failed", ("mini", 0): "finished", ("mini", 1): "finished",
    }  # fmt: skip
    assert ended.returncode == 1
    assert "sweep of 4 cells: 4 waiting; 4 to run" in ended.stdout
    assert "4 cells: 2 finished, 2 failed" in ended.stdout
    assert "2 of 4 cells failed" in ended.stderr
    assert f"{tmp_path}/data" in ended.stderr  # the reason
    assert "--retry-failed" in ended.stderr
    assert "Traceback" not in ended.stderr

    before = changes(runs)
    kept = {path: changed for path, changed in before.items() if '"state": "finished"' in _summary_of(path)}
    assert kept
    ended = sweep(grid.name, "runs_dir=r", cwd=tmp_path)
    assert (ended.returncode, changes(runs)) == (1, before)
    assert "4 cells: 2 finished, 2 failed; 0 to run" in ended.stdout
    assert f"{tmp_path}/data" in ended.stderr

    shutil.copytree(ROOT / "zobench" / "data" / "mini" / "rte", tmp_path / "data" / "rte")
    dry = sweep(grid.name, "runs_dir=r", "--dry-run", "--retry-failed", cwd=tmp_path)
    assert (dry.returncode, changes(runs)) == (0, before)
    assert "2 would run" in dry.stdout
    assert dry.stdout.count("failed: r/") == 2  # each with its reason
    ended = sweep(grid.name, "runs_dir=r", "--retry-failed", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert set(states(runs).values()) == {"finished"}
    assert kept.items() <= changes(runs).items()


def _summary_of(path):
    """The text of the summary beside or above a file of a run directory."""
    return next((folder / "summary.json").read_text() for folder in path.parents if (folder / "summary.json").is_file())


def test_a_cell_of_another_process_is_left_alone_and_a_stopped_one_goes_on(tmp_path):
    command = ("-m", "seed=0,1", "data=mini", *TINY, "runs_dir=r")
    assert python("zobench", *command, cwd=tmp_path).returncode == 0
    first, second = sorted((tmp_path / "r").glob("*/*/*/*"))
    finished = json.loads((second / "summary.json").read_text())
    shutil.rmtree(first)
    # Killed: its last word is that it runs, and nobody holds the lock.
    (second / "summary.json").write_text(json.dumps(finished | {"state": "running"}))
    with running(first):
        ended = python("zobench", *command, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "sweep of 2 cells: 1 running, 1 interrupted; 1 to run" in ended.stdout
    assert json.loads((first / "summary.json").read_text())["data"] == "elsewhere"
    again = json.loads((second / "summary.json").read_text())
    assert (again["state"], again["restarts"]) == ("finished", 1)
    assert again["weights_checksum"] == finished["weights_checksum"]


def test_ctrl_c_ends_the_sweep_with_its_overview_and_the_rest_waits(tmp_path):
    long = [word if not word.startswith("steps") else "steps=100000" for word in TINY]
    command = [sys.executable, "-m", "zobench", "-m", "seed=0,1", "data=mini", *long, "runs_dir=r", "log_every=1"]
    child = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not any("train/loss" in path.read_text() for path in tmp_path.rglob("metrics.jsonl")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        looked = python("zobench.sweep", *_own_grid(tmp_path, long), "--status", cwd=tmp_path)
        assert "2 cells: 1 running, 1 waiting; done in about" in looked.stdout
        assert "running: rte/tiny-opt/mezo/" in looked.stdout
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "2 cells: 1 interrupted, 1 waiting" in out


def _own_grid(folder, words):
    (folder / "own.yaml").write_text(f"lines:\n  - data=mini {' '.join(words)} seed=0,1\n")
    return "own.yaml", "runs_dir=r"


@pytest.mark.skipif(find_spec("optuna") is None, reason="needs the extra 'search'")
def test_a_search_survives_bad_trials_records_all_and_repeats_without_running(tmp_path):
    command = ("search=mezo", "method.eps=choice(0,1e-3)", "hydra.sweeper.n_trials=5", "data=mini", *TINY, "runs_dir=r")
    ended = python("zobench", *command, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(path.read_text()) for path in (tmp_path / "r").rglob("summary.json")]
    assert sorted({row["state"] for row in rows}) == ["failed", "finished"]
    assert len(rows) == 5
    assert all(1e-8 <= row["method.lr"] <= 1e-4 for row in rows)
    best = max(row["dev_metric"] for row in rows if row["state"] == "finished")
    assert f"best dev metric {best:.3f}: method.lr=" in ended.stdout
    assert "method.eps=0.001" in ended.stdout

    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("predictions.parquet")}
    ended = python("zobench", *command, cwd=tmp_path)
    assert f"best dev metric {best:.3f}" in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("predictions.parquet")} == finished


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("smok",), "did you mean smoke?"),
        (("smoke", "--launcher", "joblb"), "did you mean hydra/launcher=joblib?"),
        (("smoke", "sed=1", "--dry-run"), "did you mean seed?"),
        (("smoke", "--only", "method=adamw", "--dry-run"), "no cell left; method is one of"),
        (("smoke", "--only", "method=adamw"), "no cell left; method is one of"),
        (("small",), "data.dir=DIR"),
    ],
)
def test_mistakes_are_answered_before_anything_runs(tmp_path, arguments, said):
    ended = sweep(*arguments, cwd=tmp_path)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), ended.stderr
    assert said in ended.stderr
    assert not list(tmp_path.rglob("summary.json"))


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed here")
def test_a_launcher_that_is_not_installed_is_answered_with_its_package(tmp_path):
    ended = python("zobench", "-m", "seed=0,1", "hydra/launcher=ray", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (
        2, "zobench: hydra/launcher=ray: its Hydra plugin is not installed; pip install 'zobench[ray]'\n",
    )  # fmt: skip


def cell(runs, seed=0, **settings):
    choices = {"model": "opt-1.3b", "task": "rte", "method": "mezo", "tuning": "full"}
    found = {"runs_dir": str(runs), "out": f"cell{seed}", "seed": seed, "steps": None, "forwards": None,
             "batch_size": 16, "dtype": "bfloat16", "device": "auto",
             "method": {"lr": 1e-6, "mode": "in_place", "probes": 1}}  # fmt: skip
    return PlannedCell((f"seed={seed}",), 0, f"cell{seed}", found | settings | {"choices": choices})


def test_states_and_progress_come_from_the_files(tmp_path):
    cells = [cell(tmp_path, seed, steps=100) for seed in range(4)]
    cells[0].directory.mkdir()
    (cells[0].directory / "summary.json").write_text('{"state": "diverged", "reason": "loss"}')
    (cells[2].directory).mkdir()
    (cells[2].directory / "summary.json").write_text("{torn")
    with running(cells[1].directory):
        lines = [{"step": 25, "forwards": 50, "train/loss": 0.5, "train_seconds": 10.0}, {"step": 25, "dev/loss": 1}]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (cells[1].directory / "metrics.jsonl").write_text(text + '{"step": 26, "tor')
        overview = Overview(cells)
        assert [found.name for found in overview.states] == ["diverged", "running", "failed", "waiting"]
        now = state.progress(cells[1].directory, {"steps": 100, "forwards": None})
        assert (now.step, now.fraction, now.loss, now.seconds_left) == (25, 0.25, 0.5, pytest.approx(30.0))
        # 30 s of this cell, and of the one that waits 40 s at this cell's pace, not at the rough estimate's.
        assert overview.seconds_left(Costs([], [ROOT / "conf"])) == pytest.approx(70.0)
    assert Overview(cells).line() == "4 cells: 1 diverged, 1 interrupted, 1 waiting, 1 failed"


def test_costs_come_from_runs_like_the_cell_else_from_the_models_size(tmp_path):
    models = [ROOT / "conf"]
    rough = Costs([tmp_path], models).of(cell(tmp_path))
    # 40,000 forwards of 16 examples of 100 tokens: 2 x 1.3e9 x 1600 operations each, at 125 TFLOP/s.
    assert (rough.rough, rough.gpu, rough.seconds) == (True, True, pytest.approx(40_000 * 2 * 1.3e9 * 1600 / 125e12))
    assert rough.gib == pytest.approx(1.15 * 2 * 1.3e9 / 2**30 + 1)
    row = {"state": "finished", "model": "opt-1.3b", "task": "rte", "tuning": "full", "dtype": "bfloat16",
           "batch_size": 16, "forwards": 1000, "peak_gib": 5.0, "device": "cuda"}  # fmt: skip
    for i, (method, seconds) in enumerate([("mezo", 100.0), ("mezo", 120.0), ("mezo", 500.0), ("loren", 900.0)]):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "summary.json").write_text(json.dumps(row | {"method": method, "wall_seconds": seconds}))
    costs = Costs([tmp_path], models)
    known = costs.of(cell(tmp_path, forwards=2000))
    assert (known.rough, known.gpu, known.seconds, known.gib) == (False, True, 240.0, 5.0)
    other = cell(tmp_path, forwards=1000)
    other.settings["choices"]["method"] = "pgap"  # no run of its own: any method's
    assert costs.of(other).seconds == pytest.approx(310.0)
    assert forwards(cell(tmp_path, steps=10)) == 20
    assert forwards(cell(tmp_path, steps=10, forwards=12)) == 12
    other.settings["choices"]["model"] = "of-unknown-size"
    assert costs.of(other).seconds is None


WATCHED = """
import weakref
import zobench.run.build as build
held, made = [], build.build_trained
def watched(*arguments):
    print("held:", sum(model() is not None for model in held))
    subject = made(*arguments)
    held.append(weakref.ref(subject.loaded.model))
    return subject
build.build_trained = watched
from zobench.__main__ import main
main()
"""


def test_a_cell_does_not_load_its_model_beside_that_of_the_cell_before(tmp_path):
    command = [sys.executable, "-c", WATCHED, "-m", "data=mini", "method=mezo", "seed=0,1", *TINY]
    ended = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert re.findall("held: (.)", ended.stdout) == ["0", "0"]
