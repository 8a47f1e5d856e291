"""Runs of toy methods: what methods ask for besides losses, on a language model, stopped and gone on."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers.team import assert_same_bits
from helpers.tiny_runs import lines_of
from helpers.toy_runs import settings_of
from helpers.toys import ActivationGuided

from zobench.record.contents import clear_rest
from zobench.run.runner import run
from zobench.zo import Method


def stopped_and_gone_on(folder, toy, **settings):
    """The rows of a run and of one that was stopped in its fifth step and went on."""
    whole = run(settings_of(toy, folder / "whole", **settings))
    step = Method.step

    def disturbed(self, closure):
        if self.t == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, closure)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Method, "step", disturbed)
        run(settings_of(toy, folder / "rest", **settings))
    return whole, run(settings_of(toy, folder / "rest", **settings))


def test_a_run_on_further_batches_goes_on_to_the_bit_and_counts_them(tmp_path):
    whole, rest = stopped_and_gone_on(tmp_path, "Anchored", anchor_batches=2)
    assert_same_bits(rest, whole)
    assert whole["forwards"] == 2 * (2 * 2) + 4 * 4
    seen = [len(line) - 2 for line in lines_of(whole["directory"], "trajectory.jsonl")[1:]]  # step, losses, checksum
    assert seen == [2, 4, 4, 2, 4, 4]


def test_a_budget_of_forwards_pays_for_further_batches(tmp_path):
    row = run(settings_of("Anchored", tmp_path, "steps=null", "forwards=17", anchor_batches=2))
    assert (row["steps"], row["forwards"]) == (4, 16)


def test_a_run_on_activations_goes_on_to_the_bit_from_its_snapshots(tmp_path):
    whole, rest = stopped_and_gone_on(tmp_path, "ActivationGuided")
    assert rest["weights_checksum"] == whole["weights_checksum"]
    assert rest["forwards"] == whole["forwards"] == 12


def test_the_weights_of_a_run_on_activations_are_kept_and_are_not_made_again(tmp_path):
    row = run(settings_of("ActivationGuided", tmp_path))
    checkpoint = Path(row["directory"]) / "checkpoint"
    (checkpoint / "state.json").write_text("{}")  # as of a run that was killed before it could clear
    clear_rest(checkpoint.parent, row)
    assert [path.name[:5] for path in checkpoint.iterdir()] == ["best-"]
    with pytest.raises(ValueError, match="ActivationGuided takes directions from activations, which losses do not"):
        ActivationGuided([("w", torch.ones(2))], lr=0.1).replay([1.0, 1.0], [])
