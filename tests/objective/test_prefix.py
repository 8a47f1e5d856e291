"""The cache of frozen lower layers: losses, scores and gradients with it equal those without it."""

import pytest
import torch

from zobench.models.tuning import Full, LastLayers, LoRA
from zobench.objective import Objective
from zobench.objective.layers import Layers
from zobench.objective.prefix import frozen_layers

GIB = 2**30
WIDTH = 64
TUNINGS = {
    "last_layers": lambda: LastLayers(layers=1),
    "norms": lambda: LastLayers(layers=1, only="norm", final_norm=True),
    "lora": lambda: LoRA(layers=1, r=4),
    "mlp": lambda: LastLayers(layers=1, only="fc[12]|mlp"),
}


@pytest.fixture(params=list(TUNINGS))
def tuned(request, tiny):
    """(tiny model, its trainable parameters), moved off their initial values so that LoRA's B is not 0."""
    named = TUNINGS[request.param]().apply(tiny.model, tiny.spec, 0)
    generator = torch.Generator().manual_seed(1)
    for _, param in named:
        param.data.add_(0.05 * torch.randn(param.shape, generator=generator))
    return tiny, named


@pytest.fixture
def encode(mini):
    """``encode(tiny, name, n)``: (task, n tokenised training examples)."""

    def make(tiny, name, n=7):
        task, splits = mini(name)
        return task, tiny.encoder.encode(task, splits.train[:n])

    return make


def both(tiny, task, shared=True, **settings):
    """An objective with the cache and one without."""
    settings["shared_prompt"] = shared
    return [Objective(tiny.model, tiny.tokenizer, task, cache_gib=gib, **settings) for gib in (1.0, 0.0)]


def value(objective, batch):
    total, weight = objective.loss_sum(batch)
    return total / weight


def flat(scores):
    return [x for example in scores for x in example]


def count_runs(layer):
    """A list that grows by the number of rows of each forward that enters a layer, and may leave it half way."""
    rows = []
    layer.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    return rows


def is_behind_attention(named):
    """Whether only the second half of the last layer trains, so that the cut lies behind its attention."""
    return all("fc" in name or "mlp" in name for name, _ in named)


def agree(cached, plain, batch):
    assert float(value(cached, batch)) == pytest.approx(float(value(plain, batch)), abs=1e-5)
    assert flat(cached.scores(batch)) == pytest.approx(flat(plain.scores(batch)), abs=1e-5)
    assert flat(cached.answer_losses(batch)) == pytest.approx(flat(plain.answer_losses(batch)), abs=1e-4)


@pytest.mark.parametrize(("name", "shared"), [("sst2", True), ("rte", False), ("squad", True)])
@torch.no_grad()
def test_cached_equals_plain(tuned, encode, name, shared):
    tiny, named = tuned
    task, examples = encode(tiny, name)
    cached, plain = both(tiny, task, shared)
    cached.prepare(examples)
    for batch in (examples, examples[2:4], examples[6:]):
        agree(cached, plain, batch)
    for _, param in named:  # the cache must not hold anything that trains
        param.add_(0.1)
    agree(cached, plain, examples)


@torch.no_grad()
def test_the_frozen_layers_run_once_per_sequence(tuned, encode):
    tiny, named = tuned
    task, examples = encode(tiny, "sst2")
    cached, plain = both(tiny, task, length_buckets=1)  # so that each sequence has a row
    below, above = (count_runs(layer) for layer in tiny.model.get_decoder().layers)
    cached.prepare(examples)
    cached.prepare(examples)
    assert sum(below) == len(examples)
    assert sum(above) == (len(examples) if is_behind_attention(named) else 0)
    above.clear()
    cached.scores(examples)
    cached.loss_sum(examples[:4])
    assert sum(below) == len(examples)
    assert above == [len(examples), 4]
    plain.scores(examples)
    assert sum(below) == 2 * len(examples)


@pytest.mark.parametrize(("name", "shared"), [("sst2", True), ("sst2", False), ("squad", True)])
@torch.no_grad()
def test_what_is_asked_for_is_cached(tuned, encode, name, shared):
    tiny, named = tuned
    task, examples = encode(tiny, name)
    cached, plain = both(tiny, task, shared)
    tails = cached.tails([*examples, *examples[:3]])
    rows = {(row.ids[:-1], row.option_len) for e in examples for row in e.rows}
    assert set(tails) == ({(e.shared[0], 1) for e in examples} if name == "sst2" and shared else rows)
    assert len(tails) == len(set(tails))
    seen = []
    size = cached.prepare(examples, seen.append)
    assert sum(seen) == len(tails), "the progress bar ends full"
    behind_attention = is_behind_attention(named)
    numbers = sum(2 * tail.last for tail in tails) if behind_attention else sum(len(tail.ids) for tail in tails)
    assert size == cached.prefix.bytes == numbers * WIDTH * 4
    assert plain.prefix is None
    assert plain.prepare(examples) == 0


@pytest.mark.parametrize("share", [0.0, 0.5])
@torch.no_grad()
def test_a_small_budget_is_kept_and_gives_the_same(tuned, encode, share):
    tiny, _ = tuned
    task, examples = encode(tiny, "sst2")
    whole, plain = both(tiny, task)
    budget = max(1, int(whole.prepare(examples) * share))
    small = Objective(tiny.model, tiny.tokenizer, task, cache_gib=budget / GIB)
    used = small.prepare(examples)
    assert used <= budget
    assert (used > 0) == (share > 0)
    agree(small, plain, examples)
    agree(small, plain, examples[3:4])


@torch.no_grad()
def test_an_example_that_was_not_prepared_still_counts(tuned, encode):
    tiny, _ = tuned
    task, examples = encode(tiny, "sst2")
    cached, plain = both(tiny, task)
    cached.prepare(examples[:4])
    agree(cached, plain, [*examples, examples[-1]])
    agree(cached, plain, examples[4:])


@pytest.mark.parametrize(("name", "prepared"), [("sst2", 3), ("squad", 7)])
def test_gradients_through_the_cache_are_the_plain_ones(tuned, encode, name, prepared):
    tiny, named = tuned
    task, examples = encode(tiny, name)
    objectives = both(tiny, task)
    objectives[0].prepare(examples[:prepared])
    with torch.inference_mode():  # an evaluation comes before the first step
        objectives[0].scores(examples)
    params = [param for _, param in named]
    cached, plain = (torch.autograd.grad(value(objective, examples), params) for objective in objectives)
    assert all(float(g.abs().max()) > 0 for g in plain if g.numel() > WIDTH)
    for (key, _), found, expected in zip(named, cached, plain, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


@torch.no_grad()
def test_the_models_layers_are_put_back(tuned, encode):
    tiny, _ = tuned
    task, examples = encode(tiny, "sst2")
    decoder = tiny.model.get_decoder()
    layers, names = decoder.layers, [n for n, _ in tiny.model.named_parameters()]
    ids = torch.tensor([examples[0].rows[0].ids])
    before = tiny.model(input_ids=ids).logits
    cached, _ = both(tiny, task)
    cached.prepare(examples[:5])
    cached.scores(examples)
    with pytest.raises(IndexError):
        cached.prepare([type(examples[0])(examples[0].example, (bad_row(examples[0]),))])
    assert decoder.layers is layers
    assert [n for n, _ in tiny.model.named_parameters()] == names
    assert torch.equal(tiny.model(input_ids=ids).logits, before)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def bad_row(encoded):
    row = encoded.rows[0]
    return type(row)((*row.ids[:-1], 10**6, 5), 1)


def test_generation_runs_all_layers(tuned, encode):
    tiny, _ = tuned
    task, examples = encode(tiny, "squad", 3)
    cached, plain = both(tiny, task)
    cached.prepare(examples)
    with torch.inference_mode():
        assert cached.generate(examples) == plain.generate(examples)


def test_nothing_is_cached_where_lower_parts_train(tiny, mini):
    model, task = tiny.model, mini("sst2")[0]
    for tuning in (Full(), LoRA(), LastLayers(layers=2)):
        tuning.apply(model, tiny.spec, 0)
        assert frozen_layers(Layers(model.get_decoder(), "layers", -1)) == 0
        assert Objective(model, tiny.tokenizer, task, cache_gib=1.0).prefix is None
    model.requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)
    assert frozen_layers(Layers(model.get_decoder(), "layers", -1)) == 0


def test_an_untied_head_does_not_hinder_the_cache(load_model):
    llama = load_model("tiny-llama")
    LastLayers(layers=1).apply(llama.model, llama.spec, 0)
    llama.model.lm_head.requires_grad_(True)
    assert frozen_layers(Layers(llama.model.get_decoder(), "layers", -1)) == 1


@torch.no_grad()
def test_training_the_final_norm_alone(tiny, encode):
    LastLayers(layers=1, only="^$", final_norm=True).apply(tiny.model, tiny.spec, 0)
    task, examples = encode(tiny, "sst2", 4)
    cached, plain = both(tiny, task)
    cached.prepare(examples)
    agree(cached, plain, examples)


@pytest.mark.parametrize("only", ["fc[12]|mlp", "norm", "q_proj", "final_layer_norm|post_attention", "^$"])
def test_the_cut_lies_behind_attention_only_where_nothing_before_trains(tiny, mini, only):
    LastLayers(layers=1, only=only, final_norm=True).apply(tiny.model, tiny.spec, 0)
    objective = Objective(tiny.model, tiny.tokenizer, mini("sst2")[0], cache_gib=1.0)
    expected = "from layer 1" if only in ("norm", "q_proj") else "from the last attention"
    assert objective.forward_path == expected
