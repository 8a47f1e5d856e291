"""Whole runs of every zeroth-order method: both architectures, full and LoRA tuning, both dtypes, both oracle modes."""

import math

import pytest
from helpers.contracts import METHODS, node_of

from zobench.config.signature import compose
from zobench.run.runner import run

ZEROTH_ORDER = [name for name in METHODS if "mode" in node_of(name)]
SMALL = [f"task.splits.mini.{part}=6" for part in ("train", "dev", "test")]
SETTINGS = [
    ("tiny-opt", "full", "float32", "in_place"),
    ("tiny-llama", "full", "bfloat16", "exact"),
    ("tiny-opt", "lora", "bfloat16", "in_place"),
    ("tiny-llama", "lora", "float32", "exact"),
]


@pytest.mark.parametrize("name", ZEROTH_ORDER)
@pytest.mark.parametrize(("model", "tuning", "dtype", "mode"), SETTINGS)
def test_a_run(name, model, tuning, dtype, mode, tmp_path):
    overrides = [f"method={name}", f"model={model}", f"tuning={tuning}", f"dtype={dtype}", f"method.mode={mode}"]
    overrides += ["task=sst2", "data=mini", *SMALL, "steps=3", "batch_size=4", "eval_every=3", "log_every=1"]
    row = run(compose(*overrides, "lens.every=3", "lens.gradient=false", "wandb=disabled", f"runs_dir={tmp_path}"))
    assert row["state"] == "finished"
    assert math.isfinite(row["test/loss"])
    assert row["forwards"] >= 6
    assert (row["trainable_parameters"] < row["parameters"]) == (tuning == "lora")
