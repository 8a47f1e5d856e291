"""Several offsets in one forward pass: the losses of one offset at a time, and of weights that were moved."""

import copy

import pytest
import torch
from helpers import matrix, offsets
from helpers.families import build
from helpers.objectives import rows_of
from helpers.per_example import by_example

from zobench import MeZO
from zobench.models.tuning import LastLayers
from zobench.zo import ZERO, Direction, Gaussian, Oracle, Perturbation, Rademacher, make_slots
from zobench.zo.perturbations.low_rank import LowRank

U, V = Direction.ray(3), Direction.ray(11)
OFFSETS = [0.02 * U, -0.02 * U, ZERO, 0.03 * V - 0.01 * U]


@torch.no_grad()
def measured(named, loss, perturbation, mode="exact", stack_rows=10**6):
    """(losses at the offsets, how they were evaluated, the losses of their examples)"""
    oracle = Oracle(make_slots(named), perturbation, mode, stack_rows)
    oracle.begin(loss)
    losses = oracle.losses(OFFSETS)
    way = oracle.evaluation
    oracle.settle()
    examples = oracle.example_losses(OFFSETS)
    oracle.settle()
    assert oracle.forwards == 2 * len(OFFSETS)
    assert oracle.losses(OFFSETS) == losses, "the same bits twice"
    oracle.settle()
    return losses, way, examples


@torch.no_grad()
def where_moved(model, named, loss_of, perturbation):
    """The losses of copies whose weights were moved to the offsets."""
    names, found = {name for name, _ in named}, []
    for offset in OFFSETS:
        twin = copy.deepcopy(model)
        slots = make_slots((n, p) for n, p in twin.named_parameters() if n in names)
        Perturbation.move(perturbation, slots, offset)
        found.append(float(loss_of(twin)()))
    return found


def loss_of_batch(batch, **how):
    """``loss_of(model)``: its mean loss on the batch, as a closure."""
    return lambda model: offsets.loss_of(model, batch, **how)


def agree(model, named, loss_of, perturbation):
    """Hold stacked losses to those of one offset at a time, and of moved weights."""
    loss = loss_of(model)
    before = [p.detach().clone() for _, p in named]
    together, way, examples = measured(named, loss, perturbation)
    assert way == "side, stacked"
    alone, way, alone_examples = measured(named, loss, perturbation, stack_rows=0)
    assert "stacked" not in way
    assert together == pytest.approx(alone, rel=1e-5)
    assert together == pytest.approx(where_moved(model, named, loss_of, perturbation), rel=1e-5)
    for mine, its, mean in zip(examples, alone_examples, together, strict=True):
        assert mine == pytest.approx(its, rel=1e-4, abs=1e-5)
        assert sum(mine) / len(mine) == pytest.approx(mean, rel=1e-5)
    assert len(set(together)) == len(OFFSETS)
    assert all(torch.equal(old, p) for old, (_, p) in zip(before, named, strict=True))


WAYS = [
    ("llama", {"micro": 3}),
    ("gpt2", {"micro": 3, "length_buckets": 1}),  # a table of positions, and micro-batches of unlike size
    ("llama", {"length_buckets": 2}),
    ("llama", {"shared_prompt": False}),
]


@pytest.mark.parametrize(("name", "how"), WAYS)
def test_ways_to_run_a_batch(name, how):
    model = build(name)
    agree(model, list(model.named_parameters()), loss_of_batch(matrix.BATCHES[0], **how), LowRank(rank=2))


@pytest.mark.parametrize("family", ["tiny-opt", "tiny-llama"])
def test_answers_and_cached_activations_of_the_last_attention(family, load_model, mini):
    loaded = load_model(family, gain=4.0)
    task, rows = rows_of(mini, "squad")
    batch = loaded.encoder.encode(task, rows[:4])
    LastLayers(layers=1, only="mlp|fc").apply(loaded.model, None, 0)
    named = [(n, p) for n, p in loaded.model.named_parameters() if p.requires_grad]
    loss_of = loss_of_batch(batch, task=task, cache_gib=1.0)
    assert loss_of(loaded.model).objective.forward_path == "from the last attention"
    agree(loaded.model, named, loss_of, LowRank(rank=2))


class Logits:
    """The mean cross-entropy of the next tokens, in the model's own dtype."""

    rows, load, stacks = 1, 1, True

    def __init__(self, model):
        self.model, self.size = model, 3
        self.ids = torch.randint(4, 250, (3, 9), generator=torch.Generator().manual_seed(0))

    def __call__(self):
        return self.losses()[0]

    def losses(self, copies=1, examples=False):
        ids = self.ids.repeat(copies, 1)
        logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1]
        found = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(1)
        return found.view(copies, 3) if examples else found.view(copies, 3).mean(1)


@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("name", ["opt", "llama", "gpt2", "qwen3", "gpt_neox"])
def test_in_double_precision(name, mode):
    model = build(name, torch.float64)
    named = list(model.named_parameters())
    together, way, _ = measured(named, Logits(model), LowRank(rank=2), mode=mode)
    assert way == "side, stacked"
    alone, _, _ = measured(named, Logits(model), LowRank(rank=2), mode=mode, stack_rows=0)
    assert together == pytest.approx(alone, rel=1e-12)
    assert together == pytest.approx(where_moved(model, named, Logits, LowRank(rank=2)), rel=1e-12)


class Counted(Logits):
    """Tells how many copies each forward pass had."""

    def __init__(self, model, rows=1):
        super().__init__(model)
        self.load, self.copies = rows, []

    def losses(self, copies=1, examples=False):
        self.copies.append(copies)
        return super().losses(copies, examples)


@pytest.mark.parametrize(
    ("stack_rows", "rows", "offsets", "copies"),
    [
        (1024, 256, OFFSETS, [4]),
        (1024, 300, OFFSETS, [2, 2]),  # a pair first: not 3 and 1
        (1024, 300, [0.02 * U, 0.02 * V, ZERO, 0.01 * U], [3, 1]),
        (1024, 513, OFFSETS, [1] * 4),
        (0, 1, OFFSETS, [1] * 4),
    ],
)
def test_how_many_offsets_share_a_forward_pass(stack_rows, rows, offsets, copies):
    model = build("llama")
    loss = Counted(model, rows)
    oracle = Oracle(make_slots(model.named_parameters()), LowRank(rank=2), "exact", stack_rows)
    for step in range(2):
        oracle.begin(loss)
        oracle.losses(offsets)
        assert oracle.forwards == len(offsets) * (step + 1)
        assert len(oracle.seen) == len(offsets)
        if step == 0 and max(copies) > 1:  # the model is tried once
            assert sorted(loss.copies[:3]) == [1, 1, 2]
            del loss.copies[:3]
        assert loss.copies == copies
        loss.copies.clear()


@pytest.mark.parametrize("perturbation", [Gaussian(), Rademacher()])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_directions_of_full_rank_are_evaluated_one_by_one(perturbation, mode):
    model = build("llama")
    loss = Counted(model)
    oracle = Oracle(make_slots(model.named_parameters()), perturbation, mode)
    oracle.begin(loss)
    oracle.losses(OFFSETS)
    assert loss.copies == [1] * 4
    assert "stacked" not in oracle.evaluation


def test_a_weight_that_is_moved_is_moved_for_every_offset():
    """What a walk leaves behind does not hang on how losses were evaluated: replaying knows nothing of it."""
    model = build("llama")
    slots = make_slots(model.named_parameters())
    oracle = Oracle(slots, LowRank(rank=2), "in_place")
    oracle.begin(Counted(model), missed=[slots[1].name])
    oracle.losses(OFFSETS)
    assert oracle.evaluation == "side and walk"


@pytest.mark.parametrize("update", [MeZO.update, by_example])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_a_stacked_run_is_replayed_and_resumed_to_the_bit(mode, update, monkeypatch):
    monkeypatch.setattr(MeZO, "update", update)
    models = [build("opt") for _ in range(3)]
    settings = {"lr": 1e-2, "eps": 1e-2, "probes": 2, "mode": mode}
    whole, again, rest = (MeZO(m.named_parameters(), perturbation=LowRank(rank=2), **settings) for m in models)
    seen = []
    for _ in range(4):
        whole.step(Logits(models[0]))
        assert whole.oracle.evaluation == "side, stacked"
        seen.append(whole.oracle.seen)
    for losses in seen:
        again.replay(losses, whole.oracle.missed or [])
    for losses in seen[:2]:
        rest.replay(losses, whole.oracle.missed or [])
    for _ in range(2):
        rest.step(Logits(models[2]))
    for other in models[1:]:
        assert all(map(torch.equal, models[0].parameters(), other.parameters()))
