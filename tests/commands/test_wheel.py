"""zobench as a user installs it: a built wheel, used from a directory that knows nothing of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the unpacked wheel, as pip would leave it."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    for name in ("zobench", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(base / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    zipfile.ZipFile(next((base / "dist").glob("*.whl"))).extractall(base / "site")
    return base / "site"


def run(site, cwd, *arguments):
    env = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-m", "zobench", *arguments], cwd=cwd, env=env, capture_output=True, text=True
    )


def test_the_wheel_holds_what_a_run_needs(site):
    names = ("conf/config.yaml", "data/mini/sst2/train.jsonl", "models/tiny_tokenizer.json")
    for name in (*names, "report/papers/published/mezo.csv", "report/papers/claims.yaml"):
        assert (site / "zobench" / name).is_file()
    assert not (site / "tests").exists()


def test_help_and_a_run_from_anywhere(site, tmp_path):
    found = run(site, tmp_path, "--help")
    assert "quickstart" in found.stdout
    assert str(site) in found.stdout
    found = run(site, tmp_path, "model=tiny-opt", "data=mini", "task=rte", "steps=2", "wandb=disabled", "threads=1")
    assert found.returncode == 0, found.stderr
    summary = json.loads(next((tmp_path / "runs").rglob("summary.json")).read_text())
    assert summary["state"] == "finished"


def test_a_sweep_finds_its_sweeper_and_its_grids(site, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "zobench.sweep", "smoke", "--only", "method=mezo", "--only", "task=rte", "steps=2"]
    found = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "1 cell: 1 finished" in found.stdout
    assert len(list((tmp_path / "runs").rglob("summary.json"))) == 1


def test_a_users_own_options_beside_the_wheel(site, tmp_path):
    (tmp_path / "mine" / "method").mkdir(parents=True)
    text = (site / "zobench" / "conf" / "method" / "mezo.yaml").read_text()
    (tmp_path / "mine" / "method" / "large_step.yaml").write_text(text.replace("lr: 1.0e-6", "lr: 1.0e-2"))
    arguments = ["method=large_step", "model=tiny-opt", "data=mini", "task=rte", "steps=2", "wandb=disabled"]
    found = run(site, tmp_path, "--config-dir", str(tmp_path / "mine"), *arguments)
    assert found.returncode == 0, found.stderr
    summary = json.loads(next((tmp_path / "runs").rglob("summary.json")).read_text())
    assert (summary["method"], summary["method.lr"]) == ("large_step", 1e-2)
