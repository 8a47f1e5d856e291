"""Prefix tuning: keys and values of virtual tokens, in whatever way the model is run."""

import pytest
import torch
from helpers import families, matrix
from helpers.families import build

from zobench.errors import ConfigError, ModelError
from zobench.models.prefix_adapter import peft_prefix, same_up_to
from zobench.models.prefix_tuning import PrefixTuning
from zobench.objective import MeanLoss, Objective, check
from zobench.objective.reference import plain_logits
from zobench.objective.virtual_tokens import as_past, prefixed
from zobench.zo import Direction, Oracle, make_slots
from zobench.zo.perturbations.sign_products import SignProducts

IDS = tuple(matrix.sequence(12, 3))


def tuned(name, tokens=5, seed=0):
    model = build(name)
    return model, dict(PrefixTuning(tokens=tokens).apply(model, None, seed))


@torch.no_grad()
def move(named, size=0.5):
    for i, param in enumerate(named.values()):
        param.add_(size * torch.randn(param.shape, generator=torch.Generator().manual_seed(i)))


def test_each_layer_has_keys_and_values_of_its_key_value_heads_and_nothing_else_trains():
    model, named = tuned("qwen2", tokens=3)
    expected = [f"model.layers.{i}.self_attn.prefix_{part}" for i in range(4) for part in ("keys", "values")]
    assert list(named) == expected == [n for n, p in model.named_parameters() if p.requires_grad]
    assert {tuple(param.shape) for param in named.values()} == {(3, 16)}  # two key-value heads of eight features


@torch.no_grad()
@pytest.mark.parametrize("name", ["opt", "qwen2", "gemma2"])
def test_the_first_prefix_is_what_the_layers_make_of_random_tokens(name):
    model, _ = tuned(name, seed=7)
    ids = torch.randint(0, 256, (1, 5), generator=torch.Generator().manual_seed(7))
    cache = build(name)(input_ids=ids, use_cache=True).past_key_values
    for layer, module in zip(cache.layers, prefixed(model), strict=True):
        assert torch.equal(module.prefix_keys, layer.keys[0].transpose(0, 1).flatten(1))
        assert torch.equal(module.prefix_values, layer.values[0].transpose(0, 1).flatten(1))


def test_the_tokens_are_drawn_from_the_seed():
    first, again, other = (tuned("opt", seed=seed)[1] for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("tokens", [0, -1, 65537])
def test_a_number_of_tokens_that_cannot_be_is_refused(tokens):
    with pytest.raises(ValueError, match=f"tokens={tokens}"):
        PrefixTuning(tokens=tokens)


def test_more_tokens_than_the_model_has_positions_are_refused():
    assert len(tuned("gpt2", tokens=128)[1]["transformer.h.0.attn.prefix_keys"]) == 128
    with pytest.raises(ConfigError, match=r"tuning\.tokens=129: the model has 128 positions; give at most that"):
        tuned("gpt2", tokens=129)


@torch.no_grad()
@pytest.mark.parametrize("name", ["opt", "mistral, windows", "gemma2", "gpt_neox"])
def test_the_models_forward_pass_gives_what_a_past_of_the_same_keys_and_values_gives(name):
    model, named = tuned(name)
    move(named)
    ids = torch.tensor([IDS])
    without = build(name)(input_ids=ids).logits
    found = model(input_ids=ids).logits
    torch.testing.assert_close(found[0], plain_logits(model, IDS, 0), atol=2e-5, rtol=1e-4)
    assert float((found - without).abs().max()) > 0.1


@pytest.mark.parametrize("name", ["opt", "qwen3"])
def test_gradients_are_those_through_a_past(name):
    model, named = tuned(name)
    move(named)
    objective = Objective(model, None, matrix.CLASSIFICATION)
    check.settle(objective, matrix.BATCHES[0])
    assert "trimmed" in objective.forward_path
    assert objective.padding == "none"
    objective.loss_sum(matrix.BATCHES[0])[0].backward()
    found = {n: p.grad.clone() for n, p in named.items()}
    model.zero_grad()
    total = 0.0
    for example in matrix.BATCHES[0]:
        scores = []
        for row in example.rows:
            with as_past(model, len(row.ids)) as past:
                logits = model(input_ids=torch.tensor([row.ids]), use_cache=True, **past).logits[0]
            scores.append(torch.log_softmax(logits[-2], -1)[row.ids[-1]])
        total = total - torch.log_softmax(torch.stack(scores), 0)[example.gold]
    total.backward()
    for name_, param in named.items():
        torch.testing.assert_close(found[name_], param.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("buckets", ["auto", 1])
def test_each_example_can_see_a_prefix_of_its_own_in_one_pass(buckets):
    """Of five sequences, as many as there are virtual tokens, packed into one row or padded."""
    model, named = tuned("opt")
    batch = [matrix.shared(i, n) for i, n in enumerate((6, 31, 17, 12, 9))]
    objective = Objective(model, None, matrix.CLASSIFICATION, length_buckets=buckets)
    check.settle(objective, batch)
    oracle = Oracle(make_slots(named.items()), perturbation := SignProducts(), "exact")
    oracle.begin(MeanLoss(objective, batch, rows=100))
    (found,) = oracle.own_losses([lambda j: 0.3 * Direction.ray(100 + j)])
    assert oracle.evaluation == "exact, by row"
    before = [slot.param.detach().clone() for slot in oracle.slots]
    with torch.no_grad():
        for place, loss in enumerate(found):
            for slot, own in zip(oracle.slots, before, strict=True):
                slot.param.copy_(own + perturbation.estimate(slot, 0.3 * Direction.ray(100 + place)))
            assert float(objective.loss_sum([batch[place]])[0]) == pytest.approx(loss, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["opt", "gemma2", "mistral, windows"])
def test_generation_continues_as_whole_forward_passes_would(name):
    model, named = tuned(name)
    move(named)
    short, long = IDS[:4], IDS[:7]
    padded = torch.tensor([(0, 0, 0, *short), long])
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1] * 7])
    out = model.generate(input_ids=padded, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None)
    for row, prompt in zip(out, (short, long), strict=True):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(plain_logits(model, tuple(ids), 1)[0].argmax()))
        assert row[-6:].tolist() == ids[-6:]


@pytest.mark.parametrize("name", ["bloom", "mamba", "jamba"])
def test_a_model_whose_layers_take_no_keys_and_values_is_refused_in_one_line(name):
    with pytest.raises(
        ConfigError, match=r"tuning=prefix: .* has 4 layers, and [02] of them .*; use tuning=lora"
    ) as told:
        tuned(name)
    assert "\n" not in str(told.value)


def test_latent_attention_is_refused_in_one_line():
    model, _ = tuned("deepseek_v3")
    with pytest.raises(ModelError, match=r"tuning=prefix: .* no keys and values as a past.*use tuning=lora") as told:
        check.settle(Objective(model, None, matrix.CLASSIFICATION), matrix.BATCHES[0])
    assert "\n" not in str(told.value)


@torch.no_grad()
def test_peft_gives_the_same_up_to_an_attention_window_less_the_virtual_tokens(monkeypatch):
    from peft import PeftModelForCausalLM, PrefixTuningConfig

    monkeypatch.setitem(families.LISTED, "window of 20", ("Mistral", {"sliding_window": 20}))
    model, named = tuned("window of 20")
    move(named)
    expected = {length: plain_logits(model, tuple(matrix.sequence(length, 3)), 0) for length in (15, 16)}
    settings, prompt = peft_prefix(model)
    del settings["peft_type"], settings["task_type"]
    read = PeftModelForCausalLM(build("window of 20"), PrefixTuningConfig(**settings)).eval()
    read.prompt_encoder["default"].embedding.weight.copy_(prompt)
    differ = {}
    for length, logits in expected.items():
        ids = torch.tensor([matrix.sequence(length, 3)])
        found = read(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        differ[length] = float((found - logits).abs().max())
    assert same_up_to(model) == 15
    assert differ[15] < 1e-4 < 1e-2 < differ[16]


WINDOW = "into the attention's window of 8 tokens"


@pytest.mark.parametrize(("name", "said"), [("mistral, windows", WINDOW), ("gpt_neox", "config.json it takes")])
def test_a_prefix_is_not_written_for_peft_where_a_window_would_hide_it_or_shapes_differ(name, said):
    with pytest.raises(ConfigError, match=said):
        peft_prefix(tuned(name)[0])
