"""Runs that were stopped, what happens to their files, and whether the run that goes on is the undisturbed one."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.tiny_runs import TINY, lines_of
from zobench.config.signature import compose
from zobench.errors import UserError
from zobench.run.runner import run
from zobench.zo import Method

CELL = (*TINY, "steps=12", "log_every=1", "eval_every=4", "save_every=3", "method.lr=1e-3")
#: settings of a run -> after which step it is stopped; by then it has a best evaluation and a checkpoint
KINDS = {
    "trajectory": ("snapshot_minutes=null",),
    "snapshots": ("snapshot_minutes=0",),
    "first-order": ("method=adamw",),
}
_COUNTED = (
    "state", "steps", "forwards", "examples_seen", "tokens_seen", "best_step", "best_forwards", "weights_checksum",
    "best_weights_checksum", "test/loss", "dev/loss", "test_metric", "dev_metric", "zero_shot/test/loss",
)  # fmt: skip


def whole(folder, *settings):
    """A run that nobody disturbed: its directory."""
    return Path(run(compose(*CELL, *settings, f"runs_dir={folder}"))["directory"])


def stopped(folder, *settings, step=9):
    """A run that was stopped after a step: its directory."""
    original = Method.step

    def disturbed(self, closure):
        if self.t == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, closure)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Method, "step", disturbed)
        run(compose(*CELL, *settings, f"runs_dir={folder}"))
    (directory,) = folder.glob("*/*/*/*")
    return directory


def copied(directory, folder):
    """A copy of a run's directory, where a run below ``folder`` looks for it."""
    copy = folder / directory.relative_to(directory.parents[3])
    shutil.copytree(directory, copy)
    return copy


def go_on(folder, *settings):
    """The row of the run that goes on below a folder; or the one line by which it refuses."""
    try:
        return run(compose(*CELL, *settings, f"runs_dir={folder}"))
    except UserError as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    return said


def facts(row, directory):
    """All of a finished run that does not depend on when and how fast it ran."""
    lines = [{k: v for k, v in line.items() if k != "train_seconds"} for line in lines_of(directory)]
    files = [(directory / name).read_bytes() for name in ("trajectory.jsonl", "predictions.parquet")]
    return {name: row[name] for name in _COUNTED}, lines, files
