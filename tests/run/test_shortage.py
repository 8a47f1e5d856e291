"""Running out of disk and of memory, at every file and for real: the run ends in order and can go on."""

import json
import os
import resource
import subprocess
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from helpers.processes import Zobench
from helpers.tiny_runs import TINY

from zobench.config.signature import compose
from zobench.errors import CannotWrite, UserError
from zobench.record import checkpoint
from zobench.run.runner import run

CELL = (
    *TINY, "task=rte", "steps=30", "method.lr=1e-3", "log_every=1", "eval_every=10", "save_every=5",
    "snapshot_minutes=0",
)  # fmt: skip


@contextmanager
def files_up_to(size):
    """No file may grow past ``size`` bytes: as on a full disk, a write fails in its middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(compose(*CELL, f"runs_dir={tmp_path_factory.mktemp('undisturbed')}"))


def without_time(row):
    lines = (Path(row["directory"]) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.endswith("seconds")} for line in lines]


def assert_same(row, undisturbed):
    for key in ("state", "weights_checksum", "best_weights_checksum", "test/loss", "dev/loss", "best_step"):
        assert row[key] == undisturbed[key], key
    assert without_time(row) == without_time(undisturbed)


def named(text):
    """The file that a message names, without its step."""
    return text.split(" cannot be written")[0].rpartition("/")[2].split("-0")[0]


def until_it_fits(cfg, rooms, limited):
    """(the row of the start that had room enough, what the ones before it said)."""
    said = []
    for room in rooms:
        with limited(room):
            try:
                return run(cfg), said
            except UserError as error:
                said.append(str(error))
    raise AssertionError(said)


def test_files_that_may_not_grow(tmp_path, undisturbed):
    """The limit rises from start to start; in the end there is room, and the run is as if undisturbed."""
    cfg = compose(*CELL, f"runs_dir={tmp_path}")
    row, said = until_it_fits(cfg, (200 * 3**n for n in range(12)), files_up_to)
    assert all("cannot be written" in text and "too large" in text.lower() for text in said), said
    assert {"summary.json", "step"} <= {named(text) for text in said} <= {"summary.json", "step", "config.yaml"}
    assert_same(row, undisturbed)
    assert not [path for path in Path(row["directory"]).rglob(".*") if path.name != ".lock"]  # no scratch left


def test_a_small_disk(tmp_path, undisturbed):
    """A file system of 8 MiB with less room than a run needs: first none, then more and more; any file may be cut."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")

    @contextmanager
    def filled_up_to(room):
        ballast = disk / "ballast"
        ballast.unlink(missing_ok=True)
        free = os.statvfs(disk)
        ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - room)))
        yield

    try:
        cfg = compose(*CELL, f"runs_dir={disk / 'runs'}")
        pages = (*range(6), 100, *range(240, 2000, 16))
        row, said = until_it_fits(cfg, (4096 * n for n in pages), filled_up_to)
        assert all("cannot be written" in text and "no space left" in text.lower() for text in said), said
        cut = {named(text) for text in said}
        assert {"config.yaml", "step"} < cut, said
        assert cut & {"metrics.jsonl", "summary.json", "environment.json"}, said
        assert_same(row, undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("name", ["predictions.parquet", "summary.json"])
def test_a_disk_that_is_full_at_the_very_end(tmp_path, undisturbed, name):
    """The last checkpoint is kept until the summary is written: nothing is trained again."""
    cfg = compose(*CELL, f"runs_dir={tmp_path}")
    obstacle = Path(tmp_path) / cfg.out / name
    obstacle.mkdir(parents=True)  # a folder cannot be replaced by a file
    (obstacle / "x").touch()
    if name == "summary.json":
        with pytest.raises(CannotWrite):
            run(cfg)  # refused before any work
        return
    with pytest.raises(CannotWrite, match=r"predictions.parquet cannot be written"):
        run(cfg)
    assert checkpoint.load(obstacle.parent / "checkpoint")["step"] == 30
    (obstacle / "x").unlink()
    obstacle.rmdir()
    assert_same(run(cfg), undisturbed)


def short_of_memory(settings):
    """In a process: once a small run has loaded all libraries, 20 MB are left."""
    run(compose(*settings, "steps=1", "batch_size=2", "eval_batch_size=2"))
    status = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) for line in status if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, ((used + 20_000) * 1024,) * 2)


@pytest.mark.parametrize("large", ["batch_size=900", "eval_batch_size=900"])
def test_out_of_memory_says_what_to_lower(tmp_path, large):
    sizes = ["length_buckets=1"]  # in one rectangle, which nothing bounds
    sizes += [f"task.splits.mini.{split}={size}" for split, size in (("train", 400), ("dev", 40), ("test", 242))]
    settings = ["model=tiny-opt", "task=sst2", "data=mini", "wandb=disabled", "threads=1", f"runs_dir={tmp_path}"]
    process = Zobench(tmp_path, *settings, *sizes, large, "steps=2", before=partial(short_of_memory, settings + sizes))
    code, _, error = process.wait()
    assert code == 1, error
    assert "Traceback" not in error
    assert "zobench: out of memory: " in error
    assert f"{'micro_batch_size' if large.startswith('batch') else 'eval_batch_size'} (now " in error
    rows = [json.loads(path.read_text()) for path in tmp_path.rglob("summary.json")]
    (failed,) = [row for row in rows if row["state"] == "failed"]
    assert failed["reason"].startswith("OutOfMemory: out of memory: ")
