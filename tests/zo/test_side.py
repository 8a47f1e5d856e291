"""The side path gives the losses of moved weights, with one offset and with several, and the weights are only read."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import matrix, offsets
from helpers.families import LISTED

from zobench.testing.definition import moved
from zobench.zo import ZERO, Direction, Oracle, make_slots
from zobench.zo.factors import Factors, _fuses, linear
from zobench.zo.perturbations.low_rank import LowRank
from zobench.zo.perturbations.stored import Stored
from zobench.zo.shifted import ShiftedWeights
from zobench.zo.side import NotStackable
from zobench.zo.stacking import keeps_groups

OFFSETS = [Direction({4: 0.02, 9: -0.01}), Direction({4: -0.02, 9: 0.01}), ZERO]
#: families that one forward pass does not run at several offsets where experts, tensors of three axes, train
ALONE = {"mixtral"}


DISTRIBUTIONS = {"low rank": offsets.low_rank, "aligned subspace": offsets.aligned}


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# -- the products ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(7, 5), (768, 768), (96, 64)])
def test_a_linear_layer_with_factors_is_that_of_the_sum(shape, dtype):
    m, n = shape
    x, weight, bias, shifts = (numbers(*s, dtype=dtype, seed=i) for i, s in enumerate([(6, n), shape, (m,), (3, m)]))
    factors = [Factors(numbers(m, 2, dtype=dtype), numbers(n, 2, dtype=dtype, seed=9)), None, None]
    found = linear(x, weight, bias, factors, shifts)
    for group, own in enumerate(factors):
        whole = weight if own is None else weight + own.U @ own.V.T
        rows = slice(2 * group, 2 * group + 2)
        torch.testing.assert_close(found[rows], F.linear(x[rows], whole, bias + shifts[group]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fused", [True, False])
def test_in_half_precision_the_thin_product_is_not_lost_in_rounding(fused, monkeypatch):
    """Far below half a unit of the last place it is there in the mean: no dead zone."""
    if fused and not _fuses(torch.device("cpu"), torch.bfloat16):
        pytest.skip("this CPU has no fused linear layer")
    if not fused:
        monkeypatch.setattr("zobench.zo.factors._fuses", lambda device, dtype: False)
    x, weight, bias = (numbers(*s, dtype=torch.bfloat16, seed=i) for i, s in enumerate([(512, 64), (256, 64), (256,)]))
    factors = Factors(numbers(256, 2, seed=5) * 1e-3, numbers(64, 2, seed=6)).to(torch.bfloat16)
    thin = (x.double() @ factors.V.double()) @ factors.U.double().T
    found = linear(x, weight, bias, [factors]).double() - F.linear(x.double(), weight.double(), bias.double())
    assert float((found * thin).sum() / thin.square().sum()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_factors_are_the_direction(name, dtype):
    slot = make_slots([("w", numbers(40, 24, dtype=dtype))])[0]
    perturbation = DISTRIBUTIONS[name]([slot])
    direction = Direction({5: 0.5, 6: -1.5, 2**62 + 1: 0.1})
    own = perturbation.factors(slot, direction)
    whole = torch.zeros(40, 24, dtype=torch.promote_types(dtype, torch.float))
    for key, weight in direction.items():
        perturbation.add_(slot, perturbation.draw(slot, key), whole, weight)
    accurate = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(perturbation.estimate(slot, direction), whole, rtol=0, atol=accurate)
    product = own.U.to(whole.dtype) @ own.V.to(whole.dtype).T
    torch.testing.assert_close(product, whole, rtol=0, atol=0.1 if dtype == torch.bfloat16 else accurate)
    expected = slot.param.to(whole.dtype) * 0.9 + whole * 1e-2
    perturbation.move_(slot, direction * 1e-2, 0.9)
    off = 2**-7 if dtype == torch.bfloat16 else accurate
    torch.testing.assert_close(slot.param.to(whole.dtype), expected, rtol=off, atol=off)


def test_low_rank_entries_have_variance_one_and_no_correlation():
    slot = make_slots([("w", torch.zeros(6, 5))])[0]
    draws = torch.stack([LowRank(rank=2).draw(slot, key).flatten() for key in range(20_000)])
    torch.testing.assert_close(draws.T @ draws / len(draws), torch.eye(30), rtol=0, atol=0.08)
    assert float(draws.mean(0).abs().max()) < 0.04
    assert float(draws.pow(4).mean()) == pytest.approx(6.0, abs=0.3)  # 3 (1 + 2/r)


def test_a_rank_beyond_the_short_side_is_cut_and_vectors_are_gaussian():
    from zobench.zo import Gaussian

    slots = make_slots([("w", torch.zeros(3, 9)), ("b", torch.zeros(4)), ("c", torch.zeros(2, 3, 2))])
    perturbation = LowRank(rank=8)
    assert [perturbation.factor_rank(slot) for slot in slots] == [3, None, None]
    for slot in slots[1:]:
        u = Direction.ray(3)
        assert torch.equal(perturbation.estimate(slot, u), Gaussian().estimate(slot, u))


def test_a_tensor_held_beside_draws_is_not_left_out_of_the_direction():
    """A direction with it has no factors: its losses are those of weights moved there."""
    weight = numbers(6, 8)
    slots = make_slots([("w", weight)])
    held = numbers(6, 8, seed=3)
    perturbation = Stored(LowRank(rank=2), lambda slot: held)
    oracle, offset = Oracle(slots, perturbation, "exact"), 0.1 * Stored.ray + 0.02 * Direction.ray(7)
    oracle.begin(lambda: F.linear(torch.eye(8), weight).square().mean())
    assert oracle.loss(offset) == pytest.approx(float(moved(perturbation, slots[0], offset).square().mean()), rel=1e-6)


# -- functions ---------------------------------------------------------------------------------------------------------


def parameters(dtype=torch.float64):
    shapes = {"w": (6, 8), "t": (8, 6), "table": (40, 8), "bias": (6,), "gain": (8,), "shift": (8,)}
    return {name: torch.nn.Parameter(numbers(*s, dtype=dtype, seed=i)) for i, (name, s) in enumerate(shapes.items())}


IDS = torch.tensor([[3, 3, 0, 39], [7, 1, 3, 1], [2, 2, 8, 9]])
X = numbers(3, 4, 8, dtype=torch.float64, seed=40)
#: functions of a batch's copies; ``n`` is their number
FUNCTIONS = {
    "linear": lambda p, n: F.linear(X.repeat(n, 1, 1), p["w"]),
    "linear of one axis of rows": lambda p, n: F.linear(X[:, 0].repeat(n, 1), p["w"], p["bias"]),
    "linear of four axes": lambda p, n: F.linear(X[:, None].repeat(n, 1, 1, 1), p["w"], p["bias"]),
    "linear by keywords": lambda p, n: F.linear(input=X.repeat(n, 1, 1), weight=p["w"], bias=p["bias"]),
    "linear with a bias of its own": lambda p, n: F.linear(X.repeat(n, 1, 1), numbers(6, 8).double(), p["bias"]),
    "addmm": lambda p, n: torch.addmm(p["bias"], X.repeat(n, 1, 1).view(-1, 8), p["t"]),
    "a product": lambda p, n: X.repeat(n, 1, 1) @ p["t"],
    "a product of vectors": lambda p, n: torch.matmul(X.repeat(n, 1, 1)[:, 0], p["t"]) + p["bias"],
    "embedding": lambda p, n: F.embedding(IDS.repeat(n, 1), p["table"]),
    "rows": lambda p, n: p["table"][IDS.repeat(n, 1)],
    "positions beside them": lambda p, n: F.embedding(IDS.repeat(n, 1), p["table"]) + F.embedding(IDS[:1], p["table"]),
    "layer norm": lambda p, n: F.layer_norm(X.repeat(n, 1, 1), (8,), p["gain"], p["shift"]),
    "rms norm": lambda p, n: p["gain"] * X.repeat(n, 1, 1),
    "rms norm with 1 + weight": lambda p, n: X.repeat(n, 1, 1) * (1.0 + p["gain"].float()).to(X.dtype),
    "rms norm, cast": lambda p, n: p["gain"].to(torch.float64) * X.repeat(n, 1, 1),
    "layer norm of sums": lambda p, n: F.layer_norm(X.repeat(n, 1, 1), (8,), p["gain"] + p["shift"], bias=-p["shift"]),
    "rms norm's function": lambda p, n: F.rms_norm(X.repeat(n, 1, 1), (8,), weight=p["gain"]),
    "tied": lambda p, n: F.linear(F.embedding(IDS.repeat(n, 1), p["table"]), p["table"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@torch.no_grad()
def test_a_function_is_that_of_moved_weights(name, distribution, monkeypatch):
    """With one offset, and with three in one call; no matrix is made whole."""
    given, function = parameters(), FUNCTIONS[name]
    slots = make_slots(given.items())
    perturbation = DISTRIBUTIONS[distribution](slots)
    there = [{slot.name: moved(perturbation, slot, offset) for slot in slots} for offset in OFFSETS]
    expected = [function(p, 1) for p in there]

    write_ = type(perturbation).write_

    def write(self, slot, *rest, **more):
        assert slot.param.ndim == 1, f"{slot.name} was made whole"
        write_(self, slot, *rest, **more)

    monkeypatch.setattr(type(perturbation), "write_", write)
    context = ShiftedWeights(slots, perturbation)
    for offset, right in zip(OFFSETS, expected, strict=True):
        with context.at(offset):
            torch.testing.assert_close(function(given, 1), right, rtol=0, atol=1e-12)
    with context.at(*OFFSETS):
        found = function(given, 3)
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p: p["w"].T, "__get__ of w"),
        (lambda p: p["gain"].sum(), "sum of gain"),
        (lambda p: X[0, 0] * p["gain"], "mul of gain"),
        (lambda p: F.linear(X, p["w"], -p["bias"]), "linear of"),
        (lambda p: torch.stack([1.0 + p["gain"], p["gain"]]), "stack of"),
        (lambda p: F.linear(X[0, :2], p["w"]), "2 rows are not 3 groups"),
        (lambda p: torch.einsum("abi,oi->abo", X, p["w"]), "einsum of w"),
    ],
)
@torch.no_grad()
def test_what_cannot_be_stacked_says_so(function, message):
    given = parameters()
    context = ShiftedWeights(make_slots(given.items()), LowRank(rank=2))
    with context.at(*OFFSETS), pytest.raises(NotStackable, match=message):
        function(given)


@pytest.mark.parametrize("scale", [1.0, 1e-5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("gathered", "right"), [(False, True), (True, False)])
def test_rows_gathered_out_of_the_order_of_groups_are_noticed(gathered, right, dtype, scale):
    """However small the offsets are that a method measures at."""
    given = parameters(dtype)
    slots = make_slots((name, given[name]) for name in ("w", "bias"))

    def losses(copies):
        rows = X.to(dtype).repeat(copies, 1, 1).view(-1, 8)
        order = rows[:, 0].argsort() if gathered else torch.arange(len(rows))
        out = F.linear(rows[order], given["w"], given["bias"])[order.argsort()]
        return out.view(copies, -1).square().mean(1)

    context = ShiftedWeights(slots, LowRank(rank=2))
    assert keeps_groups(context, losses, OFFSETS[0] * scale) is right


def test_an_offset_that_is_too_large_for_the_loss_is_tried_smaller():
    """What is found must not hang on the batch at hand: another one may stay finite."""
    given = parameters()
    slots = make_slots([("w", given["w"])])

    def losses(copies):
        found = F.linear(X.repeat(copies, 1, 1), given["w"]).view(copies, -1).square().mean(1)
        return torch.where(found > 20.0, torch.nan, found)

    context = ShiftedWeights(slots, LowRank(rank=2))
    with context.at(OFFSETS[0] * 64):
        assert losses(1).isnan()
    assert keeps_groups(context, losses, OFFSETS[0])


def test_a_tensor_that_is_not_read_by_torch_functions_is_not_stacked():
    given = parameters()
    context = ShiftedWeights(make_slots(given.items()), LowRank(rank=2))
    assert not keeps_groups(context, lambda n: F.linear(X.repeat(n, 1, 1), given["w"]).view(n, -1).mean(1), OFFSETS[0])


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "name"), enumerate(LISTED), ids=LISTED)
def test_losses_of_a_family_are_those_of_moved_weights(number, name):
    """Under every tuning, cut and cached, one offset at a time and several; families take turns in ways and modes.

    scripts/side_path.py has all of it.
    """
    every = list(offsets.WAYS)
    for place, case in enumerate(matrix.CASES):
        ways, turn = [every[(number + place) % len(every)]], (number // 2 + place) % 2
        for dtype in offsets.ALLOWED if case == ("full", 0.0) else [torch.float32]:
            for way, cell in offsets.measure(name, case, dtype, ways, turn).items():
                assert not cell.refusal
                assert cell.ways[0].startswith("side"), (case, way)
                assert cell.stacked is (name not in ALONE or case[0] in ("lora", "prefix")), (case, way)
                assert max(cell.alone, cell.together) < offsets.ALLOWED[dtype], (case, way, cell)
                assert cell.shift > 1e-4


def test_the_same_way_twice_gives_the_same_bits_and_leaves_the_weights():
    model, slots = offsets.tuned("opt", "full")
    loss = offsets.loss_of(model, matrix.BATCHES[0])
    before = copy.deepcopy([slot.param.detach() for slot in slots])
    oracle = Oracle(slots, LowRank(rank=2), stack_rows=0)
    oracle.begin(loss)
    assert oracle.losses(OFFSETS[:2]) == oracle.losses(OFFSETS[:2])
    assert oracle.evaluation == "side"
    assert oracle.missed == []
    assert all(torch.equal(slot.param, old) for slot, old in zip(slots, before, strict=True))
    assert oracle.state_bytes() == 0
