"""A signal while the best weights or a line of the record are being written loses nothing and doubles nothing."""

import os
import signal
from pathlib import Path

import pytest
from helpers.tiny_runs import TINY

from zobench.config.signature import compose
from zobench.record import checkpoint
from zobench.record.directory import Record
from zobench.run.runner import run

CELL = (*TINY, "task=rte", "steps=10", "eval_every=2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(compose(*CELL, f"runs_dir={tmp_path_factory.mktemp('undisturbed')}"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_best_weights_are_saved(number, undisturbed, tmp_path, monkeypatch):
    cfg = compose(*CELL, f"runs_dir={tmp_path}")
    save, calls = checkpoint.save_best, []

    def disturbed(folder, slots, step):
        calls.append(step)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        save(folder, slots, step)

    monkeypatch.setattr(checkpoint, "save_best", disturbed)
    with pytest.raises(KeyboardInterrupt):
        run(cfg)
    row = run(cfg)
    assert row["state"] == "finished"
    for key in ("weights_checksum", "best_weights_checksum", "best_step", "test/loss"):
        assert row[key] == undisturbed[key]


@pytest.mark.parametrize("name", ["dev/loss", "final/test/loss"])
def test_a_signal_while_an_evaluation_is_logged(name, tmp_path, monkeypatch):
    cfg = compose(*CELL, f"runs_dir={tmp_path}")
    log, calls = Record.log, []

    def disturbed(self, values):
        log(self, values)
        if name in values and not calls:
            calls.append(name)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Record, "log", disturbed)
    with pytest.raises(KeyboardInterrupt):
        run(cfg)
    row = run(cfg)
    assert row["state"] == "finished"
    lines = (Path(row["directory"]) / "metrics.jsonl").read_text().splitlines()
    assert sum(f'"{name}"' in line for line in lines) == (5 if name == "dev/loss" else 1)
