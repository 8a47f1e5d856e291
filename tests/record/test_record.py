"""What a finished run leaves behind: the files, the row, the ledger, and what the same command does next."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from helpers.tiny_runs import TINY, lines_of, summary_of

from zobench.config.signature import compose
from zobench.errors import UserError
from zobench.record import checkpoint
from zobench.run.runner import run
from zobench.zo.slot import make_slots

#: the keys that shared/design.md, "A run's record", demands; one line per clause of it
DEMANDED = (
    "state", "reason", "method", "variant", "model", "task", "tuning", "protocol",
    "seed", "data_seed", "noise_seed", "order_seed", "init_seed",
    "test_metric", "test_metric_stderr", "dev_metric", "dev_metric_stderr", "test/majority", "zero_shot/test/accuracy",
    "best_step", "best_forwards",
    "steps", "forwards", "examples_seen", "tokens_seen",
    "wall_seconds", "gpu_hours", "cpu_hours", "forward_seconds", "outside_seconds",
    "peak_gib", "weights_gib", "method_state_gib", "rest_gib", "memory_measured_by",
    "device", "dtype", "versions", "git_commit", "config_hash", "weights_checksum",
)  # fmt: skip


def cell(runs, *overrides):
    return run(compose(*TINY, f"runs_dir={runs}", "steps=4", *overrides))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished MeZO run of 4 steps: (row, directory)."""
    row = cell(tmp_path_factory.mktemp("record"), "log_every=1", "eval_every=2", "method.lr=1e-3", "keep_weights=true")
    return row, Path(row["directory"])


def test_the_directory_is_complete(finished):
    _, directory = finished
    files = {"config.yaml", "environment.json", "metrics.jsonl", "trajectory.jsonl", "summary.json"}
    found = {entry.name for entry in directory.iterdir()}
    assert files | {"predictions.parquet", "checkpoint"} <= found
    assert not {name for name in found - {".lock"} if name.startswith(".")}  # no scratch files
    assert not any(path.suffix in (".pt", ".pkl", ".bin") for path in directory.rglob("*"))  # no pickles
    environment = json.loads((directory / "environment.json").read_text())
    assert {"git_commit", "python", "device", "threads", "versions"} <= set(environment)
    assert environment["threads"] == 1
    assert torch.__version__.startswith(environment["versions"]["torch"])  # whose build may be unnamed: 2.13.0


@pytest.mark.parametrize("key", DEMANDED)
def test_the_row_has_what_the_design_demands(finished, key):
    row, directory = finished
    assert key in row
    assert key in json.loads((directory / "summary.json").read_text())


def test_the_row_is_consistent(finished):
    row, directory = finished
    stored = summary_of(directory)
    assert {k: v for k, v in stored.items() if k != "restarts"} == {k: v for k, v in row.items() if k != "restarts"}
    assert (row["state"], row["reason"], row["device"]) == ("finished", None, "cpu")
    assert (row["examples_seen"], row["train_examples"], row["gpu_hours"]) == (16, 8, 0.0)
    assert row["tokens_seen"] > row["examples_seen"]
    assert row["forward_seconds"] + row["outside_seconds"] == pytest.approx(row["train_seconds"])
    assert row["best_forwards"] == 2 * row["best_step"]
    assert row["weights_gib"] * 2**30 == 4 * row["parameters"]
    assert row["forward_path"] == "trimmed"
    parts = row["weights_gib"] + row["method_state_gib"] + row["cache_gib"] + row["rest_gib"]
    assert parts == pytest.approx(row["peak_gib"])


def test_the_stored_config_is_resolved_and_gives_the_same_directory(finished):
    from omegaconf import OmegaConf

    row, directory = finished
    stored = OmegaConf.load(directory / "config.yaml")
    assert "${" not in (directory / "config.yaml").read_text()
    assert (stored.method.lr, stored.choices.method, stored.noise_seed) == (1e-3, "mezo", 0)
    assert stored.out.endswith(row["config_hash"])


def test_metrics_lines(finished):
    _, directory = finished
    lines = lines_of(directory)
    train = [line for line in lines if "train/loss" in line]
    keys = {"step", "forwards", "train/loss", "projected_gradient", "lr", "train_seconds"}
    assert [(line["step"], line["forwards"]) for line in train] == [(1, 2), (2, 4), (3, 6), (4, 8)]
    assert all(keys <= set(line) for line in train)
    dev = [line for line in lines if "dev/loss" in line]
    assert [line["step"] for line in dev] == [2, 4]
    assert all({"forwards", "dev/accuracy", "dev/accuracy_stderr", "dev/auc"} <= set(line) for line in dev)
    assert [line["step"] for line in lines if "zero_shot/test/loss" in line] == [0]
    assert "final/test/loss" in lines[-1]


def test_the_checksum_is_that_of_the_best_checkpoint(finished):
    row, directory = finished
    weights = checkpoint.load_best(directory / "checkpoint", row["best_step"])
    assert checkpoint.checksum(make_slots(weights.items())) == row["best_weights_checksum"]


def test_the_trajectory_has_one_line_per_step(finished):
    _, directory = finished
    head, *lines = lines_of(directory, "trajectory.jsonl")
    assert head["missed"] == []
    assert [step for step, *_ in lines] == [1, 2, 3, 4]
    gradients = [line["projected_gradient"] for line in lines_of(directory) if "projected_gradient" in line]
    assert [(plus - minus) / 2e-3 for _, plus, minus, _ in lines] == gradients


@pytest.mark.parametrize(("task", "metric"), [("sst2", "accuracy"), ("squad", "f1")])
def test_predictions_average_to_the_metric(tmp_path, task, metric):
    sizes = [f"task.splits.mini.{split}=4" for split in ("train", "dev", "test")]
    row = run(compose(*TINY[:5], f"task={task}", *sizes, f"runs_dir={tmp_path}", "steps=1"))
    table = pq.read_table(Path(row["directory"]) / "predictions.parquet").to_pylist()
    for split in ("dev", "test"):
        scores = [line["score"] for line in table if line["split"] == split]
        assert len(scores) == row[f"{split}/n"] == 4
        assert sum(scores) / 4 == pytest.approx(row[f"{split}/{metric}"])
    assert row["test_metric"] == row[f"test/{metric}"]


def test_ledger(tmp_path, finished):
    row, _ = finished
    assert (row["steps"], row["forwards"], row["backwards"]) == (4, 8, 0)
    row = cell(tmp_path, "forwards=10", "steps=null")
    assert (row["steps"], row["forwards"]) == (5, 10)
    row = cell(tmp_path, "forwards=11", "steps=null", "method.probes=2")
    assert (row["steps"], row["forwards"]) == (2, 8)
    row = cell(tmp_path, "method=adamw")
    assert (row["steps"], row["forwards"], row["backwards"]) == (4, 4, 4)
    row = cell(tmp_path, "method=zeroshot")
    assert (row["state"], row["steps"], row["forwards"], row["backwards"]) == ("finished", 0, 0, 0)
    assert row["test_metric"] == row["zero_shot/test/accuracy"]
    assert lines_of(row["directory"], "trajectory.jsonl") == []


def test_a_finished_run_is_not_repeated_unless_told(tmp_path, capsys):
    first = cell(tmp_path)
    metrics = Path(first["directory"]) / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns
    capsys.readouterr()
    again = cell(tmp_path, "save_every=1")  # not a setting that changes results
    said = capsys.readouterr().out
    assert "overwrite=true" in said
    assert first["directory"] in said.replace("\n", "")
    assert metrics.stat().st_mtime_ns == before
    assert again["weights_checksum"] == first["weights_checksum"]
    told = cell(tmp_path, "overwrite=true")
    assert metrics.stat().st_mtime_ns > before
    assert (told["weights_checksum"], told["directory"]) == (first["weights_checksum"], first["directory"])


def test_seeds(tmp_path):
    rows = [cell(tmp_path / folder, f"seed={seed}") for folder, seed in (("a", 0), ("b", 0), ("c", 1))]
    checksums = [row["weights_checksum"] for row in rows]
    assert checksums[0] == checksums[1] != checksums[2]
    assert rows[0]["config_hash"] == rows[1]["config_hash"] != rows[2]["config_hash"]
    assert len({row["rows_hash"] for row in rows}) == 1  # the data have their own seed


def test_a_directory_in_use_is_refused(tmp_path, finished):
    _, directory = finished
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, directory / ".lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(UserError, match="another process"):
                cell(directory.parents[3], "log_every=1", "eval_every=2", "method.lr=1e-3", "overwrite=true")
        finally:
            other.kill()
    assert json.loads((directory / "summary.json").read_text())["state"] == "finished"
