"""Functions inside ``ShiftedWeights`` give what they give on moved weights, and the weights stay where they are."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zobench.testing.definition import moved
from zobench.zo import ZERO, Direction, Gaussian, Rademacher, make_slots, shifted
from zobench.zo.perturbations.block_sampling import SampledBlocks
from zobench.zo.shifted import ShiftedWeights

OFFSET = Direction({11: 0.37, 12: -1.3e-3, 2**62 + 5: 0.2})
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def numbers(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape))).to(dtype)


def parameters(dtype=torch.float32):
    """Two matrices, a table whose rows cross spans of the noise, and vectors."""
    shapes = {"w": (6, 8), "v": (8, 8), "table": (40, 300), "bias": (6,), "gain": (8,), "shift": (8,)}
    return {name: nn.Parameter(numbers(*shape, dtype=dtype)) for name, shape in shapes.items()}


def watched(given, perturbation=None):
    return ShiftedWeights(make_slots(given.items()), perturbation or Gaussian())


@torch.no_grad()
def check(function, given=None, perturbation=None, exact=True):
    """``function(p)`` is the same of shifted and of moved parameters; nothing is left behind."""
    given = given or parameters()
    context = watched(given, perturbation)
    before = {name: p.clone() for name, p in given.items()}
    there = {slot.name: moved(context.perturbation, slot, OFFSET) for slot in context.slots}
    with context.at(OFFSET):
        found = function(given)
    expected = function(there)
    if exact:
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    else:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert all(torch.equal(given[name], old) for name, old in before.items())
    assert context._scratch == {}
    return context


IDS = torch.tensor([[3, 3, 0, 39], [7, 1, 3, 1]])
X, LONG = numbers(2, 5, 8), numbers(2, 5, 300)
FUNCTIONS = {
    "linear": lambda p: F.linear(X, p["w"]),
    "linear with bias": lambda p: F.linear(X, p["w"], p["bias"]),
    "linear by keywords": lambda p: F.linear(input=X, weight=p["w"], bias=p["bias"]),
    "linear of itself": lambda p: F.linear(p["v"], p["v"], p["gain"]),
    "embedding": lambda p: F.embedding(IDS, p["table"]),
    "embedding of a run": lambda p: F.embedding(IDS[0], p["table"]),
    "embedding of one": lambda p: F.embedding(IDS[0, 0], p["table"]),
    "embedding with padding": lambda p: F.embedding(IDS, p["table"], padding_idx=1),
    "embedding by keywords": lambda p: F.embedding(input=IDS, weight=p["table"]),
    "embedding of small integers": lambda p: F.embedding(IDS.int(), p["table"]),
    "embedding with a norm": lambda p: F.embedding(IDS, p["table"], None, 3.0) if p["table"].grad is None else None,
    "rows": lambda p: p["table"][IDS],
    "rows from the end": lambda p: p["table"][IDS - 40],
    "one row": lambda p: p["table"][3],
    "rows by a mask": lambda p: p["table"][torch.arange(40) % 3 == 0],
    "rows and columns": lambda p: p["table"][IDS[0], 2:9],
    "index_select": lambda p: p["table"].index_select(0, IDS[0]),
    "layer norm": lambda p: F.layer_norm(X, (8,), p["gain"], p["shift"]),
    "rms norm": lambda p: X * torch.rsqrt(X.square().mean(-1, keepdim=True) + 1e-6) * p["gain"],
    "matmul": lambda p: X @ p["v"],
    "matmul of a transpose": lambda p: X @ p["w"].T,
    "einsum": lambda p: torch.einsum("abi,oi->abo", X, p["w"]),
    "two transposes": lambda p: torch.cat([p["w"].T, p["v"].mT], 1),
    "a list": lambda p: torch.cat([p["w"], p["v"]]),
    "a list with a repeat": lambda p: torch.stack((p["v"], p["v"], X[0, :1].expand(8, 8))),
    "tensors in a list of lists": lambda p: torch.block_diag(*[p["w"], p["v"]]),
    "several results": lambda p: tuple(p["w"].max(dim=0)),
    "views as results": lambda p: [row + 1 for row in p["w"].unbind()],
    "iteration": lambda p: [row * 2 for row in p["w"]],
    "to a number": lambda p: float(p["w"].sum()) + p["bias"].tolist()[2] + p["gain"][1].item(),
    "a copy": lambda p: copy.deepcopy(p["w"]).detach(),
    "a new type": lambda p: p["w"].double() + p["v"][:6].to(torch.float64),
    "itself as its own type": lambda p: p["w"].float().to(torch.float32).contiguous() * p["gain"].float(),
    "numpy": lambda p: [p["w"].numpy(force=True), p["v"].detach().numpy()],
    "a result without storage": lambda p: p["w"].to_sparse().to_dense(),
    "a function of each row": lambda p: torch.func.vmap(lambda row: F.linear(row, p["w"]))(X),
    "arithmetic": lambda p: 2 - p["w"] * p["gain"] / 3 + p["bias"][:, None],
    "comparison": lambda p: (p["w"] > 0) & p["w"].isfinite(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_sees_the_weights_at_the_offset(name):
    assert check(FUNCTIONS[name]).seen


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("perturbation", [Gaussian(), Rademacher()])
def test_in_every_dtype(perturbation, dtype):
    x = numbers(4, 8, dtype=dtype)

    def all_of_them(p):
        rows = F.embedding(IDS, p["table"]), p["table"][IDS]
        return (*rows, F.linear(x, p["w"], p["bias"]), F.layer_norm(x, (8,), p["gain"], p["shift"]), x @ p["v"].T)

    check(all_of_them, parameters(dtype), perturbation)


def test_views_stay_right_when_other_parameters_are_seen():
    """What was returned still needs its memory; later calls take their own."""

    def views(p):
        early = [p["w"].T, p["v"].detach(), p["gain"].float(), p["w"].view(-1), p["table"].data, p["bias"].unbind()]
        for _ in range(3):
            F.linear(X, p["w"], p["bias"])
            F.layer_norm(X, (8,), p["shift"], p["gain"])
            F.linear(LONG, p["table"])
        return early

    check(views)


def test_a_function_that_takes_many_parameters():
    lstm, attention = nn.LSTM(8, 8, num_layers=2), nn.MultiheadAttention(8, 2)
    for module, arguments in ((lstm, (X,)), (attention, (X, X, X))):
        module = module.eval()
        given = dict(module.named_parameters())
        with torch.no_grad():
            for p in given.values():
                p.copy_(numbers(*p.shape) / 3)
        context, twin = watched(given), copy.deepcopy(module)
        with torch.no_grad():
            for slot, p in zip(context.slots, twin.parameters(), strict=True):
                p.copy_(moved(Gaussian(), slot, OFFSET))
            with context.at(OFFSET):
                found = module(*arguments)[0]
            assert context.seen == set(range(len(given)))
            torch.testing.assert_close(found, twin(*arguments)[0])
            assert not torch.allclose(found, module(*arguments)[0])


@pytest.mark.parametrize("perturbation", [Gaussian(), Rademacher()])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_a_large_linear_is_computed_in_blocks_of_its_rows(perturbation, rows, monkeypatch):
    """Of at most ``LARGE`` numbers, for inputs of any number of axes."""
    sizes = []
    memory = ShiftedWeights._memory
    monkeypatch.setattr(shifted, "LARGE", rows * 300)
    monkeypatch.setattr(ShiftedWeights, "_memory", lambda self, kind, n: sizes.append(n) or memory(self, kind, n))
    other = numbers(40)
    check(lambda p: F.linear(LONG, p["table"]), perturbation=perturbation, exact=False)
    check(lambda p: F.linear(LONG[0, 0], p["table"], other), perturbation=perturbation, exact=False)
    check(lambda p: F.linear(LONG, p["table"], bias=other), perturbation=perturbation, exact=False)
    if rows < 40:
        assert set(sizes) == {rows * 300}


def test_a_look_up_makes_the_rows_that_are_asked_for(monkeypatch):
    made = []
    context = watched(parameters())
    write_ = Gaussian.write_
    monkeypatch.setattr(
        Gaussian,
        "write_",
        lambda self, slot, d, out, *rest, **more: made.append(out.shape) or write_(self, slot, d, out, *rest, **more),
    )
    table = context.slots[2].param
    with torch.no_grad(), context.at(OFFSET):
        F.embedding(IDS, table)
        table[IDS[0]]
        assert context._scratch == {}
    assert made == [(5, 300), (3, 300)]


def test_no_rows_can_be_looked_up():
    none = torch.zeros((2, 0), dtype=torch.int64)
    check(lambda p: (F.embedding(none, p["table"]), p["table"][none]))


@pytest.mark.parametrize(
    ("look_up", "ids"),
    [(F.embedding, [0, 40]), (F.embedding, [-1]), (lambda ids, w: w[ids], [0, 40]), (lambda ids, w: w[ids], [-41])],
)
@torch.no_grad()
def test_rows_that_are_not_there_are_an_error(look_up, ids):
    table = parameters()["table"]
    for context in (nullcontext(), watched({"table": table}).at(OFFSET)):
        with context, pytest.raises(IndexError):
            look_up(torch.tensor(ids), table)


def test_questions_draw_nothing(monkeypatch):
    def drawn(*_, **__):
        raise AssertionError("it was drawn")

    monkeypatch.setattr(Gaussian, "write_", drawn)
    p = parameters()["w"]
    context = watched({"w": p})
    with context.at(OFFSET):
        assert p.shape == p.size() == (6, 8)
        assert (p.dtype, p.device, p.requires_grad, p.layout) == (
            torch.float32,
            torch.device("cpu"),
            True,
            torch.strided,
        )
        assert (p.numel(), p.dim(), p.ndim, len(p), p.stride(), p.element_size()) == (48, 2, 2, 6, (8, 1), 4)
        assert p.is_contiguous()
        assert p.is_floating_point()
        assert torch.is_floating_point(p)
        assert not p.is_cuda
        assert p.grad is None
        assert p.is_leaf
        assert hash(p) == id(p)
        assert p.requires_grad_() is p
        assert isinstance(p, nn.Parameter)
    assert context.seen == set()
    assert context._scratch == {}


def test_what_a_direction_does_not_reach_is_seen_as_it_is():
    given = parameters()
    blocks = SampledBlocks()
    blocks.pi = {0: 0.5, 4: 1.0}
    context = watched(given, blocks)
    with torch.no_grad(), context.at(OFFSET):
        assert given["v"].detach().data_ptr() == given["v"].data_ptr()
        assert torch.equal(F.embedding(IDS, given["table"]), numbers(40, 300)[IDS])
    check(
        lambda p: (F.linear(X, p["w"], p["bias"]), torch.cat([p["v"], p["w"]]), p["gain"] + p["shift"]), given, blocks
    )


def test_other_tensors_and_other_times_are_left_alone():
    given, other = parameters(), nn.Parameter(numbers(6, 8))
    context = watched({"w": given["w"]})
    with torch.no_grad():
        with context.at(OFFSET):
            assert torch.equal(F.linear(X, other), F.linear(X, other.clone()))
            assert torch.equal(X @ given["v"], X @ numbers(8, 8))
        assert context.seen == set()
        assert torch.equal(F.linear(X, given["w"]), F.linear(X, numbers(6, 8)))
        with context.at(ZERO):
            assert torch.equal(F.linear(X, given["w"]), F.linear(X, numbers(6, 8)))


def test_an_error_ends_the_context_with_the_weights_where_they_were():
    given = parameters()
    context = watched(given)

    @torch.no_grad()
    def broken():
        with context.at(OFFSET):
            return F.linear(X, given["v"]) + given["w"] @ given["w"]

    with pytest.raises(RuntimeError, match="shapes"):
        broken()
    assert context._scratch == {}
    assert all(torch.equal(p, numbers(*p.shape)) for p in given.values())
    check(lambda p: F.linear(X, p["w"]), given)
