"""Whole runs of a method that asks for the losses of the examples: their record, replay and resumption."""

from pathlib import Path

import pytest
import torch
from helpers.per_example import by_example
from helpers.tiny_runs import TINY, lines_of

from zobench import MeZO
from zobench.config.signature import compose
from zobench.errors import DataError
from zobench.record import trajectory
from zobench.run.rebuild import rebuild
from zobench.run.runner import run
from zobench.system.console import Console
from zobench.zo import Method

CELL = (*TINY, "steps=8", "eval_every=4", "save_every=2", "method.lr=1e-3", "micro_batch_size=3", "out=mine")


@pytest.fixture(autouse=True)
def method(monkeypatch):
    monkeypatch.setattr(MeZO, "update", by_example)


@pytest.fixture
def row(tmp_path):
    return run(compose(*CELL, f"runs_dir={tmp_path / 'whole'}"))


def test_the_trajectory_holds_the_losses_of_the_examples(row):
    _, *lines = lines_of(row["directory"], "trajectory.jsonl")
    assert [[len(losses) for losses in line[1:-1]] for line in lines] == [[4, 4]] * 8
    found = trajectory.read(Path(row["directory"]) / trajectory.NAME)
    assert found.verified
    assert [[list(losses) for losses in step] for step in found.steps] == [line[1:-1] for line in lines]
    logged = [line["train/loss"] for line in lines_of(row["directory"]) if "train/loss" in line]
    mean = torch.tensor([line[1:-1] for line in lines], dtype=torch.float64).mean()
    assert logged == pytest.approx([float(mean)], rel=1e-12)
    assert row["forwards"] == 16


def test_the_weights_are_made_again_from_them_without_forward_passes(row):
    again = rebuild(row["directory"], "last", Console(), replay=True)
    assert again.checksum == row["weights_checksum"]
    assert again.loaded.model.base_model is not None


def test_a_stopped_run_goes_on_to_the_same_bits(row, tmp_path):
    step = Method.step

    def disturbed(self, closure):
        if self.t == 5:
            raise KeyboardInterrupt("SIGTERM")
        return step(self, closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Method, "step", disturbed)
        with pytest.raises(KeyboardInterrupt):
            run(compose(*CELL, f"runs_dir={tmp_path}"))
    rest = run(compose(*CELL, f"runs_dir={tmp_path}"))
    for name in ("weights_checksum", "forwards", "tokens_seen", "examples_seen"):
        assert rest[name] == row[name], name
    _, *lines = lines_of(row["directory"], "trajectory.jsonl")
    assert [each for each in lines_of(rest["directory"], "trajectory.jsonl") if type(each) is list] == lines


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([[0.5, 0.25], [[0.5]]], "a loss is not a number"),
        ([[0.5, None]], "a loss is not a number"),
        ([[]], "a loss is not a number"),
        ([[True]], "a loss is not a number"),
        ([[0.5], [float("inf")]], "a loss is not finite"),
    ],
)
def test_entries_that_are_no_losses_are_refused(entries, said, tmp_path):
    chain = trajectory.Chain()
    lines = chain.head([], "9a3e3083", {}), chain.line(1, [[0.5], 0.25]), chain.line(2, entries)
    path = tmp_path / trajectory.NAME
    path.write_text("".join(lines))
    found = trajectory.read(path)
    assert (len(found.steps), found.damage) == (1, f"line 3: {said}")


def test_losses_of_batches_are_not_taken_for_those_of_examples(row, tmp_path):
    chain = trajectory.Chain()
    path = tmp_path / trajectory.NAME
    path.write_text(chain.head([], "9a3e3083", {}) + chain.line(1, [0.5, 0.25]))
    method = rebuild(row["directory"], "0", Console(), replay=True).method
    with pytest.raises(DataError, match="losses per example where a loss was seen; another version or configuration"):
        trajectory.read(path).follow(method, 1)
