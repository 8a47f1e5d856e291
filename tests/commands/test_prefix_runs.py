"""Whole runs with ``tuning=prefix``: replayed, and exported for peft."""

import json
from pathlib import Path

import pytest
import torch

from zobench import export, replay
from zobench.config.signature import compose
from zobench.errors import DataError
from zobench.record import checkpoint
from zobench.run.runner import run

SMALL = [f"task.splits.mini.{part}=6" for part in ("train", "dev", "test")]
SHORT = ["task=sst2", "data=mini", *SMALL, "tuning=prefix", "steps=3", "batch_size=4", "eval_every=3", "wandb=disabled"]


def finished(folder, *overrides):
    row = run(compose(*SHORT, *overrides, f"runs_dir={folder}"))
    assert row["state"] == "finished"
    return row, Path(row["directory"])


RUNS = [
    ("model=tiny-opt", "method=mezo", "dtype=bfloat16"),
    ("model=tiny-llama", "method=lozo", "method.mode=exact"),
    ("model=tiny-llama", "method=grzo"),
    ("model=tiny-opt", "method=mezo", "protocol=mezo_exact"),
]


@pytest.mark.parametrize("overrides", RUNS, ids=lambda overrides: "-".join(o.split("=")[1] for o in overrides))
def test_the_trajectory_gives_the_prefix_bit_for_bit(tmp_path, capsys, overrides):
    row, directory = finished(tmp_path, *overrides)
    assert row["trainable_parameters"] == (1280 if "model=tiny-opt" in overrides else 640)
    assert replay.main([str(directory), "--step", "last"]) == 0
    assert row["weights_checksum"] in capsys.readouterr().out


def test_a_method_that_looks_at_linear_layers_is_refused(tmp_path):
    from zobench.errors import ConfigError

    with pytest.raises(ConfigError, match=r"method=agzo.*no trainable matrix was seen in a linear layer"):
        finished(tmp_path, "model=tiny-opt", "method=agzo")


@pytest.mark.parametrize("task", ["sst2", "squad"])
@pytest.mark.parametrize("protocol", ["clean", "mezo_exact"])
def test_zero_shot_values_are_those_of_the_model_without_a_prefix(tmp_path, task, protocol):
    shared = (f"task={task}", "model=tiny-opt", "method=zeroshot", f"protocol={protocol}")
    bare, with_prefix = (finished(tmp_path, *shared, f"tuning={name}")[0] for name in ("full", "prefix"))
    values = {name: value for name, value in bare.items() if name.startswith(("zero_shot/", "test/"))}
    assert any(name.endswith("/loss") for name in values)
    assert {name: with_prefix[name] for name in values} == values


def test_a_run_does_not_go_on_with_a_prefix_that_another_processor_made(tmp_path):
    whole, directory = finished(tmp_path, "model=tiny-llama", "method=mezo")
    folder, summary = directory / "checkpoint", directory / "summary.json"
    saved = {"step": 1, "rows_hash": whole["rows_hash"], "base_checksum": "0" * 16, "device": "cpu"}
    checkpoint.save(folder, 1, saved | {"model_checksum": whole["model_checksum"]})
    summary.write_text(json.dumps(whole | {"state": "interrupted"}))
    with pytest.raises(
        DataError, match=r"the first prefix changed since .*; go on on such a processor as wrote it, or"
    ):
        finished(tmp_path, "model=tiny-llama", "method=mezo")


def test_kept_weights_need_no_first_prefix_and_a_replay_does(tmp_path, capsys):
    row, directory = finished(tmp_path / "runs", "model=tiny-llama", "method=mezo", "keep_weights=true")
    (directory / "summary.json").write_text(json.dumps(row | {"base_checksum": "0" * 16}))
    assert export.main([str(directory), str(tmp_path / "adapter"), "--adapter"]) == 0
    assert replay.main([str(directory)]) == 1
    assert "library changed since, or the processor that computed the first prefix" in capsys.readouterr().err


def logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def test_peft_reads_a_prefix_of_a_rotary_model_and_gives_the_same_logits(tmp_path):
    peft = pytest.importorskip("peft", reason="pip install peft")
    from transformers import AutoModelForCausalLM

    from zobench.run.rebuild import rebuild
    from zobench.system.console import Console

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    _, directory = finished(tmp_path / "runs", "model=tiny-llama", "method=adamw", "method.lr=0.1", "keep_weights=true")
    assert export.main([str(directory), str(adapter), "--adapter"]) == 0
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "zobench.json"}
    assert {p.name for p in adapter.iterdir()} == names
    assert json.loads((adapter / "adapter_config.json").read_text())["num_virtual_tokens"] == 5
    rebuilt = rebuild(directory, "best", Console())
    ids = torch.arange(2, 20)[None]
    own = logits(rebuilt.loaded.model, ids)
    _, plain = finished(
        tmp_path / "runs", "model=tiny-llama", "method=adamw", "method.lr=0", "tuning=full", "keep_weights=true"
    )
    assert export.main([str(plain), str(base)]) == 0
    bare = AutoModelForCausalLM.from_pretrained(base)
    without = logits(bare, ids)
    read = logits(peft.PeftModel.from_pretrained(bare, adapter).eval(), ids)
    torch.testing.assert_close(read, own, rtol=1e-4, atol=1e-5)
    assert float((own - without).abs().max()) > 1e-3


def test_a_prefix_that_no_other_format_holds_is_refused_and_nothing_is_left(tmp_path, capsys):
    _, directory = finished(tmp_path / "runs", "model=tiny-opt", "method=mezo")
    for options, said in (([], "give --adapter"), (["--adapter"], "its positions would shift")):
        assert export.main([str(directory), str(tmp_path / "out"), *options]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert "Traceback" not in told
        assert not (tmp_path / "out").exists()
