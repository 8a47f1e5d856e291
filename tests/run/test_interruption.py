"""Runs that do not end well: signals, kill -9, a full disk, divergence. Nothing paid for is lost or falsified."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.tiny_runs import ROOT, TINY, lines_of, series, strictly, summary_of

from zobench.config.signature import compose
from zobench.record import checkpoint
from zobench.run.runner import run

STEPS = 240
LONG = (*TINY, f"steps={STEPS}", "log_every=1", "eval_every=60", "save_every=7")
LR = "method.lr=1e-3"


def start(runs, *overrides, **options):
    """``python -m zobench`` on the long run, as a process."""
    command = [sys.executable, "-m", "zobench", *LONG, f"runs_dir={runs}", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=runs, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def stop(process, runs, number, after):
    """Send a signal once metrics.jsonl has ``after`` lines; (exit code, stderr, run directory)."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        found = list(runs.glob("*/*/*/*/metrics.jsonl"))
        if found and found[0].read_bytes().count(b"\n") >= after:
            break
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    return process.returncode, error, found[0].parent


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(row, directory) of the long run that nobody disturbed."""
    row = run(compose(*LONG, LR, f"runs_dir={tmp_path_factory.mktemp('undisturbed')}"))
    return row, Path(row["directory"])


def assert_same(row, undisturbed):
    """The run that was stopped and went on is the run that was not stopped."""
    reference, reference_directory = undisturbed
    directory = Path(row["directory"])
    counted = ("state", "steps", "forwards", "examples_seen", "tokens_seen", "best_step", "best_forwards")
    measured = ("weights_checksum", "test/loss", "dev/loss", "test_metric", "dev_metric", "zero_shot/test/loss")
    for key in (*counted, *measured):
        assert row[key] == reference[key], key
    assert series(directory) == series(reference_directory)
    assert [line[0] for line in lines_of(directory, "trajectory.jsonl")[1:]] == list(range(1, STEPS + 1))
    assert lines_of(directory, "trajectory.jsonl") == lines_of(reference_directory, "trajectory.jsonl")


def go_on(runs):
    return run(compose(*LONG, LR, f"runs_dir={runs}"))


def test_ctrl_c(tmp_path, undisturbed):
    code, error, directory = stop(start(tmp_path, LR), tmp_path, signal.SIGINT, after=20)
    assert code == 130
    assert "the same command goes on" in error
    assert "Traceback" not in error
    row = summary_of(directory)
    assert row["state"] == "interrupted"
    assert row["reason"] == f"SIGINT after step {row['steps']} of {STEPS}"
    assert 15 < row["steps"] < STEPS
    last = series(directory)[0][-1]
    assert last[0] == row["steps"] == checkpoint.load(directory / "checkpoint")["step"]
    assert_same(go_on(tmp_path), undisturbed)
    assert summary_of(directory)["restarts"] == 1


def test_ctrl_c_while_evaluating_stops_at_once(tmp_path):
    slow = [f"task.splits.mini.{split}=16" for split in ("dev", "test")]
    process = start(tmp_path, "method=zeroshot", "task=squad", "eval_batch_size=1", *slow)
    while process.poll() is None and not list(tmp_path.glob("*/*/*/*/environment.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in error) == (130, False)
    (directory,) = tmp_path.glob("*/*/*/*")
    assert summary_of(directory)["state"] == "interrupted"


def test_termination_then_a_full_disk(tmp_path, undisturbed):
    code, error, directory = stop(start(tmp_path, LR), tmp_path, signal.SIGTERM, after=10)
    row = summary_of(directory)
    assert (code, row["state"]) == (130, "interrupted")
    assert row["reason"].startswith("SIGTERM after step")
    reached = row["steps"]

    # No file may grow past 200 kB: the metrics fit, the best weights (1 MB) of step 60 do not.
    process = start(tmp_path, LR, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in error
    assert error.startswith("zobench: ")
    assert "checkpoint" in error  # which file could not be written
    assert "too large" in error.lower()  # the system's reason: here EFBIG, ENOSPC on a full disk
    row = summary_of(directory)
    assert row["state"] == "failed"
    assert "checkpoint" in row["reason"]
    assert reached <= checkpoint.load(directory / "checkpoint")["step"] < 60  # the earlier one is whole

    assert_same(go_on(tmp_path), undisturbed)


@pytest.mark.parametrize("minutes", ["null", "0"], ids=["trajectory", "snapshots"])
def test_kill_9(tmp_path, undisturbed, minutes):
    """Weights come back along the trajectory from the base model, or from the snapshot in each checkpoint."""
    process = start(tmp_path, LR, f"snapshot_minutes={minutes}")
    code, _, directory = stop(process, tmp_path, signal.SIGKILL, after=30)
    assert code == -signal.SIGKILL
    assert summary_of(directory)["state"] == "running"
    for line in (directory / "metrics.jsonl").read_text().splitlines()[:-1]:
        strictly(line)
    folder = directory / "checkpoint"
    saved = checkpoint.load(folder)["step"]
    assert (checkpoint.load_snapshot(folder, saved) is not None) == (minutes == "0")
    assert saved >= 21
    assert saved % 7 == 0
    # What a kill in the middle of a write may leave: a torn line, a half-written checkpoint.
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "forw')
    half = folder / ".step-00000035.1"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")

    assert_same(go_on(tmp_path), undisturbed)
    assert not half.exists()


def test_kill_9_before_the_first_checkpoint(tmp_path, undisturbed):
    """The record starts anew: nothing of the first start is in it twice."""
    _, reference = undisturbed
    directory = tmp_path / reference.relative_to(reference.parents[3])
    directory.mkdir(parents=True)
    for name, n in (("metrics.jsonl", 4), ("trajectory.jsonl", 3)):
        lines = (reference / name).read_text().splitlines()[:n]
        (directory / name).write_text("".join(f"{line}\n" for line in lines) + '{"step": 4, "to')
    (directory / "summary.json").write_text('{"state": "running", "restarts": 0}\n')
    assert_same(go_on(tmp_path), undisturbed)


@pytest.mark.parametrize("steps", [1, 6])
def test_divergence_is_a_result(tmp_path, steps):
    cfg = compose(*TINY, f"runs_dir={tmp_path}", f"steps={steps}", "method.lr=1e30", "log_every=1")
    row = run(cfg)
    assert row["state"] == "diverged"
    assert "lower method.lr" in row["reason"]
    directory = Path(row["directory"])
    assert summary_of(directory)["state"] == "diverged"
    lines_of(directory)
    assert run(cfg)["state"] == "diverged"  # known, not run again
    assert run(cfg)["config_hash"] == row["config_hash"]
