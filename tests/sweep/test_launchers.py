"""Launchers as a newcomer meets them: presets, mistakes, and what becomes of the processes of a stopped sweep."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import directories, wait_for

import zobench
from zobench.config.folders import conf_dir
from zobench.config.overrides import FrontDoor
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.record import checkpoint
from zobench.run.runner import run

ROOT = Path(zobench.__file__).resolve().parent.parent
STEPS = 100
CELL = (
    "model=tiny-opt", "task=sst2", "data=mini", "wandb=disabled", "threads=1", "batch_size=4", f"steps={STEPS}",
    "method.lr=1e-3", "log_every=1", "eval_every=50", "save_every=7",
)  # fmt: skip


def refused(*arguments, folders=()):
    with pytest.raises(ConfigError) as caught:
        FrontDoor([conf_dir(), *folders]).check(["-m", *arguments])
    return str(caught.value)


def test_a_launcher_whose_package_is_missing():
    assert "pip install 'zobench[ray]'" in refused("hydra/launcher=ray")  # Ray is not among the packages of a checkout


def test_a_preset_of_ones_own_is_what_it_builds_on(tmp_path):
    folder = tmp_path / "hydra" / "launcher"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults: [slurm]\npartition: gpu\n")
    (folder / "far.yaml").write_text("defaults: [ray]\n")
    FrontDoor([conf_dir(), tmp_path]).check(["-m", "hydra/launcher=mine"])
    assert "hydra/launcher=far: its Hydra plugin is not installed" in refused("hydra/launcher=far", folders=[tmp_path])


def test_a_launcher_of_an_experiment(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "big.yaml").write_text("defaults:\n  - override /hydra/launcher: ray\n")
    assert "zobench[ray]" in refused("experiment=big", folders=[tmp_path])


def test_a_misspelt_launcher():
    said = refused("hydra/launcher=slrum")
    assert "did you mean hydra/launcher=slurm?" in said
    assert "basic, joblib, local, ray, slurm, submitit_local, submitit_slurm" in said


def test_a_launcher_without_a_sweep():
    with pytest.raises(ConfigError, match="add -m"):
        FrontDoor([conf_dir()]).check(["hydra/launcher=slurm"])


def test_help_names_them():
    text = FrontDoor([conf_dir()]).help()
    for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        assert f"    {path.stem} " in text


@pytest.mark.parametrize("preset", ["slurm", "local", "joblib"])
def test_presets_compose_with_their_plugins(preset):
    """Their keys are the plugin's: a misspelt one would be refused by its schema."""
    command = [sys.executable, "-m", "zobench", f"hydra/launcher={preset}", "--cfg", "hydra", "-p", "hydra.launcher"]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert found.returncode == 0, found.stderr
    assert "_target_: hydra_plugins." in found.stdout


def sweep(runs, *overrides):
    command = [sys.executable, "-m", "zobench", "-m", *CELL, f"runs_dir={runs}", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (runs / "log").open("w") as log:
        return subprocess.Popen(command, cwd=runs, env=environment, stdout=log, stderr=log)


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


def test_a_stopped_sweep_stops_its_workers_first(tmp_path, undisturbed):
    """SIGTERM to the sweep alone: both cells end after their step, with a checkpoint; they go on."""
    process = sweep(tmp_path, "hydra/launcher=joblib", "seed=0,1")
    wait_for(lambda: sum(steps_of(directory) > 10 for directory in directories(tmp_path)) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=90) == 130
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert len(directories(tmp_path)) == 2
    for directory in directories(tmp_path):
        found = row(directory)
        assert found["state"] == "interrupted"
        assert found["reason"] == f"SIGTERM after step {found['steps']} of {STEPS}"
        assert found["steps"] == checkpoint.load(directory / "checkpoint")["step"]
    for seed in (0, 1):
        run(compose(*CELL, f"seed={seed}", f"runs_dir={tmp_path}"))
    assert {r["restarts"] for r in assert_same(tmp_path, undisturbed)} == {1}


def test_a_killed_cell_leaves_its_sibling_alone(tmp_path, undisturbed):
    """SIGTERM to one process of joblib: the other cell is finished, and the sweep says what happened."""
    process = sweep(tmp_path, "hydra/launcher=joblib", "seed=0,1")
    wait_for(lambda: sum(steps_of(directory) > 10 for directory in directories(tmp_path)) == 2)
    first, second = directories(tmp_path)
    os.kill(holder(first / ".lock"), signal.SIGTERM)
    assert process.wait(timeout=90) == 1
    assert [row(first)["state"], row(second)["state"]] == ["interrupted", "finished"]
    said = (tmp_path / "log").read_text()
    assert "a cell was interrupted by SIGTERM; the same command goes on" in said
    assert "Traceback" not in said


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
