"""Runs of methods that ask for more than losses of their batch, on a language model, stopped and gone on."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers.team import alone, assert_same_bits
from helpers.tiny_runs import TINY, lines_of

from zobench import AGZO
from zobench.record.contents import clear_rest
from zobench.zo import Method

SHORT = (*TINY, "steps=6", "log_every=1", "eval_every=3", "save_every=2", "method.lr=1e-3")
ANCHORED = (*SHORT, "method=mezo_svrg", "method.interval=3", "method.large_batches=2")
ACTIVATIONS = (*SHORT, "method=agzo")


def stopped_and_gone_on(folder, *settings):
    """The rows of a run and of one that was stopped in its fifth step and went on."""
    whole = alone(folder / "whole", *settings)
    step = Method.step

    def disturbed(self, closure):
        if self.t == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, closure)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Method, "step", disturbed)
        alone(folder / "rest", *settings)
    return whole, alone(folder / "rest", *settings)


def test_a_run_on_further_batches_goes_on_to_the_bit_and_counts_them(tmp_path):
    whole, rest = stopped_and_gone_on(tmp_path, *ANCHORED)
    assert_same_bits(rest, whole)
    assert whole["forwards"] == 2 * (2 * 2) + 4 * 4
    seen = [len(line) - 2 for line in lines_of(whole["directory"], "trajectory.jsonl")[1:]]  # step, losses, checksum
    assert seen == [2, 4, 4, 2, 4, 4]


def test_a_budget_of_forwards_pays_for_further_batches(tmp_path):
    row = alone(tmp_path, *ANCHORED, "steps=null", "forwards=17")
    assert (row["steps"], row["forwards"]) == (4, 16)


def test_a_run_on_activations_goes_on_to_the_bit_from_its_snapshots(tmp_path):
    whole, rest = stopped_and_gone_on(tmp_path, *ACTIVATIONS)
    assert rest["weights_checksum"] == whole["weights_checksum"]
    assert rest["forwards"] == whole["forwards"] == 12


def test_the_weights_of_a_run_on_activations_are_kept_and_are_not_made_again(tmp_path):
    row = alone(tmp_path, *ACTIVATIONS)
    checkpoint = Path(row["directory"]) / "checkpoint"
    (checkpoint / "state.json").write_text("{}")  # as of a run that was killed before it could clear
    clear_rest(checkpoint.parent, row)
    assert [path.name[:5] for path in checkpoint.iterdir()] == ["best-"]
    with pytest.raises(ValueError, match="AGZO takes directions from activations, which losses do not"):
        AGZO([("w", torch.ones(2))], lr=0.1).replay([1.0, 1.0], [])
