"""Sweeps run: what is skipped, what goes on, what fails and is tried again. Real runs and real files."""

import fcntl
import json
import shutil
import signal
import weakref
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.commands import command
from helpers.processes import Zobench
from helpers.tiny_runs import summary_of
from helpers.waiting import wait_for

import zobench
from zobench.run import build

ROOT = Path(zobench.__file__).resolve().parent.parent
TINY = (
    "model=tiny-opt", "task=rte", "wandb=disabled", "threads=1", "steps=4", "batch_size=4",
    "task.splits.mini.train=8", "task.splits.mini.dev=8", "task.splits.mini.test=8",
)  # fmt: skip


def sweep(*arguments, cwd):
    return command("zobench.sweep", *arguments, cwd=cwd)


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
    words = ("-m", "seed=0,1", "data=mini", *TINY, "runs_dir=r")
    assert command("zobench", *words, cwd=tmp_path).returncode == 0
    first, second = sorted((tmp_path / "r").glob("*/*/*/*"))
    finished = summary_of(second)
    shutil.rmtree(first)
    # Killed: its last word is that it runs, and nobody holds the lock.
    (second / "summary.json").write_text(json.dumps(finished | {"state": "running"}))
    with running(first):
        ended = command("zobench", *words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "sweep of 2 cells: 1 running, 1 interrupted; 1 to run" in ended.stdout
    assert json.loads((first / "summary.json").read_text())["data"] == "elsewhere"
    again = json.loads((second / "summary.json").read_text())
    assert (again["state"], again["restarts"]) == ("finished", 1)
    assert again["weights_checksum"] == finished["weights_checksum"]


def test_ctrl_c_ends_the_sweep_with_its_overview_and_the_rest_waits(tmp_path):
    long = [word if not word.startswith("steps") else "steps=100000" for word in TINY]
    child = Zobench(tmp_path, "-m", "seed=0,1", "data=mini", *long, "runs_dir=r", "log_every=1")
    try:
        wait_for(lambda: any("train/loss" in path.read_text() for path in tmp_path.rglob("metrics.jsonl")))
        looked = command("zobench.sweep", *_own_grid(tmp_path, long), "--status", cwd=tmp_path)
        assert "2 cells: 1 running, 1 waiting; done in about" in looked.stdout
        assert "running: rte/tiny-opt/mezo/" in looked.stdout
    finally:
        child.send_signal(signal.SIGINT)
        code, out, _ = child.wait()
    assert code == 130
    assert "2 cells: 1 interrupted, 1 waiting" in out


def _own_grid(folder, words):
    (folder / "own.yaml").write_text(f"lines:\n  - data=mini {' '.join(words)} seed=0,1\n")
    return "own.yaml", "runs_dir=r"


@pytest.mark.skipif(find_spec("optuna") is None, reason="needs the extra 'search'")
def test_a_search_survives_bad_trials_records_all_and_repeats_without_running(tmp_path):
    start = "model.start_token.native=choice(a,nosuch)"
    words = ("search=mezo", start, "hydra.sweeper.n_trials=5", "data=mini", *TINY, "runs_dir=r")
    ended = command("zobench", *words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(path.read_text()) for path in (tmp_path / "r").rglob("summary.json")]
    assert sorted({row["state"] for row in rows}) == ["failed", "finished"]
    assert len(rows) == 5
    assert all(1e-8 <= row["method.lr"] <= 1e-5 for row in rows)
    best = max(row["dev_metric"] for row in rows if row["state"] == "finished")
    assert f"best dev metric {best:.3f}: method.lr=" in ended.stdout
    assert "model.start_token.native=a" in ended.stdout

    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("predictions.parquet")}
    ended = command("zobench", *words, cwd=tmp_path)
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


def test_a_cell_does_not_load_its_model_beside_that_of_the_cell_before(tmp_path, monkeypatch):
    before, held, alive = build.build_trained, [], []

    def watched(*arguments):
        alive.append(sum(model() is not None for model in held))
        trained = before(*arguments)
        held.append(weakref.ref(trained.loaded.model))
        return trained

    monkeypatch.setattr(build, "build_trained", watched)
    ended = command("zobench", "-m", "data=mini", "method=mezo", "seed=0,1", *TINY, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert alive == [0, 0]


def test_cells_that_cannot_be_overwritten_are_failures_and_keep_their_record(tmp_path):
    words = (*TINY, "data=mini", "runs_dir=r", "seed=0,1")
    assert command("zobench", "-m", *words, cwd=tmp_path).returncode == 0
    before = changes(tmp_path / "r")
    local = ("data=local", f"data.dir={tmp_path}/nowhere", "data.splits=mini")
    ended = command("zobench", "-m", *(w for w in words if w != "data=mini"), *local, "overwrite=true", cwd=tmp_path)
    assert ended.returncode == 1
    assert "2 cells: 2 failed" in ended.stdout
    assert ended.stderr.count("has no train") == 2
    assert {path: changed for path, changed in changes(tmp_path / "r").items() if path in before} == before


def test_a_sweep_clears_the_checkpoints_that_a_kill_left(tmp_path):
    words = (*TINY, "data=mini", "runs_dir=r", "seed=0,1")
    command("zobench", "-m", *words, cwd=tmp_path)
    for path in (tmp_path / "r").rglob("summary.json"):
        (path.parent / "checkpoint").mkdir()
        (path.parent / "checkpoint/state.json").write_text("{}")
        (path.parent / "checkpoint/best-00000004.safetensors").touch()
    assert command("zobench", "-m", *words, cwd=tmp_path).returncode == 0
    assert not list((tmp_path / "r").rglob("checkpoint"))
