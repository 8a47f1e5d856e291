"""LoRA's adapters: peft's modules with zobench's draws and names; stored runs replay, peft reads what is written."""

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.families import TARGETS, build
from helpers.matrix import sequence

from zobench import replay
from zobench.models import adapters
from zobench.models.tuning import LoRA
from zobench.zo.keys import mix, tag

STORED = Path(__file__).resolve().parents[1] / "golden" / "lora.zip"
RUNS = sorted({name.rpartition("/")[0] for name in zipfile.ZipFile(STORED).namelist()})
FAMILIES = ["llama", "qwen2", "gpt2", "gpt_neox", "phi3", "opt", "mixtral", "mamba"]


def tuned(family, **settings):
    """A family's model whose adapters have moved off B = 0, and its (name, parameter) pairs."""
    model = build(family, settings.pop("dtype", torch.float32))
    facts = SimpleNamespace(lora_targets=TARGETS.get(family, ["q_proj", "v_proj"]))
    named = LoRA(**{"r": 2, **settings}).apply(model, facts, 0)
    with torch.no_grad():
        for i, (_, param) in enumerate(named):
            param.add_(0.1 * torch.randn(param.shape, generator=torch.Generator().manual_seed(i)).to(param))
    return model, named


@torch.no_grad()
def logits(model):
    return model(input_ids=torch.tensor([sequence(12, 0)]), use_cache=False).logits


@pytest.mark.parametrize("run", RUNS)
def test_runs_from_before_peft_replay_to_their_checksums(run, capsys):
    assert replay.main([f"{STORED}/{run}"]) == 0
    with zipfile.ZipFile(STORED) as packed:
        checksum = json.loads(packed.read(f"{run}/summary.json"))["weights_checksum"]
    assert f"weights {checksum}: bit for bit those of the run" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_module_computes_the_papers_equation_with_a_drawn_from_its_key(dtype):
    model = build("llama", dtype)
    named = dict(LoRA(r=4, alpha=6.0, layers="1-2").apply(model, SimpleNamespace(lora_targets=["v_proj"]), 7))
    assert list(named) == [f"model.layers.{i}.self_attn.v_proj.lora_{x}" for i in (1, 2) for x in "ab"]
    for i in (1, 2):
        name = f"model.layers.{i}.self_attn.v_proj"
        a, b, module = named[f"{name}.lora_a"], named[f"{name}.lora_b"], model.get_submodule(name)
        bound, drawn = (1 / 32) ** 0.5, torch.empty(4, 32)
        drawn.uniform_(-bound, bound, generator=torch.Generator().manual_seed(mix(7, i, tag("v_proj"))))
        assert torch.equal(a, drawn.to(dtype))
        assert b.dtype == dtype
        assert not b.any()
        b.normal_(generator=torch.Generator().manual_seed(i))
        x = torch.randn(3, 32, generator=torch.Generator().manual_seed(9)).to(dtype)
        linear = torch.nn.functional.linear
        base = module.base_layer
        assert torch.equal(module(x), linear(x, base.weight, base.bias) + linear(linear(x, a), b) * 1.5)


@pytest.mark.parametrize("layers", [None, "1-2"])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_reads_an_adapter_and_gives_the_same_logits(family, layers, tmp_path):
    from peft import PeftModel

    model, named = tuned(family, layers=layers)
    adapters.save(model, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    modules = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert all("." in name for name in modules) == (layers is not None)
    read = PeftModel.from_pretrained(build(family), tmp_path).eval()
    assert sum("lora_" in name for name, _ in read.named_parameters()) == len(named)
    assert torch.equal(logits(read), logits(model))
    assert (logits(build(family)) - logits(model)).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_has_its_own_parameters_and_the_adapted_functions(family):
    model, _ = tuned(family)
    before = logits(model)
    adapters.merge(model)
    assert not adapters.adapted(model)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in build(family).named_parameters()]
    torch.testing.assert_close(logits(model), before, atol=2e-3, rtol=1e-3)
