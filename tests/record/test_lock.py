"""One process writes to a run's directory, and only while it is the directory that the process opened."""

import fcntl
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from helpers.processes import Zobench, slowly
from helpers.tiny_runs import TINY, summary_of
from helpers.waiting import wait_for

from zobench.config.signature import compose
from zobench.errors import CannotWrite, DataError, RunBusy, RunExists, RunLost
from zobench.record import checkpoint
from zobench.record.directory import Record
from zobench.record.lines import Lines
from zobench.record.lock import Lock
from zobench.run.recovery import Plan
from zobench.run.runner import run

CELL = (*TINY, "steps=400", "eval_every=400", "save_every=5", "log_every=1", "method.lr=1e-3", "out=mine")


def removed(directory, elsewhere):
    shutil.rmtree(directory)


def moved(directory, elsewhere):
    directory.rename(elsewhere)


def replaced(directory, elsewhere):
    directory.rename(elsewhere)
    shutil.copytree(elsewhere, directory)


def without_its_lock(directory, elsewhere):
    (directory / ".lock").unlink()


@pytest.mark.parametrize("change", [removed, moved, replaced, without_its_lock])
def test_a_run_whose_directory_is_gone_stops_and_writes_nothing(change, tmp_path):
    directory, elsewhere = tmp_path / "runs/mine", tmp_path / "elsewhere"
    process = Zobench(tmp_path, *CELL, f"runs_dir={tmp_path / 'runs'}", before=slowly)
    wait_for(lambda: (directory / "checkpoint/state.json").is_file())
    change(directory, elsewhere)
    there = {path: path.stat().st_mtime_ns for path in directory.rglob("*")} if directory.exists() else None
    code, _, error = process.wait()
    assert code == 1
    assert error == (
        f"zobench: {directory} was removed, moved or replaced while the run was at work; it stopped and wrote nothing "
        "more. The same command begins there, or goes on with what is there now\n"
    )
    if there is None:
        assert not directory.exists()
    elif change is replaced:
        assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == there
        assert summary_of(directory)["state"] == "running"


@pytest.mark.parametrize(
    "call",
    [
        lambda record: record.log({"step": 1}), lambda record: record.flush(), lambda record: record.environment({}),
        lambda record: record.predictions({"test": [{"index": 0}]}), lambda record: record.summary({"state": "failed"}),
        lambda record: record.forget_after(Plan().sizes), lambda record: record.check(),
        lambda record: record.begin({}),
    ],
)  # fmt: skip
def test_nothing_is_written_once_the_directory_is_gone(call, tmp_path):
    record = Record(tmp_path / "mine", compose(*CELL, f"runs_dir={tmp_path}"))
    record.begin({"state": "running"})
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(RunLost):
        call(record)
    record.close()
    assert not (tmp_path / "mine").exists()


def test_whoever_only_looks_makes_no_start_fail(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/.lock").touch()
    ended = threading.Event()

    def poll():
        while not ended.is_set():
            with (tmp_path / "mine/.lock").open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                time.sleep(0.001)
            time.sleep(0.001)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        for _ in range(40):
            Lock(tmp_path / "mine").release()
    finally:
        ended.set()
        thread.join()


def test_a_second_process_is_refused_within_seconds(tmp_path):
    lock = Lock(tmp_path / "mine")
    begun = time.monotonic()
    with pytest.raises(RunBusy, match="is being written by another process"):
        Lock(tmp_path / "mine")
    assert 0.9 < time.monotonic() - begun < 5
    lock.release()
    Lock(tmp_path / "mine").release()


@pytest.mark.parametrize("path", ["file/mine", "file"])
def test_a_directory_that_cannot_be_made(path, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        Lock(tmp_path / path)


def test_on_a_read_only_disk_a_finished_run_is_shown(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        words = (*TINY, "steps=1", f"runs_dir={disk}")
        row = run(compose(*words))
        (Path(row["directory"]) / ".lock").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert run(compose(*words))["test_metric"] == row["test_metric"]
        with pytest.raises(RunExists):
            Record(Path(row["directory"]), compose(*words))
        for more in (["overwrite=true"], ["seed=1"]):
            with pytest.raises(OSError, match="Read-only file system"):
                run(compose(*words, *more))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "checkpoint/state.json"])
def test_a_pipe_in_the_place_of_a_file_is_an_error_and_no_wait(name, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    os.mkfifo(tmp_path / name)
    opens = {
        ".lock": lambda: Lock(tmp_path), "metrics.jsonl": lambda: Lines(tmp_path / name),
        "checkpoint/state.json": lambda: checkpoint.load(tmp_path / "checkpoint"),
    }  # fmt: skip
    with pytest.raises((CannotWrite, DataError), match=name):
        opens[name]()


def test_a_directory_that_goes_just_before_a_write_is_told_as_lost_and_not_as_a_full_disk(tmp_path, monkeypatch):
    save = checkpoint.save

    def too_late(folder, step, state):
        if folder.is_dir():
            folder.parent.rename(tmp_path / "elsewhere")
        save(folder, step, state)

    monkeypatch.setattr(checkpoint, "save", too_late)
    with pytest.raises(RunLost):
        run(compose(*CELL, f"runs_dir={tmp_path / 'runs'}"))
    assert summary_of(tmp_path / "elsewhere")["state"] == "running"
    assert not (tmp_path / "runs/mine").exists()
