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
    return subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, env=env, capture_output=True, text=True)


def test_the_wheel_holds_what_a_run_needs(site):
    names = ("conf/config.yaml", "data/mini/sst2/train.jsonl", "models/tiny_tokenizer.json")
    papers = ("report/papers/published/mezo.csv", "report/papers/claims.yaml", "report/papers/references.bib")
    rules = ("rules/frozen.json", "rules/v1/entries.yaml")
    for name in (*names, *papers, *rules, "report/typeset/page.html.j2", "testing/test_contracts.py"):
        assert (site / "zobench" / name).is_file()
    assert not (site / "tests").exists()
    (entry_points,) = site.glob("zobench-*.dist-info/entry_points.txt")
    assert "zobench = zobench.__main__:main" in entry_points.read_text()


def test_the_list_of_options_and_that_of_grids_are_those_of_the_wheel(site, tmp_path):
    found = run(site, tmp_path, "zobench", "--list")
    assert "quickstart" in found.stdout
    assert str(site) in found.stdout
    assert "smoke" in run(site, tmp_path, "zobench.sweep").stdout


def test_a_sweep_from_anywhere_with_a_method_and_a_grid_of_ones_own(site, tmp_path):
    for group in ("method", "sweep"):
        (tmp_path / "mine" / group).mkdir(parents=True)
    text = (site / "zobench" / "conf" / "method" / "mezo.yaml").read_text()
    (tmp_path / "mine" / "method" / "large_step.yaml").write_text(text.replace("lr: 1.0e-6", "lr: 1.0e-2"))
    cell = "method=large_step model=tiny-opt data=mini task=rte steps=2 wandb=disabled threads=1"
    (tmp_path / "mine" / "sweep" / "one.yaml").write_text(f"lines:\n  - {cell}\n")
    found = run(site, tmp_path, "zobench.sweep", "one", "--config-dir", "mine")
    assert found.returncode == 0, found.stderr
    assert "1 cell: 1 finished" in found.stdout
    (path,) = (tmp_path / "runs").rglob("summary.json")
    summary = json.loads(path.read_text())
    assert (summary["state"], summary["method"], summary["method.lr"]) == ("finished", "large_step", 1e-2)
