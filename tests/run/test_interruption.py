"""Runs that do not end well: signals, kill -9, a full disk, divergence. Nothing paid for is lost or falsified."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from helpers.processes import Zobench, slowly
from helpers.tiny_runs import TINY, lines_of, series, strictly, summary_of
from helpers.waiting import wait_for

from zobench.config.signature import compose
from zobench.record import checkpoint
from zobench.run.runner import run
from zobench.zo import Method

STEPS = 60
LONG = (*TINY, f"steps={STEPS}", "log_every=1", "eval_every=20", "save_every=7", "method.lr=1e-3")


def start(runs, *overrides, **options):
    """``python -m zobench`` on the long run, as a process."""
    return Zobench(runs, *LONG, f"runs_dir={runs}", *overrides, **options)


def signalled(number, step):
    """In a process: a signal comes in the middle of the step after ``step``."""
    original = Method.step

    def disturbed(self, closure):
        if self.t == step:
            os.kill(os.getpid(), number)
        return original(self, closure)

    Method.step = disturbed


def directory_in(runs):
    (directory,) = runs.glob("*/*/*/*")
    return directory


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(row, directory) of the long run that nobody disturbed."""
    row = go_on(tmp_path_factory.mktemp("undisturbed"))
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
    return run(compose(*LONG, f"runs_dir={runs}"))


def test_ctrl_c(tmp_path, undisturbed):
    process = start(tmp_path, before=slowly)
    wait_for(lambda: any(file.read_bytes().count(b"\n") > 20 for file in tmp_path.rglob("metrics.jsonl")))
    process.send_signal(signal.SIGINT)
    code, _, error = process.wait()
    directory = directory_in(tmp_path)
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
    process = Zobench(
        tmp_path, *TINY, "method=zeroshot", "task=squad", "eval_batch_size=1", *slow, f"runs_dir={tmp_path}"
    )
    wait_for(lambda: not process.running or list(tmp_path.glob("*/*/*/*/environment.json")))
    process.send_signal(signal.SIGINT)
    code, _, error = process.wait()
    assert code == 130
    assert "Traceback" not in error, error
    assert summary_of(directory_in(tmp_path))["state"] == "interrupted"


def test_termination_then_a_full_disk(tmp_path, undisturbed):
    code, _, _ = start(tmp_path, before=partial(signalled, signal.SIGTERM, 11)).wait()
    directory = directory_in(tmp_path)
    row = summary_of(directory)
    assert (code, row["state"], row["reason"]) == (130, "interrupted", f"SIGTERM after step 12 of {STEPS}")

    # No file may grow past 200 kB: the metrics fit, the best weights (1 MB) of step 20 do not.
    code, _, error = start(tmp_path, largest_file=200_000).wait()
    assert code == 1
    assert "Traceback" not in error
    assert error.startswith("zobench: ")
    assert "checkpoint" in error  # which file could not be written
    assert "too large" in error.lower()  # the system's reason: here EFBIG, ENOSPC on a full disk
    row = summary_of(directory)
    assert row["state"] == "failed"
    assert "checkpoint" in row["reason"]
    assert checkpoint.load(directory / "checkpoint")["step"] == 14  # the earlier one is whole

    assert_same(go_on(tmp_path), undisturbed)


@pytest.mark.parametrize("minutes", ["null", "0"], ids=["trajectory", "snapshots"])
def test_kill_9(tmp_path, undisturbed, minutes):
    """Weights come back along the trajectory from the base model, or from the snapshot in each checkpoint."""
    process = start(tmp_path, f"snapshot_minutes={minutes}", before=partial(signalled, signal.SIGKILL, 31))
    assert process.wait()[0] == -signal.SIGKILL
    directory = directory_in(tmp_path)
    assert summary_of(directory)["state"] == "running"
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        strictly(line)
    folder = directory / "checkpoint"
    assert checkpoint.load(folder)["step"] == 28
    assert (checkpoint.load_snapshot(folder, 28) is not None) == (minutes == "0")
    # What a kill in the middle of a write may leave: a torn line, a half-written checkpoint, half a file.
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "forw')
    half = folder / ".step-00000035.1"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    (folder / ".best-00000040.safetensors.1").write_bytes(b"half")

    assert_same(go_on(tmp_path), undisturbed)
    assert not list(folder.glob(".*"))


def damage_newest_snapshot(folder):
    newest = sorted(folder.glob("step-*"))[-1] / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\x55")


def truncate_best(folder):
    (best,) = folder.glob("best-*")
    best.write_bytes(best.read_bytes()[:1000])


def tear_state(folder):
    state = folder / "state.json"
    state.write_text(state.read_text()[:50])


def lose_lines(folder):
    metrics = folder.parent / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:2000])


@pytest.mark.parametrize("damage", [damage_newest_snapshot, truncate_best, tear_state, lose_lines])
def test_kill_9_and_a_damaged_file(tmp_path, undisturbed, damage):
    """What a power cut or a bad disk adds to a kill is made again from the losses."""
    process = start(tmp_path, "snapshot_minutes=0", before=partial(signalled, signal.SIGKILL, 31))
    assert process.wait()[0] == -signal.SIGKILL
    damage(directory_in(tmp_path) / "checkpoint")
    row = go_on(tmp_path)
    assert_same(row, undisturbed)
    assert (row["remade"] is None) == (damage in (damage_newest_snapshot, truncate_best))


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
