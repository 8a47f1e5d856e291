"""Records that wandb holds, and the comparison sent to it, read back from its offline files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.written import write_run

from zobench import report
from zobench.errors import UserError
from zobench.report.frames import wandb_runs

ROOT = Path(__file__).resolve().parents[2]
TINY = ("model=tiny-opt", "task=rte", "data=mini", "steps=4", "batch_size=4", "log_every=1", "threads=1")


def started(*command, folder, **environment):
    """A process of its own: wandb reads its environment once, and its service is shared within one."""
    hidden = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder), **environment}
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """A real run mirrored offline: (the folder with its record, a folder with wandb's files alone)."""
    folder = tmp_path_factory.mktemp("mirrored")
    ended = started("zobench", *TINY, f"runs_dir={folder / 'runs'}", "wandb=offline", folder=folder)
    assert ended.returncode == 0, ended.stderr
    (files,) = (folder / "runs").rglob("wandb")
    files.rename(folder / "wandb")
    return folder / "runs", folder / "wandb"


def test_an_offline_file_gives_what_the_record_gives(mirrored):
    record, mirror = (report.load(folder) for folder in mirrored)
    assert (len(record), len(mirror)) == (1, 1)
    one, other = record.iloc[0], mirror.iloc[0]
    assert other["directory"].endswith(".wandb")
    for name in record.columns.drop(["directory", "restarts"]):
        assert one[name] == other[name] or (one[name] is None and other[name] is None), name
    lines, mirrored_lines = report.curves(record), report.curves(mirror)
    for name in ("train/loss", "dev/accuracy", "final/test/loss"):
        shown = [list(found.loc[found[name].notna(), ["step", "forwards", name]].itertuples(index=False, name=None))
                 for found in (lines, mirrored_lines)]  # fmt: skip
        assert shown[0] == shown[1]
        assert shown[0]


def test_a_cut_file_gives_what_was_sent_and_a_foreign_one_is_named(mirrored, tmp_path):
    (source,) = mirrored[1].rglob("*.wandb")
    whole = source.read_bytes()
    (tmp_path / "cut.wandb").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "other.wandb").write_bytes(b"something else")
    assert len(wandb_runs.file_lines(tmp_path / "cut.wandb")) < len(wandb_runs.file_lines(source))
    frame = report.load(tmp_path)
    assert frame.empty
    reasons = dict(frame.attrs["left_out"])
    assert "not a file of wandb's" in reasons[str(tmp_path / "other.wandb")]
    assert "not of a zobench run" in reasons[str(tmp_path / "cut.wandb")]


def test_the_comparison_goes_to_wandb(tmp_path):
    for seed in range(3):
        write_run(tmp_path / "runs", "mezo", seed, test=0.6 + seed / 100)
        write_run(tmp_path / "runs", "kerzoo", seed, test=0.7 + seed / 50)
    ended = started("zobench.report", "runs", "--wandb", "--wandb-group", "trial", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    folder = Path(tmp_path, ended.stdout.split("written: ")[1].split(" (send it with `wandb sync ")[0])
    (path,) = folder.glob("*.wandb")
    runs = [record.run for record in wandb_runs._records(path) if record.HasField("run")]
    assert (runs[-1].run_group, runs[-1].job_type, runs[-1].project) == ("trial", "report", "zobench")
    tables = {re.split(r"_\d+_", file.name)[0]: json.loads(file.read_text()) for file in folder.rglob("*.table.json")}
    assert tables["headline"]["columns"] == ["method", "sst2"]
    assert tables["headline"]["data"][1][0] == "kerzoo"
    numbers = tables["numbers"]
    assert numbers["data"][1][numbers["columns"].index("test_metric")] == pytest.approx(0.72)
    curves = {name: table["data"] for name, table in tables.items() if name.startswith("sst2, tiny-opt, ")}
    assert len(curves) == 3
    (dev,) = (lines for name, lines in curves.items() if "dev accuracy" in name)
    assert [200, "kerzoo", pytest.approx(0.7)] in dev


def test_without_a_key_online_is_refused(tmp_path):
    for seed in range(2):
        write_run(tmp_path / "runs", "mezo", seed)
    ended = started("zobench.report", "runs", "--wandb", folder=tmp_path, WANDB_MODE="online")
    assert ended.returncode == 1
    assert "WANDB_MODE=online: no API key" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = started("zobench.report", "wandb://someone/zobench", folder=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "wandb://someone/zobench: no API key; run `wandb login`" in ended.stderr


def test_an_address_needs_entity_and_project():
    with pytest.raises(UserError, match="expected wandb://ENTITY/PROJECT"):
        report.load("wandb://zobench")
