"""The script of the first run: which trial it chooses, what equal seconds are, and when a method beats MeZO."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.modules import module_of

from zobench.sweep import grids

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def first_run():
    return module_of(ROOT / "scripts" / "first_run.py")


def run(method, lr, seed=0, **values):
    row = {"method": method, "method.lr": lr, "seed": seed, "steps": 100, "forwards": 200, "cpu_hours": 100 / 3600}
    return row | {"dev/loss": 0.6, "test_metric": 0.7, "test/loss": 0.6, "test/n": 100, "directory": "d"} | values


def trial(method, lr):
    return {"method": method, "method.lr": lr, "seed": "0", "forwards": "200"}


def framed(runs):
    frame = pd.DataFrame(runs)
    return frame.assign(cost=frame["cpu_hours"] * 3600 / frame["forwards"])


def test_a_method_keeps_its_trial_with_the_lowest_dev_loss_of_seed_0(first_run):
    runs = [
        run("mezo", 1e-4),
        run("mezo", 3.16e-5, **{"dev/loss": 0.5}),
        run("mezo", 1e-4, seed=1, **{"dev/loss": 0.1}),
    ]
    trials = [
        trial("mezo", "0.0001"),
        trial("mezo", "3.16e-05"),
        trial("loren", "1"),
        trial("mezo", "7") | {"method.x": "1"},
    ]
    assert first_run.chosen(trials, framed(runs)) == {
        "mezo": {"method": "mezo", "method.lr": "3.16e-05", "forwards": "200"}
    }


def test_equal_seconds_are_the_steps_that_take_as_long_as_mezos_run(first_run):
    runs = [
        run("mezo", 1),
        run("loren", 1, steps=20, cpu_hours=40 / 3600),
        run("loren", 2, steps=20, cpu_hours=60 / 3600),
    ]
    best = {name: {"method": name, "method.lr": "1", "forwards": "200"} for name in ("mezo", "loren")}
    assert first_run.at_equal_seconds(best, framed(runs)) == {
        "loren": best["loren"] | {"forwards": "null", "steps": "40"}  # ten passes of 0.25 s each, 100 s
    }


def test_a_line_that_a_grid_has_stays_and_methods_are_added(first_run, tmp_path):
    path = tmp_path / "chosen.yaml"
    first, second = ({"method": "mezo", "method.lr": lr} for lr in ("1", "2"))
    assert first_run.write(path, "Said", {"mezo": first}) == {"mezo": first}
    both = first_run.write(path, "Said", {"loren": {"method": "loren"}, "mezo": second})
    assert both == {"loren": {"method": "loren"}, "mezo": first}
    assert grids.find(str(path)).arguments()[1] == ["seed=0,1,2", "method=mezo", "method.lr=1"]


def test_a_method_surely_beats_mezo_where_seeds_and_examples_say_so(first_run, monkeypatch):
    def answers(runs):
        right = round(100 * runs["test_metric"].mean())
        return pd.DataFrame({"index": range(100), "score": [1.0] * right + [0.0] * (100 - right)})

    monkeypatch.setattr(first_run, "predictions", answers)
    accuracy = {"mezo": (0.70, 0.71, 0.70), "loren": (0.80, 0.81, 0.80), "ldsd": (0.72, 0.70, 0.71), "pgap": (0.6,) * 3}
    runs = [run(name, 1, seed, test_metric=x) for name, of in accuracy.items() for seed, x in enumerate(of)]
    best = {name: {"method": name, "method.lr": "1"} for name in accuracy}
    table = first_run.tabulate(framed(runs), None, [trial(name, "1") for name in accuracy], best, {})
    beats = dict(zip(table["method"], table["forwards: beats"], strict=True))
    assert beats == {"loren": "surely", "ldsd": "yes", "mezo": "", "pgap": "no"}
    assert list(beats) == ["loren", "ldsd", "mezo", "pgap"]  # by accuracy
    assert "| loren  |    lr=1 | 1 of 1 |" in first_run.markdown(table)
