"""The estimate of one cell: it goes where its run would go, spends as much, and leaves nothing."""

import pytest
from helpers.commands import command
from omegaconf import OmegaConf

from zobench.config.chosen import Cell
from zobench.config.folders import conf_dir
from zobench.config.signature import compose
from zobench.estimate import measured
from zobench.estimate.cost import LAW, MEASURED, Cost, Part
from zobench.estimate.costs import Costs
from zobench.estimate.law import by_law
from zobench.estimate.one import estimate
from zobench.estimate.prices import Prices
from zobench.run.budget import Spending
from zobench.run.runner import run

TINY = ("model=tiny-opt", "data=mini", "wandb=disabled", "threads=1", "device=cpu",
        *(f"task.splits.mini.{part}={n}" for part, n in (("train", 16), ("dev", 6), ("test", 10))))  # fmt: skip
METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
#: one of each kind: plain, several forward passes, renewed state, activations, further batches, gradients, none
KINDS = ("mezo", "loren", "pgap", "agzo", "dizo", "adamw", "zeroshot")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(measured, "MOST_STEPS", 2)


def of(*words):
    return estimate(compose(*TINY, *words))


def cell(*words):
    return Cell(OmegaConf.to_container(compose(*words), resolve=True))


def part(cost, name):
    return next(each.total for each in cost.parts if each.name == name)


def steps(cost):
    return {part.name: part.times for part in cost.parts if part.name.startswith("steps")}


@pytest.mark.parametrize(
    "method", [name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_every_method_is_measured_and_spends_what_a_plan_of_it_says(method):
    words = f"method={method}", "task=sst2", "batch_size=4", "forwards=2000", "eval_every=100"
    cost = of(*words)
    assert cost.source == MEASURED
    assert cost.spending == Prices().of(cell(*TINY, *words))
    assert sum(steps(cost).values()) == cost.spending.steps
    assert cost.cpu_seconds > 0
    assert cost.gib == pytest.approx(sum(cost.memory.values()))


@pytest.mark.parametrize("tuning", ["full", "lora", "last_layers", "prefix"])
@pytest.mark.parametrize("task", ["sst2", "squad"])
def test_every_tuning_is_measured_with_options_and_with_free_answers(tuning, task):
    layers = ("tuning.layers=1",) if tuning == "last_layers" else ()
    cost = of(f"tuning={tuning}", f"task={task}", "steps=10", "batch_size=2", "eval_every=3", *layers)
    names = {part.name: part.times for part in cost.parts}
    assert names["steps"] == 10
    assert names["dev evaluations"] == 6  # as it came, four on the way, the best
    assert ("frozen layers" in names) == (tuning == "last_layers")


def test_kinds_of_steps_are_priced_apart():
    """A step in fifty projects, one in a hundred renews its basis: neither may stand for all, nor be left out."""
    assert steps(of("method=dizo", "task=sst2", "steps=200", "batch_size=2")) == {
        "steps of 2 forward passes, renewing": 4, "steps of 2 forward passes": 192,
        f"steps of {_dizo()} forward passes": 4,
    }  # fmt: skip
    lozo = steps(of("method=lozo", "task=sst2", "steps=120", "batch_size=2"))
    assert lozo == {"steps of 2 forward passes, renewing": 3, "steps of 2 forward passes": 117}


def _dizo():
    return 2 + 2 * compose("method=dizo").method.inner_steps


def test_the_whole_cache_is_priced_by_the_part_that_is_filled(monkeypatch):
    monkeypatch.setattr(measured, "MOST_BATCHES", 1)
    words = "tuning=last_layers", "tuning.layers=1", "task=sst2", "steps=40", "batch_size=2", "eval_batch_size=2"
    guess = of(*words).memory["cached"]
    assert guess > 0
    assert guess == pytest.approx(_run(*words)["cache_gib"], rel=0.2)


def test_an_estimate_is_of_the_order_of_its_run():
    words = "method=mezo", "task=sst2", "steps=60", "batch_size=4", "log_every=1"
    guess, row = of(*words), _run(*words)
    part = next(part for part in guess.parts if part.name == "steps")
    assert 0.3 < part.times * part.cpu / (3600 * row["cpu_hours"]) < 3
    assert guess.spending == Spending(row["steps"], row["forwards"], row["backwards"])


def _run(*words):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return run(compose(*TINY, *words, f"runs_dir={folder}"))


def test_the_command_tells_parts_and_sum_and_leaves_nothing(tmp_path):
    ended = command("zobench", "--estimate", *TINY, "task=sst2", "steps=5", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.splitlines()
    assert said[0] == "sst2, tiny-opt, mezo, lr 1e-06, seed 0"
    assert said[1] == "5 steps, 10 forward passes"
    assert said[2].startswith("measured: ")
    assert "nothing was recorded" in said[-1]
    assert any(" hours (" in line and "CPU-hours" in line for line in said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ("method.lr=-1",),
        ("data=local", "data.dir=nowhere"),
        ("model=local", "model.dir=nowhere"),
        ("method=grzo", "batch_size=1"),
        ("forwards=1",),
        ("task.splits.mini.train=100000", "method=mezo", "device=cuda:99"),
    ],
)
def test_what_cannot_run_is_told_as_the_run_tells_it(words, tmp_path):
    words = (*TINY, "task=sst2", *words)
    estimated = command("zobench", "--estimate", *words, cwd=tmp_path)
    assert not list(tmp_path.iterdir())
    ran = command("zobench", *words, cwd=tmp_path)
    assert (estimated.returncode, estimated.stderr) == (ran.returncode, ran.stderr)
    assert ran.returncode


def test_a_table_is_refused_with_the_command_for_it(tmp_path):
    ended = command("zobench", "-m", "--estimate", "seed=0,1", *TINY, cwd=tmp_path)
    assert ended.returncode == 2
    assert "--estimate: is of one cell; of a table: python -m zobench.sweep GRID --dry-run" in ended.stderr


def test_what_is_not_at_hand_is_estimated_by_the_law_of_a_dry_run(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    words = "model=opt-1.3b", "task=rte", "dtype=bfloat16", f"runs_dir={tmp_path}", "wandb=disabled"
    cost = estimate(compose(*words))
    assert (cost.source, cost.rough, cost.said.endswith("is not at hand")) == (LAW, True, True)
    planned = Costs([]).of(cell(*words))
    assert (planned.seconds, planned.gib) == (cost.seconds, cost.gib)


def law(steps=1000, **settings):
    tuning = "last_layers" if "tuning" in settings else "full"
    choices = {"model": "m", "task": "t", "method": "mezo", "tuning": tuning, "protocol": "clean"}
    found = {"batch_size": 16, "dtype": "bfloat16", "device": "cuda", "eval_every": None,
             "model": {"parameters": 10**9},
             "task": {"tokens": 100, "splits": {"clean": {"train": 1000, "dev": 500, "test": 1000}}}}  # fmt: skip
    return by_law(Cell(found | settings | {"choices": choices}), Spending(steps, 2 * steps, 0))


def test_the_law_knows_tunings_options_and_answers():
    full = law()
    frozen = law(tuning={"layers": 1, "only": None})
    names = [part.name for part in frozen.parts]
    assert "frozen layers" in names
    assert frozen.seconds < full.seconds / 2
    # What follows the last attention runs at a few positions; the attention itself does not train.
    cpu = {"device": "cpu", "threads": 1}
    late = law(tuning={"layers": 1, "only": "down_proj"}, **cpu)
    assert late.seconds < law(tuning={"layers": 1, "only": None}, **cpu).seconds
    assert (
        law(task={"tokens": 100, "options": ["yes it is", "no it is not"]}).seconds
        > 1.3 * law(task={"tokens": 100, "options": ["yes", "no"]}).seconds
    )
    # A generated answer is scored for about what it takes to read the prompts, not for a pass of them a token.
    answer = {"task": {"tokens": 190, "prompt": "{question}", "splits": {}}}
    scored = law(**answer, objective={"max_new_tokens": 10})
    assert part(scored, "steps") < 0.3 * part(law(**answer), "steps")
    assert law(model={}).seconds is None
    assert law(steps=4000).seconds > 3 * full.seconds


def test_seconds_are_the_sum_of_the_parts():
    parts = Part("start", 1, 2.0, 1.0), Part("steps", 10, 0.5, 0.25)
    cost = Cost(Spending(10, 20, 0), parts, None, False, MEASURED)
    assert (cost.seconds, cost.cpu_seconds) == (7.0, 3.5)
    assert Cost(Spending(10, 20, 0), (), None, False, LAW).seconds is None
