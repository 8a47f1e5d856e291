"""A signal while the best weights are being written loses nothing."""

import os
import signal

import pytest

from zobench import checkpoint, config
from zobench.run import run

CELL = ["model=tiny-opt", "task=rte", "data=mini", "steps=10", "eval_every=2", "batch_size=4", "wandb=disabled"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_best_weights_are_saved(number, tmp_path, monkeypatch):
    undisturbed = run(config.compose(*CELL, f"runs_dir={tmp_path / 'a'}"))
    cfg = config.compose(*CELL, f"runs_dir={tmp_path / 'b'}")
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
