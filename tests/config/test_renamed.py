"""Settings that had another name: typed, in a grid, in a stored run."""

import json

import pytest
from helpers import commands

from zobench.config import renamed
from zobench.config.folders import conf_dir
from zobench.config.options import load_yaml
from zobench.config.overrides import FrontDoor
from zobench.config.renamed import RENAMES
from zobench.errors import ConfigError
from zobench.record import configs, summaries

TINY = (
    "model=tiny-opt", "task=sst2", "data=mini", "wandb=disabled", "threads=1", "steps=2", "batch_size=4",
    "task.splits.mini.train=8", "task.splits.mini.dev=8", "task.splits.mini.test=8",
)  # fmt: skip


@pytest.mark.parametrize("rename", RENAMES, ids=lambda rename: f"{rename.option}.{rename.old}")
def test_a_renamed_setting_is_there_under_its_new_name_alone(rename):
    settings = load_yaml(conf_dir() / rename.group / f"{rename.option}.yaml")
    assert rename.new in settings
    assert rename.old not in settings


def test_an_old_name_that_is_typed_works_and_is_told_once(capsys):
    words = ["method=tezo_m", "method.beta1=0.8"]
    renamed._tell.cache_clear()
    assert [FrontDoor([conf_dir()]).check(words) for _ in range(2)] == [["method=tezo_m", "method.beta=0.8"]] * 2
    assert capsys.readouterr().err == (
        "zobench: method.beta1=0.8: renamed in 0.2, works until 0.4; write method.beta=0.8\n"
    )


def test_an_old_name_that_works_no_more_is_refused_with_the_new_one():
    with pytest.raises(ConfigError, match=r"^method\.beta1=0\.8: renamed in 0\.2; write method\.beta=0\.8$"):
        renamed.typed(["method.beta1=0.8"], {"method": ["tezo_m"]}, version="0.4.0")


def test_a_name_that_another_method_has_is_left_to_it():
    words = ["method=pgap", "method.refresh=50"]
    assert FrontDoor([conf_dir()]).check(words) == words
    assert FrontDoor([conf_dir()]).check(["-m", "method=tezo_m,tezo_adam", "method.beta1=0.8"])[2] == "method.beta1=0.8"


def test_a_line_of_a_grid_may_have_an_old_name(tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text("lines:\n  - method=zo_muon model=tiny-opt data=mini task=sst2 steps=2 method.queries=2\n")
    ended = commands.command("zobench.sweep", str(grid), "--dry-run", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "1 cell" in ended.stdout


def test_a_stored_run_with_an_old_name_is_read_under_the_new_one(tmp_path):
    ended = commands.command("zobench", "method=tezo_m", "method.beta1=0.8", *TINY, "out=run", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    run = tmp_path / "runs" / "run"
    now, row = configs.read(run), summaries.read(run)
    assert (now["method"]["beta"], row["method.beta"]) == (0.8, 0.8)
    _as_of_old(run)
    assert configs.read(run) == now
    assert summaries.read(run)["method.beta"] == 0.8


def _as_of_old(run):
    """Write a record as the version before the rename did, without digests."""
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("  beta: 0.8", "  beta1: 0.8"))
    row = json.loads((run / "summary.json").read_text())
    row["method.beta1"] = row.pop("method.beta")
    kept = {name: value for name, value in row.items() if name not in ("digest", "digests")}
    (run / "summary.json").write_text(json.dumps(kept))
