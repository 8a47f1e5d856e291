"""Whole runs of every zeroth-order method: both architectures, full and LoRA tuning, both dtypes, both oracle modes.

Of a class that several YAML files point at, the first one has a run of each kind, and the presets share them out.
"""

import math

import pytest
from helpers.methods import PRESETS, ZEROTH_ORDER

from zobench.config.signature import compose
from zobench.run.runner import run

SMALL = [f"task.splits.mini.{part}=6" for part in ("train", "dev", "test")]
#: two runs in which each choice is made both ways, and two with the other pairs of choices
SETTINGS = [
    (("tiny-opt", "full", "float32", "in_place"), ("tiny-llama", "lora", "bfloat16", "exact")),
    (("tiny-opt", "lora", "bfloat16", "in_place"), ("tiny-llama", "full", "float32", "exact")),
]
RUNS = [
    (name, *setting)
    for i, name in enumerate(ZEROTH_ORDER)
    for j, setting in enumerate(SETTINGS[i % 2])
    if name not in PRESETS or j == i // 2 % 2
]


@pytest.mark.parametrize(("name", "model", "tuning", "dtype", "mode"), RUNS)
def test_a_run(name, model, tuning, dtype, mode, tmp_path):
    overrides = [f"method={name}", f"model={model}", f"tuning={tuning}", f"dtype={dtype}", f"method.mode={mode}"]
    overrides += ["task=sst2", "data=mini", *SMALL, "steps=3", "batch_size=4", "eval_every=3"]
    row = run(compose(*overrides, "lens.every=3", "lens.gradient=false", "wandb=disabled", f"runs_dir={tmp_path}"))
    assert row["state"] == "finished"
    assert math.isfinite(row["test/loss"])
    assert row["forwards"] >= 6
    assert (row["trainable_parameters"] < row["parameters"]) == (tuning == "lora")
