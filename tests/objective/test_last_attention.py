"""What follows the last attention runs at the requested positions alone, and gives what the whole layer gives."""

import copy
from types import SimpleNamespace

import pytest
import torch
from helpers.objectives import WORDED, flat, rows_of
from torch import nn

from zobench.models.tuning import Full, LastLayers, LoRA
from zobench.objective import Encoded, Objective, check
from zobench.objective.encode import Row
from zobench.tasks.base import Example

TASKS = ["sst2", "rte", "wsc", "multirc", "worded", "squad"]
TUNINGS = {"full": Full, "last_layers": lambda: LastLayers(layers=1), "lora": lambda: LoRA(layers=2, r=4)}


@pytest.fixture
def encoded(tiny, mini):
    """``encoded(name, n)``: (task, n tokenised examples)."""

    def make(name, n=6):
        task, examples = rows_of(mini, name)
        return task, tiny.encoder.encode(task, examples[:n])

    return make


def both(tiny, task, **settings):
    """An objective that trims the last layer and one that does not."""
    trimmed, whole = (Objective(tiny.model, tiny.tokenizer, task, trim_last_layer=x, **settings) for x in (True, False))
    assert (trimmed.forward_path, whole.forward_path) == ("trimmed", "whole")
    return trimmed, whole


def close(found, expected, tolerance=1e-5):
    assert found == pytest.approx(expected, rel=tolerance)


def parts(model):
    """All that a forward pass might leave changed: modules, hooks, mode, weights."""
    modules = [(name, id(m), m.training) for name, m in model.named_modules()]
    hooks = [(*m._forward_hooks, *m._forward_pre_hooks, *m._forward_hooks_with_kwargs) for m in model.modules()]
    own = [sorted(vars(m)) for m in model.modules()]
    return modules, hooks, own, [(name, id(p), p._version) for name, p in model.named_parameters()]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", TASKS)
def test_losses_and_scores_agree(tiny, encoded, name, shared):
    task, batch = encoded(name)
    trimmed, whole = both(tiny, task, shared_prompt=shared)
    assert (batch[0].example.options == WORDED) == (not any(e.shared for e in batch) and task.loss == "classification")
    before = parts(tiny.model)
    with torch.inference_mode():
        (found, weight), (expected, other) = trimmed.loss_sum(batch), whole.loss_sum(batch)
        assert weight == other
        close(float(found), float(expected))
        close(flat(trimmed.scores(batch)), flat(whole.scores(batch)))
        close(flat(trimmed.answer_losses(batch)), flat(whole.answer_losses(batch)))
        close(float(trimmed.loss_sum(batch[:1])[0]), float(whole.loss_sum(batch[:1])[0]))
    assert trimmed.tokens == whole.tokens
    assert parts(tiny.model) == before


@pytest.mark.parametrize("name", ["sst2", "worded", "squad"])
@torch.inference_mode()
def test_with_lengths_in_buckets(tiny, encoded, name):
    task, batch = encoded(name)
    trimmed, whole = both(tiny, task, length_buckets=3)
    close(float(trimmed.loss_sum(batch)[0]), float(whole.loss_sum(batch)[0]))
    close(flat(trimmed.scores(batch)), flat(whole.scores(batch)))


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("name", ["sst2", "worded", "squad"])
def test_gradients_agree(tiny, encoded, name, tuning):
    task, batch = encoded(name)
    named = TUNINGS[tuning]().apply(tiny.model, tiny.spec, 0)
    with torch.no_grad():
        for i, (_, p) in enumerate(named if tuning == "lora" else ()):
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    found = []
    for objective in both(tiny, task):
        for _, p in named:
            p.grad = None
        loss, weight = objective.loss_sum(batch)
        (loss / weight).backward()
        found.append([torch.zeros_like(p) if p.grad is None else p.grad for _, p in named])
    size = max(float(g.norm()) for g in found[1])
    assert size > 0
    for (parameter, _), a, b in zip(named, *found, strict=True):
        assert float((a - b).norm()) <= 1e-4 * float(b.norm()) + 1e-6 * size, parameter


@pytest.mark.parametrize("name", ["sst2", "worded", "squad"])
@torch.inference_mode()
def test_less_is_computed_behind_the_last_attention_and_nothing_more_before(tiny, encoded, name):
    task, batch = encoded(name)
    decoder = tiny.model.get_decoder()
    seen, objectives = {}, both(tiny, task)
    norms = [module for n, module in decoder.layers[-1].named_modules() if n in ("fc2", "mlp")]
    watched = {"first": decoder.layers[0], "attention": decoder.layers[-1].self_attn, "behind": norms[0]}
    for place, module in watched.items():
        module.register_forward_hook(
            lambda m, args, out, place=place: seen[place].append(
                (out[0] if isinstance(out, tuple) else out)[..., 0].numel()
            )
        )
    found = []
    for objective in objectives:
        seen.update({place: [] for place in watched})
        objective.loss_sum(batch)
        found.append({place: sum(sizes) for place, sizes in seen.items()})
    tails = objectives[0].tails(batch)
    assert found[0]["first"] == found[1]["first"] == found[0]["attention"] == found[1]["attention"]
    assert found[0]["first"] == sum(len(tail.ids) for tail in tails)
    assert found[0]["behind"] == sum(tail.last for tail in tails) < found[1]["behind"] == found[1]["first"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_name", ["tiny-opt", "tiny-llama"])
@torch.inference_mode()
def test_in_half_precision(load_model, mini, model_name, dtype):
    task, splits = mini("sst2")
    half = load_model(model_name, dtype=dtype, gain=4.0)
    batch = half.encoder.encode(task, splits.train[:5])
    trimmed, whole = both(half, task)
    close(flat(trimmed.scores(batch)), flat(whole.scores(batch)), 2e-2)


@pytest.mark.parametrize(
    "where", ["layers.0", "layers.1", "layers.1.self_attn", "layers.1.fc1", "layers.1.mlp", "norm"]
)
def test_an_error_leaves_the_model_as_it_was(tiny, encoded, where):
    task, batch = encoded("sst2")
    (objective, _), decoder = both(tiny, task), tiny.model.get_decoder()
    last = "norm" if hasattr(decoder, "norm") else "final_layer_norm"
    modules = dict(decoder.named_modules())
    module = modules.get(last if where == "norm" else where)
    if module is None:
        pytest.skip("the other architecture has it")
    with torch.no_grad():
        expected = float(objective.loss_sum(batch)[0])

    def fail(*_):
        raise KeyboardInterrupt

    for register in (module.register_forward_pre_hook, module.register_forward_hook):
        before = parts(tiny.model)
        handle = register(fail)
        with pytest.raises(KeyboardInterrupt):
            objective.loss_sum(batch)
        handle.remove()
        assert parts(tiny.model) == before
    with torch.no_grad():
        assert float(objective.loss_sum(batch)[0]) == expected


@torch.no_grad()
def test_the_model_can_still_be_asked_for_all_its_hidden_states(tiny, encoded):
    task, batch = encoded("sst2")
    untouched, ids = copy.deepcopy(tiny.model), torch.tensor([batch[0].rows[0].ids])
    objective, _ = both(tiny, task)
    objective.loss_sum(batch)
    found, expected = (m(input_ids=ids, output_hidden_states=True) for m in (tiny.model, untouched))
    assert len(found.hidden_states) == len(expected.hidden_states) == 3
    assert all(map(torch.equal, found.hidden_states, expected.hidden_states))
    objective.loss_sum(batch)
    assert torch.equal(tiny.model(input_ids=ids).logits, expected.logits)


class Attention(nn.Module):
    """A mean of what came before, given by itself or with other values."""

    def __init__(self, values):
        super().__init__()
        self.mix, self.values = nn.Linear(8, 8), values

    def forward(self, x):
        out = self.mix(x).cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return out if self.values == 1 else (out, *[None] * (self.values - 1))


class Layer(nn.Module):
    """A decoder layer of one of several makes."""

    def __init__(self, make):
        super().__init__()
        self.make, self.up = make, nn.Linear(8, 8)
        self.name = "attention" if make == "another name" else "self_attn"
        setattr(self, self.name, Attention({"alone": 1, "three values": 3}.get(make, 2)))

    def forward(self, x):
        out = getattr(self, self.name)(x)
        if self.make == "three values":
            out, _, _ = out
        x = x + (out if self.make in ("alone", "three values") else out[0])
        if self.make == "mixes behind":
            x = x + x.cumsum(1)
        return x + self.up(x).tanh()


class Decoder(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make, self.embed = make, nn.Embedding(50, 8)
        layers = [Layer(make) for _ in range(0 if make == "no layers" else 2)]
        if make == "a list":
            self.blocks, self.layers = nn.ModuleList(layers), layers
        else:
            setattr(self, "blocks" if make == "other layers" else "layers", nn.ModuleList(layers))

    def forward(self, input_ids, use_cache=False):
        x = self.embed(input_ids)
        for layer in self.blocks if self.make in ("a list", "other layers") else self.layers:
            x = layer(x=x) if self.make == "keywords" else layer(x)
        return SimpleNamespace(last_hidden_state=x)


class Model(nn.Module):
    """The least of a causal language model that an objective needs."""

    def __init__(self, make):
        super().__init__()
        self.base_model, self.head = Decoder(make), nn.Linear(8, 50, bias=False)
        if make != "no decoder":
            self.get_decoder = lambda: self.base_model

    @property
    def dtype(self):
        return self.head.weight.dtype

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, use_cache=False):
        hidden = self.base_model(input_ids=input_ids).last_hidden_state
        return SimpleNamespace(logits=self.head(hidden))


def batch_of_ids():
    prompts = [(5, 6, 7, 8, 9), (11, 12), (13, 14, 15)]
    return [
        Encoded(Example(i, "", ("", ""), i % 2), tuple(Row((*prompt, option), 1) for option in (20, 30)))
        for i, prompt in enumerate(prompts)
    ]


FITTING = ["plain", "other layers"]
OTHERS = ["no decoder", "no layers", "a list", "another name"]
OTHERS += ["mixes behind", "alone", "three values", "keywords"]


@pytest.mark.parametrize("make", [*FITTING, *OTHERS])
def test_a_model_that_cannot_be_cut_is_run_as_a_whole(make, compose_task):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Model(make).eval()
    before = parts(model)
    trimmed, whole = (Objective(model, None, compose_task("sst2"), trim_last_layer=x) for x in (True, False))
    for objective in (trimmed, whole):
        check.settle(objective, batch_of_ids())
    assert parts(model) == before
    assert (trimmed.forward_path, whole.forward_path) == ("trimmed" if make in FITTING else "whole", "whole")
    with torch.inference_mode():
        close(float(trimmed.loss_sum(batch_of_ids())[0]), float(whole.loss_sum(batch_of_ids())[0]))
        close(flat(trimmed.scores(batch_of_ids())), flat(whole.scores(batch_of_ids())))
    assert parts(model) == before
