"""What a sweep's console says: each cell by its place and by what tells it from the others, its end, the time left."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers.commands import command
from helpers.tiny_runs import ROOT

from zobench.estimate.cost import RUNS, Cost, Part
from zobench.run.budget import Spending
from zobench.sweep.left import seconds_left
from zobench.sweep.plan import PlannedCell
from zobench.sweep.state import State
from zobench.sweep.titles import titles

TINY = ("model=tiny-opt", "task=sst2", "data=mini", "steps=3", "wandb=disabled", "threads=1", "batch_size=2",
        "method=mezo", "runs_dir=r", *(f"task.splits.mini.{part}=4" for part in ("train", "dev", "test")))  # fmt: skip
END = re.compile(r"^cell (\d) of 4 finished, test accuracy [\d.]+, [\d.]+ (?:s|min): (.*); (\d) of 4 done(.*)$", re.M)


def cells(*seeds, method="mezo"):
    choices = {"model": "m", "task": "t", "method": method, "tuning": "full"}
    return [
        PlannedCell((f"seed={seed}", f"batch_size={8 + seed}"), 0, "", {
            "choices": choices, "seed": seed, "method": {"lr": 1e-6}, "runs_dir": "nowhere", "out": f"{method}{seed}",
        })
        for seed in seeds
    ]  # fmt: skip


class Told:
    """Estimates that are given: 10 s a cell, but none of the method ``new``."""

    def of(self, cell):
        parts = () if cell.choice("method") == "new" else (Part("steps", 10, 1.0),)
        return Cost(Spending(10, 20, 0), parts, None, False, RUNS)


def test_a_title_has_what_differs_between_the_cells():
    one, two = titles(cells(0, 1))
    assert one == "t, m, mezo, lr 1e-06, seed 0, batch_size=8"
    assert two == "t, m, mezo, lr 1e-06, seed 1, batch_size=9"
    assert titles(cells(0)) == ["t, m, mezo, lr 1e-06, seed 0"]


def test_the_time_left_follows_what_cells_of_the_same_kind_took():
    mezo, loren, new = cells(0, 1, 2), cells(0, method="loren"), cells(0, method="new")
    waiting = State("waiting", {})
    took = lambda seconds: State("finished", {"wall_seconds": seconds})  # noqa: E731
    assert seconds_left([(cell, waiting) for cell in mezo], Told()) == 30
    assert seconds_left([(mezo[0], took(30.0)), (mezo[1], waiting), (mezo[2], waiting)], Told()) == 60
    # Of loren nothing is known but its estimate and how all others did; of a method without an estimate, how long.
    assert seconds_left([(mezo[0], took(30.0)), (loren[0], waiting)], Told()) == 30
    assert seconds_left([(mezo[0], took(30.0)), (new[0], waiting)], Told()) == 30
    assert seconds_left([(mezo[0], waiting), (new[0], waiting)], Told()) is None


def test_cells_are_named_as_they_begin_and_end_and_keep_their_numbers_when_the_sweep_goes_on(tmp_path):
    words = ("-m", *TINY, "method.lr=1e-6,1e-7", "seed=0,1")
    first = command("zobench", *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "cell 3 of 4: sst2, tiny-opt, mezo, lr 1e-07, seed 0\n" in first.stdout
    ends = END.findall(first.stdout)
    assert [(place, done) for place, _, done, _ in ends] == [("1", "1"), ("2", "2"), ("3", "3"), ("4", "4")]
    assert all(", about " in left for *_, left in ends[:3])
    assert ends[3][3] == ""
    assert "\r" not in first.stdout
    assert "\x1b" not in first.stdout
    for gone in sorted((tmp_path / "r").glob("*/*/*/*"))[:1]:
        shutil.rmtree(gone)
    again = command("zobench", *words, cwd=tmp_path)
    (end,) = END.findall(again.stdout)
    assert end[2] == "4"
    assert f"cell {end[0]} of 4: {end[1]}\n" in first.stdout


@pytest.mark.skipif(find_spec("hydra_plugins.hydra_joblib_launcher") is None, reason="needs the extra 'joblib'")
def test_of_cells_side_by_side_every_line_says_whose_it_is(tmp_path):
    words = ("-m", *TINY, "method.lr=1e-6,1e-7", "seed=0,1", "hydra/launcher=joblib")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", "zobench", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(place for place, *_ in END.findall(ended.stdout)) == ["1", "2", "3", "4"]
    lines = [line for line in ended.stdout.splitlines() if "dev accuracy" in line or "zero-shot test" in line]
    assert lines
    assert all(re.match(r"cell \d of 4: ", line) for line in lines)


def test_a_cell_that_fails_says_why_and_the_next_goes_on(tmp_path):
    words = ("-m", *TINY, "model.start_token.native=nosuch,null", "seed=0")
    ended = command("zobench", *words, cwd=tmp_path)
    assert "cell 1 of 2 failed (" in ended.stdout
    assert "model.start_token.native=null; 2 of 2 done" in ended.stdout
