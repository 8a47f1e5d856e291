"""Launchers as a newcomer meets them: presets, mistakes, and what becomes of the processes of a stopped sweep."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import command
from helpers.waiting import directories, wait_for

import zobench
from zobench.config import plugins
from zobench.config.folders import conf_dir
from zobench.config.overrides import FrontDoor
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.record import checkpoint
from zobench.run.runner import run

ROOT = Path(zobench.__file__).resolve().parent.parent
STEPS = 200
CELL = (
    "model=tiny-opt", "task=sst2", "data=mini", "wandb=disabled", "threads=1", "batch_size=4", f"steps={STEPS}",
    "method.lr=1e-3", "log_every=1", "eval_every=50", "save_every=7",
    "task.splits.mini.dev=8", "task.splits.mini.test=8",
)  # fmt: skip


def refused(*arguments, folders=()):
    with pytest.raises(ConfigError) as caught:
        FrontDoor([conf_dir(), *folders]).check(["-m", *arguments])
    return str(caught.value)


@pytest.fixture
def bare(monkeypatch):
    """An installation without extras: no module of a Hydra plugin is found."""
    monkeypatch.setattr(plugins, "find_spec", lambda module: None)


def test_a_launcher_whose_package_is_missing(bare, tmp_path):
    said = "hydra/launcher=joblib: its Hydra plugin is not installed; pip install 'zobench[joblib]'"
    assert refused("hydra/launcher=joblib") == said
    ended = command("zobench", "-m", "seed=0,1", "hydra/launcher=joblib", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (2, f"zobench: {said}\n")


def test_a_preset_of_ones_own_is_what_it_builds_on(bare, tmp_path):
    folder = tmp_path / "hydra" / "launcher"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults: [slurm]\npartition: gpu\n")
    (folder / "near.yaml").write_text("defaults: [basic]\n")
    FrontDoor([conf_dir(), tmp_path]).check(["-m", "hydra/launcher=near"])
    said = refused("hydra/launcher=mine", folders=[tmp_path])
    assert said == "hydra/launcher=mine: its Hydra plugin is not installed; pip install 'zobench[slurm]'"


def test_a_launcher_of_an_experiment(bare, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "big.yaml").write_text("defaults:\n  - override /hydra/launcher: slurm\n")
    assert "zobench[slurm]" in refused("experiment=big", folders=[tmp_path])


def test_a_launcher_that_zobench_does_not_know_is_left_to_hydra():
    FrontDoor([conf_dir()]).check(["-m", "hydra/launcher=ray"])


def test_a_misspelt_launcher():
    said = refused("hydra/launcher=slrum")
    assert "did you mean hydra/launcher=slurm?" in said
    assert "basic, joblib, local, slurm, submitit_local, submitit_slurm" in said


def test_a_launcher_without_a_sweep():
    with pytest.raises(ConfigError, match="add -m"):
        FrontDoor([conf_dir()]).check(["hydra/launcher=slurm"])


def test_help_names_them():
    text = FrontDoor([conf_dir()]).everything()
    for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        assert f"    {path.stem} " in text


@pytest.mark.parametrize("preset", ["slurm", "local", "joblib"])
def test_presets_compose_with_their_plugins(preset, tmp_path):
    """Their keys are the plugin's: a misspelt one would be refused by its schema."""
    words = (f"hydra/launcher={preset}", "--cfg", "hydra", "-p", "hydra.launcher")
    found = command("zobench", *words, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "_target_: hydra_plugins." in found.stdout


def sweep(runs, *overrides):
    words = [sys.executable, "-m", "zobench", "-m", *CELL, f"runs_dir={runs}", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (runs / "log").open("a") as log:
        return subprocess.Popen(words, cwd=runs, env=environment, stdout=log, stderr=log)


def row(directory):
    return json.loads((directory / "summary.json").read_text())


def steps_of(directory):
    return (directory / "metrics.jsonl").read_bytes().count(b"\n")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    runs = tmp_path_factory.mktemp("undisturbed")
    return {seed: run(compose(*CELL, f"seed={seed}", f"runs_dir={runs}")) for seed in (0, 1)}


def assert_same(runs, undisturbed):
    rows = [row(directory) for directory in directories(runs)]
    assert {r["seed"]: r["weights_checksum"] for r in rows} == {
        seed: r["weights_checksum"] for seed, r in undisturbed.items() if seed in {r["seed"] for r in rows}
    }
    assert {r["state"] for r in rows} == {"finished"}
    return rows


def test_a_stopped_sweep_stops_its_workers_first_and_a_killed_cell_leaves_its_sibling_alone(tmp_path, undisturbed):
    """SIGTERM to a sweep of joblib alone, then to one of the two processes with which it goes on."""
    process = sweep(tmp_path, "hydra/launcher=joblib", "seed=0,1")
    wait_for(lambda: sum(steps_of(directory) > 10 for directory in directories(tmp_path)) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=90) == 130
    first, second = directories(tmp_path)
    for directory in (first, second):
        found = row(directory)
        assert found["state"] == "interrupted"
        assert found["reason"] == f"SIGTERM after step {found['steps']} of {STEPS}"
        assert found["steps"] == checkpoint.load(directory / "checkpoint")["step"]

    before = [steps_of(directory) for directory in (first, second)]
    process = sweep(tmp_path, "hydra/launcher=joblib", "seed=0,1")
    wait_for(lambda: all(steps_of(d) > n + 5 for d, n in zip((first, second), before, strict=True)))
    os.kill(holder(first / ".lock"), signal.SIGTERM)
    assert process.wait(timeout=90) == 1
    assert [row(first)["state"], row(second)["state"]] == ["interrupted", "finished"]
    said = (tmp_path / "log").read_text()
    assert "a cell was interrupted by SIGTERM; the same command goes on" in said
    assert "Traceback" not in said

    run(compose(*CELL, f"seed={row(first)['seed']}", f"runs_dir={tmp_path}"))
    assert [r["restarts"] for r in assert_same(tmp_path, undisturbed)] == [2, 1]


def test_submitit_resubmits_a_warned_cell(tmp_path, undisturbed):
    """SIGUSR2 to the cell's process, as a cluster sends it: first the checkpoint, then submitit's turn."""
    process = sweep(tmp_path, "hydra/launcher=local", "seed=0")
    wait_for(lambda: [d for d in directories(tmp_path) if steps_of(d) > 10])
    (directory,) = directories(tmp_path)
    os.kill(holder(directory / ".lock"), signal.SIGUSR2)
    wait_for(lambda: row(directory)["state"] == "interrupted")
    assert row(directory)["reason"] == f"SIGUSR2 after step {row(directory)['steps']} of {STEPS}"
    assert process.wait(timeout=180) == 0, (tmp_path / "log").read_text()
    assert {r["restarts"] for r in assert_same(tmp_path, undisturbed)} == {1}


def holder(path):
    """The process that holds the file open."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(entry) == str(path) for entry in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError(f"nobody holds {path}")
