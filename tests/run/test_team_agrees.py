"""Processes of a team that were told different things, or compute different things, do not begin."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.processes import Zobench
from helpers.team import LOREN, alone, free_port
from helpers.tiny_runs import summary_of

from zobench.config import cache
from zobench.data import rows
from zobench.objective import MeanLoss
from zobench.run import provenance
from zobench.run.provenance import compare_losses
from zobench.system import costs
from zobench.zo import Method
from zobench.zo.team import Team, TeamError

CELL = (*LOREN, "steps=6", "eval_every=3")


def members(folder, *words, own=((), ()), before=(None, None), more=("parallel=queries",)):
    """Two processes as torchrun starts them, each with words of its own: (exit code, stdout, stderr) of both."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    found = []
    for rank in (0, 1):
        environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        arguments = (*CELL, *more, *words, *own[rank], f"runs_dir={folder / 'runs'}")
        found.append(Zobench(folder, *arguments, environment=environment, before=before[rank]))
    return [member.wait() for member in found]


def double_losses():
    original = MeanLoss.__call__
    MeanLoss.__call__ = lambda self: original(self) * 2


def other_code():
    cache.code_digest = provenance.code_digest = lambda: "0" * 64


def other_library():
    original = costs.version_of
    costs.version_of = lambda name: "9.9" if name == "torch" else original(name)


def other_rows(folder):
    """Words for either process, of which the second has a stale copy of the data."""
    source = Path(rows.__file__).parent / "mini" / "sst2"
    for name in "ab":
        shutil.copytree(source, folder / name / "sst2")
    for path in (folder / "b" / "sst2").iterdir():
        path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    return tuple(("data=local", "data.splits=mini", f"data.dir={folder / name}") for name in "ab")


DIFFERENT = {
    "order_seed is 5, in process 0 0": {"own": ((), ("order_seed=5",))},
    "eval_every is 2, in process 0 3": {"own": ((), ("eval_every=2",))},
    "threads is 2, in process 0 1": {"own": ((), ("threads=2",))},
    "the code of zobench is 000": {"before": (None, other_code)},
    "torch is 9.9": {"before": (None, other_library)},
    "has the loss": {"before": (None, double_losses), "more": ("parallel=data",)},
    "the loss": {"before": (double_losses, None)},
    "rows_hash is": {"own": other_rows},
    "is not there for this one": {"own": ((), ("out=elsewhere",))},
}


@pytest.mark.parametrize("said", DIFFERENT)
def test_a_process_that_differs_is_named_before_the_first_step(said, tmp_path):
    given = dict(DIFFERENT[said])
    if callable(given.get("own")):
        given["own"] = given["own"](tmp_path)
    ends = members(tmp_path, **given)
    assert [code for code, _, _ in ends] == [1, 1], ends
    error = ends[0][2]
    assert error.startswith("zobench: process 1 of 2"), error
    assert said in error
    assert error.count("\n") == 1
    assert not any(path.read_text() for path in (tmp_path / "runs").rglob("metrics.jsonl"))


def test_a_stopped_run_is_left_as_it_was(tmp_path):
    row = alone(tmp_path / "runs", *CELL, "parallel=queries")
    (directory,) = (path.parent for path in (tmp_path / "runs").rglob("summary.json"))
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    ends = members(tmp_path, "overwrite=true", before=(None, double_losses))
    assert [code for code, _, _ in ends] == [1, 1], ends
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert summary_of(directory)["weights_checksum"] == row["weights_checksum"]


def dies(step):
    """In a process: it is killed in a step."""
    original = Method.step

    def killed(self, closure):
        if self.t == step:
            os._exit(9)
        return original(self, closure)

    Method.step = killed


def test_who_loses_another_process_is_interrupted_and_goes_on(tmp_path):
    ends = members(tmp_path, "save_every=2", before=(None, partial(dies, 4)))
    assert [code for code, _, _ in ends] == [1, 9], ends
    (path,) = (tmp_path / "runs").rglob("summary.json")
    row = summary_of(path.parent)
    assert row["state"] == "interrupted"
    assert "lost the others, of which one ended or hung" in row["reason"]
    reference = alone(tmp_path / "one", *CELL, "parallel=queries", "save_every=2")
    ends = members(tmp_path, "save_every=2")
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert summary_of(path.parent)["weights_checksum"] == reference["weights_checksum"]


class Loud(Team):
    """A team whose processes have these losses."""

    def __init__(self, losses):
        super().__init__()
        self.losses, self.size = losses, len(losses)

    def results(self, work, items):
        return self.losses


@pytest.mark.parametrize("losses", [[0.7, 1.4], [0.7, float("nan")], [0.7, 0.7, 0.71], [float("inf"), 0.7]])
def test_losses_that_differ_by_more_than_rounding(losses):
    with pytest.raises(TeamError, match=f"process {len(losses) - 1} of {len(losses)} has the loss"):
        compare_losses(Loud(losses), 0.0, torch.float32)
    for alike in ([0.7, 0.7000001], [float("nan"), float("nan")], [0.0, 0.0]):
        compare_losses(Loud(alike), 0.0, torch.float32)


def test_one_process_compares_nothing(monkeypatch):
    monkeypatch.setattr(provenance, "_told", None)
    provenance.compare_settings(Team(), None)
    assert Team().check_alike(dict) is None
