"""The oracle on weights that stay where they are: losses, memory and steps of whole models."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zobench import MeZO
from zobench.bench.models import random_batch
from zobench.bench.spec import Shape
from zobench.objective import Objective
from zobench.testing.definition import moved
from zobench.zo import Direction, Diverged, Gaussian, Oracle, Perturbation, Rademacher, make_slots, placement, shifted
from zobench.zo.noise import draws
from zobench.zo.perturbations.aligned_subspace import AlignedSubspace
from zobench.zo.perturbations.block_sampling import SampledBlocks
from zobench.zo.perturbations.mean_shift import MeanShift
from zobench.zo.perturbations.rank_one import RankOnePrecision
from zobench.zo.perturbations.smoothing import Kernel
from zobench.zo.perturbations.stored import Stored
from zobench.zo.perturbations.tensor_radii import TensorRadii

FAMILIES = ["tiny-opt", "tiny-llama"]
OFFSETS = [Direction({4: 0.02, 9: -0.01}), Direction({4: -0.02, 9: 0.01})]
SHAPE = Shape(3, 10)


def aligned(slots):
    subspace = AlignedSubspace(rank=4)
    subspace.randomise(slots, 3)
    return subspace


def shifted_mean(slots):
    mean = MeanShift(sigma=0.5, lr_mu=0.0, mu0="unit_per_tensor", seed=2)
    mean.begin(0, slots)
    return mean


def stored(slots):
    tensors = {slot.name: torch.full_like(slot.param, 0.3) for slot in slots[::2]}
    return Stored(Gaussian(), lambda slot: tensors.get(slot.name))


def blocks(slots):
    sampled = SampledBlocks()
    sampled.redraw(slots, torch.full((len(slots),), 0.5), 1)
    return sampled


PERTURBATIONS = {
    "gaussian": lambda slots: Gaussian(),
    "rademacher": lambda slots: Rademacher(),
    "aligned subspace": aligned,
    "rank one": lambda slots: RankOnePrecision(rho=0.5, lr_cov=0.1),
    "rank one, tiled": lambda slots: RankOnePrecision(rho=0.5, lr_cov=0.1, block="tiled"),
    "mean": shifted_mean,
    "radii": lambda slots: TensorRadii(Gaussian(), lambda step: Kernel(3)),
    "stored": stored,
    "blocks": blocks,
}
IN_BLOCKS = ["rademacher", "aligned subspace", "rank one", "rank one, tiled", "mean"]


@pytest.fixture(params=FAMILIES)
def model(request, load_model):
    """A fresh model, its weights scaled up so that the loss depends on all of them."""
    return load_model(request.param, gain=4.0).model


@pytest.fixture
def loss_of(compose_task):
    """``loss_of(model)()``: its loss on a batch of random tokens."""

    def make(model):
        objective, batch = Objective(model, None, compose_task("sst2")), random_batch(model, SHAPE)

        def loss():
            total, weight = objective.loss_sum(batch)
            return total / weight

        return loss

    return make


@pytest.fixture
def loss_where_moved(loss_of):
    """``loss_where_moved(model, perturbation, offset)``: the loss of a copy whose weights were moved."""

    @torch.no_grad()
    def measure(model, perturbation, offset):
        twin = copy.deepcopy(model)
        Perturbation.move(perturbation, make_slots(twin.named_parameters()), offset)
        return float(loss_of(twin)())

    return measure


def bits(slots):
    return [slot.param.detach().clone() for slot in slots]


@pytest.mark.parametrize(
    ("name", "large"), [*((name, False) for name in PERTURBATIONS), *((name, True) for name in IN_BLOCKS)]
)
def test_exact_losses_are_those_of_moved_weights(model, name, large, loss_of, loss_where_moved, monkeypatch):
    """Also with the matrices of linear layers in blocks."""
    if large:
        monkeypatch.setattr(shifted, "LARGE", 1000)
    slots = make_slots(model.named_parameters())
    perturbation = PERTURBATIONS[name](slots)
    offsets = OFFSETS
    if name == "stored":
        offsets = [offset + Stored.ray * 0.1 for offset in offsets]
    before, loss = bits(slots), loss_of(model)
    oracle = Oracle(slots, perturbation, "exact")
    oracle.begin(loss)
    losses = oracle.losses(offsets)
    assert oracle._placement.shifted._scratch == {}
    assert oracle._placement.shown == {slot.index for slot in slots}
    assert oracle.state_bytes() == 0
    assert all(map(torch.equal, bits(slots), before))
    assert losses == pytest.approx([loss_where_moved(model, perturbation, offset) for offset in offsets], rel=1e-6)
    with torch.inference_mode():
        assert min(abs(value - float(loss())) for value in losses) > 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_exact_losses_in_half_precision(family, dtype, load_model, loss_of, loss_where_moved):
    model = load_model(family, dtype=dtype, gain=4.0).model
    slots = make_slots(model.named_parameters())
    oracle = Oracle(slots, Gaussian(), "exact")
    oracle.begin(loss_of(model))
    assert oracle.losses(OFFSETS) == [loss_where_moved(model, Gaussian(), offset) for offset in OFFSETS]


@pytest.mark.parametrize("perturbation", [Gaussian(), Rademacher()])
def test_in_place_large_embeddings_stay_where_they_are(model, perturbation, loss_of, loss_where_moved, monkeypatch):
    monkeypatch.setattr(placement, "TABLE", 1)
    method = MeZO(model.named_parameters(), lr=1e-3, eps=1e-2, weight_decay=0.1)
    method.oracle.perturbation = perturbation
    tables = {slot.index: slot for slot in method.slots if slot.kind == "embedding"}
    memory = {index: slot.param.detach().numpy() for index, slot in tables.items()}
    start, twin, losses = bits(method.slots), copy.deepcopy(model), []
    loss = loss_of(model)

    def closure():
        losses.append(float(loss()))
        assert all((memory[index] == start[index].numpy()).all() for index in tables)
        return losses[-1]

    for _ in range(2):
        probe = method.direction() * 1e-2
        method.step(closure)
        expected = [loss_where_moved(twin, perturbation, offset) for offset in (probe, -probe)]
        assert losses[-2:] == pytest.approx(expected, rel=1e-5)
        assert method.oracle._placement.shown == set(tables)
        assert method.oracle._placement.shifted._scratch == {}
        twins = make_slots(twin.named_parameters())
        for slot, old in zip(method.slots, twins, strict=True):
            keep = 1.0 - 1e-4 if slot.kind != "vector" else 1.0
            expected = moved(perturbation, old, method.applied * -1e-3, keep)
            if slot.index in tables:
                assert torch.equal(slot.param, expected)
            torch.testing.assert_close(slot.param.detach(), expected, rtol=0, atol=1e-5)
        start, twin = bits(method.slots), copy.deepcopy(model)
    assert method.state_bytes() == 0


class Hidden:
    """A loss that reads one tensor behind torch's back."""

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.w = nn.Parameter(torch.randn(5, 4, generator=generator))
        self.b = nn.Parameter(torch.randn(5, generator=generator))
        self.memory, self.calls = self.w.detach().numpy(), 0
        self.x = torch.randn(7, 4, generator=generator)

    def named(self):
        return [("w", self.w), ("b", self.b)]

    def loss(self, w=None, b=None):
        self.calls += 1
        w = torch.from_numpy(self.memory.copy()) if w is None else w
        return (F.linear(self.x, w) + (self.b if b is None else b)).square().mean()


@pytest.mark.parametrize("mode", ["exact", "in_place"])
def test_what_torch_functions_do_not_read_is_moved_and_put_back(mode, monkeypatch):
    monkeypatch.setattr(placement, "TABLE", 1)
    problem = Hidden()
    slots = make_slots([("embed", problem.w), ("b", problem.b)])
    before = bits(slots)
    oracle = Oracle(slots, Gaussian(), mode)
    exact = mode == "exact"
    for batch in range(2):
        oracle.begin(problem.loss)
        problem.calls = 0
        losses = oracle.losses(OFFSETS)
        assert problem.calls == (3 if batch == 0 else 2)
        assert oracle.forwards == 2 * (batch + 1)
        oracle.settle()
        for slot, old in zip(slots, before, strict=True):
            torch.testing.assert_close(slot.param.detach(), old, rtol=0, atol=0 if exact else 1e-6)
        expected = [float(problem.loss(*(moved(Gaussian(), slot, o) for slot in slots)).detach()) for o in OFFSETS]
        assert losses == pytest.approx(expected, rel=1e-5)
    assert oracle._placement.shown == ({1} if exact else set())
    assert oracle.state_bytes() == (slots[0].bytes if exact else 0)
    expected = [moved(Gaussian(), slot, Direction({4: -0.2})) for slot in slots]
    oracle.losses(OFFSETS[:1])
    oracle.descend(Direction({4: 2.0}), 0.1, 0.0)
    for slot, right in zip(slots, expected, strict=True):
        torch.testing.assert_close(slot.param.detach(), right.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt, math.nan])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_error_leaves_the_weights_to_the_bit(raised, call):
    problem = Hidden()
    slots = make_slots(problem.named())
    before = bits(slots)
    oracle = Oracle(slots, Gaussian(), "exact")

    def closure():
        value = problem.loss()
        if problem.calls != call:
            return value
        if raised is math.nan:
            return value * math.nan
        raise raised

    oracle.begin(closure)
    survives = raised is math.nan and call == 1  # it is evaluated again with the missed tensor moved
    if survives:
        assert all(map(math.isfinite, oracle.losses(OFFSETS)))
        oracle.settle()
    else:
        with pytest.raises(Diverged if raised is math.nan else raised):
            oracle.losses(OFFSETS)
    assert all(map(torch.equal, bits(slots), before))
    assert oracle._placement.shifted._scratch == {}


@pytest.mark.parametrize("mode", ["exact", "in_place"])
def test_a_tied_head_is_the_table_at_the_offset(mode, monkeypatch):
    """Looked up, and multiplied by, under one name; with a large head in blocks, too."""
    monkeypatch.setattr(placement, "TABLE", 1)
    table = nn.Embedding(30, 6)
    head = nn.Linear(6, 30, bias=False)
    head.weight = table.weight
    ids = torch.tensor([[3, 3, 29], [0, 7, 1]])

    def loss():
        return head(table(ids)).square().mean()

    slots = make_slots([("embed", table.weight), ("head", head.weight)])
    assert len(slots) == 1
    before = bits(slots)
    for large in (1 << 24, 60):
        monkeypatch.setattr(shifted, "LARGE", large)
        oracle = Oracle(slots, Gaussian(), mode)
        oracle.begin(loss)
        there = [moved(Gaussian(), slots[0], offset).detach() for offset in OFFSETS]
        expected = [float((F.embedding(ids, w) @ w.T).square().mean()) for w in there]
        assert oracle.losses(OFFSETS) == pytest.approx(expected, rel=1e-6)
        assert torch.equal(slots[0].param, before[0])


def test_torchs_own_operations_give_the_same_losses(model, loss_of, monkeypatch):
    slots, losses = make_slots(model.named_parameters()), []
    for value in ("", "torch"):
        monkeypatch.setenv("ZOBENCH_NOISE", value)
        draws._fused.cache_clear()
        oracle = Oracle(slots, Gaussian(), "exact")
        oracle.begin(loss_of(model))
        losses.append(oracle.losses(OFFSETS))
    draws._fused.cache_clear()
    assert losses[0] == losses[1]


def test_steps_of_both_modes_are_alike(model, loss_of):
    twin = copy.deepcopy(model)
    methods = {}
    for mode, copied in (("exact", model), ("in_place", twin)):
        methods[mode] = MeZO(copied.named_parameters(), lr=1e-3, eps=1e-2, seed=5, mode=mode)
        loss = loss_of(copied)
        for _ in range(3):
            methods[mode].step(loss)
    for one, other in zip(methods["exact"].slots, methods["in_place"].slots, strict=True):
        torch.testing.assert_close(one.param, other.param, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["exact", "in_place"])
def test_a_copied_method_goes_on_like_the_original(mode, monkeypatch):
    monkeypatch.setattr(placement, "TABLE", 1)
    problem = Hidden()
    original = {"embed": problem.w.detach().clone(), "b": problem.b.detach().clone()}
    method = MeZO(original.items(), lr=1e-2, mode=mode)
    method.step(lambda: problem.loss(w=original["embed"], b=original["b"]))
    twin, other = copy.deepcopy((original, method))
    assert other.slots[0].param is twin["embed"]
    for stepping, weights in ((method, original), (other, twin)):
        stepping.step(lambda weights=weights: problem.loss(w=weights["embed"], b=weights["b"]))
    assert method.oracle.notes == other.oracle.notes
    assert all(torch.equal(original[name], twin[name]) for name in original)
