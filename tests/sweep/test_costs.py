"""How cells stand and what they cost: states and progress from files, estimates from runs, else by rule of thumb."""

import fcntl
import json
from contextlib import contextmanager

import pytest
import torch
from omegaconf import OmegaConf

from zobench.config.folders import conf_dir
from zobench.config.signature import compose
from zobench.estimate.cost import LAW
from zobench.estimate.costs import Costs
from zobench.run.runner import run
from zobench.sweep import state
from zobench.sweep.overview import Overview
from zobench.sweep.plan import PlannedCell


def cell(runs, seed=0, **settings):
    choices = {"model": "opt-1.3b", "task": "rte", "method": "mezo", "tuning": "full", "protocol": "clean",
               "objective": "loss"}  # fmt: skip
    found = {"runs_dir": str(runs), "out": f"cell{seed}", "seed": seed, "steps": None, "forwards": None,
             "batch_size": 16, "dtype": "bfloat16", "device": "auto",
             "data": {"dir": None}, "model": {"parameters": 1_300_000_000}, "task": {"tokens": 100},
             "method": {"_target_": "zobench.methods.mezo.MeZO", "lr": 1e-6}}  # fmt: skip
    return PlannedCell((f"seed={seed}",), 0, f"cell{seed}", found | settings | {"choices": choices})


ADAMW = {"_target_": "zobench.methods.adamw.AdamW", "lr": 1e-6}


@contextmanager
def running(directory):
    """A run directory as a process that is at work holds it."""
    directory.mkdir()
    (directory / "summary.json").write_text('{"state": "running"}')
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


#: what the row of a run with a result cannot lack
RESULT = {"state": "finished", "method": "mezo", "task": "rte", "model": "opt-1.3b", "seed": 0, "steps": 1,
          "forwards": 2, "metric": "accuracy", "dev_metric": 0.5, "test_metric": 0.5}  # fmt: skip


def test_states_and_progress_come_from_the_files(tmp_path):
    cells = [cell(tmp_path, seed, steps=100) for seed in range(4)]
    cells[0].directory.mkdir()
    (cells[0].directory / "summary.json").write_text(json.dumps(RESULT | {"state": "diverged", "reason": "loss"}))
    (cells[2].directory).mkdir()
    (cells[2].directory / "summary.json").write_text(json.dumps(RESULT | {"state": "failed"}))
    with running(cells[1].directory):
        lines = [{"step": 25, "forwards": 50, "train/loss": 0.5, "train_seconds": 10.0}, {"step": 25, "dev/loss": 1}]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (cells[1].directory / "metrics.jsonl").write_text(text + '{"step": 26, "tor')
        overview = Overview(cells)
        assert [found.name for found in overview.states] == ["diverged", "running", "failed", "waiting"]
        now = state.progress(cells[1].directory, {"steps": 100, "forwards": None})
        assert (now.step, now.fraction, now.loss, now.seconds_left) == (25, 0.25, 0.5, pytest.approx(30.0))
        # 30 s of this cell, and of the one that waits 40 s at this cell's pace, not at the rough estimate's.
        assert overview.seconds_left(Costs([])) == pytest.approx(70.0)
    assert Overview(cells).line() == "4 cells: 1 diverged, 1 interrupted, 1 waiting, 1 failed"


def test_without_runs_like_it_a_cell_costs_what_its_model_and_task_say(tmp_path):
    costs = Costs([tmp_path])
    rough = costs.of(cell(tmp_path))
    steps = {part.name: part for part in rough.parts}["steps"]
    # 40,000 forwards of 16 examples of 100 tokens: 2 x 1.3e9 x 1600 operations each, at 125 TFLOP/s; and the noise.
    least = 40_000 * 2 * 1.3e9 * 1600 / 125e12
    assert (rough.source, rough.gpu, steps.times) == (LAW, True, 20_000)
    assert least < steps.total < 3 * least
    assert 2 * 1.3e9 / 2**30 < rough.gib < 2 * 1.3e9 / 2**30 + 2
    # A backward pass is two forwards; AdamW holds three times the weights more.
    first_order = costs.of(cell(tmp_path, method=ADAMW))
    assert (first_order.spending.forwards, first_order.spending.backwards) == (40_000, 40_000)
    assert first_order.seconds > 1.5 * rough.seconds
    assert first_order.gib > rough.gib + 3 * 2 * 1.3e9 / 2**30
    # A task of one's own without a length has the length that tasks have; a model without a size has no estimate.
    assert costs.of(cell(tmp_path, task={})).seconds > rough.seconds
    unknown = costs.of(cell(tmp_path, model={}))
    assert (unknown.seconds, unknown.gib, unknown.spending.forwards) == (None, None, 40_000)


def test_runs_like_a_cell_say_what_it_costs(tmp_path):
    row = RESULT | {"model": "opt-1.3b", "task": "rte", "tuning": "full", "dtype": "bfloat16",
           "batch_size": 16, "steps": 500, "forwards": 1000, "peak_gib": 5.0, "device": "cuda"}  # fmt: skip
    for i, (method, seconds) in enumerate([("mezo", 100.0), ("mezo", 120.0), ("mezo", 500.0), ("loren", 900.0)]):
        (tmp_path / str(i)).mkdir()
        times = {"method": method, "wall_seconds": seconds, "train_seconds": seconds}
        (tmp_path / str(i) / "summary.json").write_text(json.dumps(row | times))
    (tmp_path / "scored").mkdir()  # whose forward passes are tokens of answers: not like it
    scored = {"objective": "metric", "objective.max_new_tokens": 50, "wall_seconds": 9.0, "train_seconds": 9.0}
    (tmp_path / "scored" / "summary.json").write_text(json.dumps(row | scored))
    costs = Costs([tmp_path])
    known = costs.of(cell(tmp_path, forwards=2000))
    assert (known.rough, known.gpu, known.seconds, known.gib) == (False, True, 240.0, 5.0)
    other = cell(tmp_path, forwards=1000)
    other.settings["choices"]["method"] = "pgap"  # no run of its own: any method's
    assert costs.of(other).seconds == pytest.approx(310.0)


def test_steps_and_evaluations_are_priced_apart(tmp_path):
    """Two steps and an evaluation of all examples are no measure of a step."""
    splits = {"clean": {"train": 1000, "dev": 500, "test": 1000}}
    row = RESULT | {"model": "opt-1.3b", "task": "rte", "tuning": "full", "dtype": "bfloat16",
           "batch_size": 16, "method": "mezo", "device": "cpu", "dev/n": 50, "test/n": 100, "eval_every": 1,
           "steps": 2, "forwards": 4, "train_seconds": 8.0, "evaluate_seconds": 40.0, "best_step": 2,
           "wall_seconds": 60.0}  # fmt: skip
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "summary.json").write_text(json.dumps(row))
    # 4 x 50 dev and 2 x 100 test examples in 40 s: 0.1 s each. The cell has 7 x 500 and 2.5 x 1,000 of them.
    guess = Costs([tmp_path]).of(cell(tmp_path, forwards=1000, task={"splits": splits}, **CLEAN))
    assert (guess.rough, guess.short) == (True, True)
    assert guess.seconds == pytest.approx(12.0 + 1000 * 2.0 + 6000 * 0.1)
    # A long run is believed, and the short one then says nothing of steps.
    (tmp_path / "long").mkdir()
    long = row | {
        "steps": 100,
        "best_step": 100,
        "forwards": 200,
        "train_seconds": 20.0,
        "wall_seconds": 72.0,
        "eval_every": 50,
    }
    (tmp_path / "long" / "summary.json").write_text(json.dumps(long))
    known = Costs([tmp_path]).of(cell(tmp_path, forwards=1000, task={"splits": splits}, **CLEAN))
    assert (known.rough, known.seconds) == (False, pytest.approx(12.0 + 1000 * 0.1 + 6000 * 0.1))


CLEAN = {"data": {"dir": None, "splits": "clean"}}


def test_after_a_short_run_a_plan_is_right_within_a_factor_of_two_or_marked_as_rough(tmp_path):
    def ran(steps):
        words = [*WORDS, f"steps={steps}", f"runs_dir={tmp_path / str(steps)}"]
        return run(compose(*words))

    ran(2)
    planned = compose(*WORDS, "steps=60")
    settings = {name: planned[name] for name in ("steps", "forwards", "batch_size", "dtype", "eval_every")}
    one = cell(tmp_path, **settings, device="cpu", data={"splits": "mini"}, method=ADAMW,
               task={"splits": {"mini": {"dev": 100, "test": 240}}})  # fmt: skip
    one.settings["choices"] = {
        name: planned.choices[name] for name in ("model", "task", "method", "tuning", "protocol", "objective")
    }
    guess = Costs([tmp_path]).of(one)
    assert (guess.rough, guess.short) == (True, True)
    took = ran(60)["wall_seconds"]
    assert took / 4 < guess.seconds < 4 * took  # a guess, and no multiple of the evaluations


WORDS = ("model=tiny-llama", "task=sst2", "data=mini", "method=adamw", "wandb=disabled", "threads=1", "device=cpu")


@pytest.mark.parametrize("name", ["tiny-opt", "tiny-llama"])
def test_a_model_has_the_parameters_that_its_file_says(name, load_model):
    model = load_model(name).model
    assert sum(param.numel() for param in model.parameters()) == compose(f"model={name}").model.parameters


#: model → width, layers, attention heads
OPT = {"opt-125m": (768, 12, 12), "opt-1.3b": (2048, 24, 32), "opt-2.7b": (2560, 32, 32), "opt-6.7b": (4096, 32, 32),
       "opt-13b": (5120, 40, 40)}  # fmt: skip
LLAMA = {"llama": (4096, 32, 32, 11008, 32, 32000), "llama-3-8b": (4096, 32, 32, 14336, 8, 128256)}


@pytest.mark.parametrize("name", [*OPT, *LLAMA])
def test_published_architectures_have_the_parameters_that_their_files_say(name):
    from transformers import AutoModelForCausalLM, LlamaConfig, OPTConfig

    width, layers, heads, *more = (OPT | LLAMA)[name]
    shape = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": heads}
    if name in OPT:
        config = OPTConfig(word_embed_proj_dim=width, ffn_dim=4 * width, **shape)
    else:
        inner, groups, vocabulary = more
        config = LlamaConfig(intermediate_size=inner, num_key_value_heads=groups, vocab_size=vocabulary, **shape)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    body = model.model.decoder if name in OPT else model.model
    layer = sum(param.numel() for param in body.layers.parameters())
    others = sum(param.numel() for param in model.parameters()) - layer
    assert others + layers * layer == compose(f"model={name}").model.parameters


def test_every_shipped_model_and_task_says_its_size_and_length():
    for group, key in (("model", "parameters"), ("task", "tokens")):
        for path in (conf_dir() / group).glob("*.yaml"):
            if path.stem not in ("local", "hub"):  # whose folders say it
                assert OmegaConf.load(path)[key] > 0, path
