"""A signal between two steps or while something is being written loses nothing and doubles nothing."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from helpers.tiny_runs import TINY, summary_of

from zobench.config.signature import compose
from zobench.record import checkpoint
from zobench.record.directory import Record
from zobench.run.runner import run
from zobench.run.train import Trainer
from zobench.system.signals import StopRequest

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


BETWEEN = (Trainer.run, Trainer._goes_on, StopRequest.at_once.__wrapped__)


def signalled_at(count, words):
    """Run a cell that gets SIGTERM at the ``count``-th line of the code between steps; whether there was one."""
    codes, seen = {function.__code__ for function in BETWEEN}, []

    def at_line(frame, event, argument):
        if event == "line":
            seen.append(frame.f_lineno)
            if len(seen) == count:
                os.kill(os.getpid(), signal.SIGTERM)
        return at_line

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: at_line if frame.f_code in codes else None)
    try:
        run(compose(*words))
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("count", range(30, 45))
def test_wherever_a_signal_comes_between_steps_the_checkpoint_is_that_of_the_last_step(count, tmp_path):
    words = (*CELL, f"runs_dir={tmp_path}")
    assert signalled_at(count, words)
    (directory,) = (path.parent for path in tmp_path.rglob("summary.json"))
    row = summary_of(directory)
    saved = json.loads((directory / "checkpoint/state.json").read_text())
    assert (row["state"], row["reason"]) == ("interrupted", f"SIGTERM after step {saved['step']} of 10")
    assert row["steps"] == saved["step"]
