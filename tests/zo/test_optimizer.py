"""ZOOptimizer: the same bits as the method alone, groups, schedulers, state, and what it refuses."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

import zobench
from zobench import CurvZO, DiZO, KerZOO, MeZO, ZOOptimizer
from zobench.methods.lozo import LOZO
from zobench.zo import CoreSpace, Diverged, Momentum

LINEAR_AND_NOT = ("MeZO", "LOREN", "CurvZO", "PGAP", "KerZOO", "LDSD", "HiZOO", "TeZOAdam", "SubZeroPlus", "AdamW")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def loss_of(model: nn.Module, step: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(5, 6, generator=generator)
    return lambda: (model(x) - x[:, :2]).square().mean()


def weights(model: nn.Module) -> list[Tensor]:
    return [param.detach().clone() for param in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", LINEAR_AND_NOT)
def test_it_takes_the_steps_of_the_method_to_the_bit(name: str):
    method_class = getattr(zobench, name)
    alone, faced = net(), net()
    method = method_class(alone.named_parameters(), lr=1e-2, seed=3, total_steps=9)
    optimizer = ZOOptimizer(method_class, faced.named_parameters(), lr=1e-2, seed=3, total_steps=9)
    for step in range(4):
        assert method.step(loss_of(alone, step)) == optimizer.step(loss_of(faced, step))
    assert same(weights(alone), weights(faced))


@pytest.mark.parametrize("rule", [None, Momentum(beta=0.5), CoreSpace(rule=Momentum(beta=0.5))])
def test_each_group_goes_by_its_own_rate_and_decay(rule: object):
    model = net()
    method_class = LOZO if isinstance(rule, CoreSpace) else MeZO
    named = dict(model.named_parameters())
    groups = [
        {"params": [("0.weight", named["0.weight"])], "lr": 0.0},
        {"params": [("0.bias", named["0.bias"]), ("2.bias", named["2.bias"])]},
        {"params": [("2.weight", named["2.weight"])], "lr": 0.03, "weight_decay": 0.5},
    ]
    other = copy.deepcopy(model)
    before = {name: param.detach().clone() for name, param in named.items()}
    ZOOptimizer(method_class, groups, lr=0.01, rule=copy.deepcopy(rule), mode="exact").step(loss_of(model, 0))
    method = method_class(other.named_parameters(), lr=0.01, rule=copy.deepcopy(rule), mode="exact")
    method.step(loss_of(other, 0))
    moved = {name: param.detach() - before[name] for name, param in other.named_parameters()}
    assert torch.equal(named["0.weight"], before["0.weight"])
    assert torch.allclose(named["0.bias"], before["0.bias"] + moved["0.bias"], atol=1e-7)
    assert moved["2.weight"].abs().max() > 0
    expected = before["2.weight"] * (1 - 0.03 * 0.5) + 3 * moved["2.weight"]
    assert torch.allclose(named["2.weight"], expected, atol=1e-6)


def test_a_scheduler_sets_the_rate_of_each_step():
    model, other = net(), net()
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=0.1, seed=1)
    scheduler = LambdaLR(optimizer, lambda step: 1.0 / (1 + step))
    method = MeZO(other.named_parameters(), lr=0.1, seed=1)
    for step in range(3):
        optimizer.step(loss_of(model, step))
        scheduler.step()
        method.base_lr = 0.1 * (1.0 / (1 + step))
        method.step(loss_of(other, step))
    assert same(weights(model), weights(other))


def test_a_scheduler_that_counts_for_itself_needs_no_steps_of_the_optimizer():
    model = net()
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=0.1)
    scheduler = ReduceLROnPlateau(optimizer, patience=0, factor=0.1)
    for _ in range(3):
        scheduler.step(1.0)
    optimizer.step(loss_of(model, 0))
    assert optimizer.method.lr == pytest.approx(0.001)


@pytest.mark.parametrize("name", ["MeZO", "TeZOAdam", "LDSD", "AdamW"])
def test_it_goes_on_from_its_state_to_the_bit(name: str):
    method_class, model = getattr(zobench, name), net()
    optimizer = ZOOptimizer(method_class, model.named_parameters(), lr=1e-2)
    scheduler = LambdaLR(optimizer, lambda step: 0.9**step)
    for step in range(3):
        optimizer.step(loss_of(model, step))
        scheduler.step()
    state = optimizer.state_dict()
    tensors = save({key: value for key, value in state["state"].items() if isinstance(value, Tensor)})
    rest = {key: value for key, value in state["state"].items() if not isinstance(value, Tensor)}
    text = json.dumps([state | {"state": rest}, scheduler.state_dict()])
    again = copy.deepcopy(model)
    resumed = ZOOptimizer(method_class, again.named_parameters(), lr=5.0)
    kept, of_scheduler = json.loads(text)
    kept["state"] |= load(tensors)
    resumed.load_state_dict(kept)
    going_on = LambdaLR(resumed, lambda step: 0.9**step)
    going_on.load_state_dict(of_scheduler)
    resumed.load_state_dict(kept)
    for step in range(3, 6):
        for each, course, module in ((optimizer, scheduler, model), (resumed, going_on, again)):
            each.step(loss_of(module, step))
            course.step()
    assert same(weights(model), weights(again))


def test_accelerate_takes_the_same_steps():
    model, other = net(), net()
    accelerator = Accelerator(cpu=True)
    prepared, optimizer = accelerator.prepare(
        model, ZOOptimizer(MeZO, model.named_parameters(), lr=0.01, seed=2, mode="exact")
    )
    method = MeZO(other.named_parameters(), lr=0.01, seed=2, mode="exact")
    for step in range(3):
        optimizer.step(loss_of(prepared, step))
        method.step(loss_of(other, step))
    assert same(weights(model), weights(other))


def test_a_loss_that_is_not_finite_leaves_the_weights():
    model = net()
    before = weights(model)
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=0.01, mode="exact")
    with pytest.raises(Diverged):
        optimizer.step(lambda: torch.tensor(torch.nan))
    assert same(weights(model), before)


@pytest.mark.parametrize(
    ("closure", "message"),
    [
        (None, "needs a closure"),
        (lambda: None, "the closure gave nothing"),
        (lambda: "0.5", "gave a str"),
        (lambda: torch.zeros(3), r"shape \(3,\)"),
        (lambda: {"loss": 1.0}, "gave a dict"),
        (lambda: torch.tensor(1j), "gave a complex tensor"),
    ],
)
def test_a_closure_that_gives_no_number_is_told_in_a_line(closure: object, message: str):
    model = net()
    before = weights(model)
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=0.01, mode="exact")
    with pytest.raises(TypeError, match=message):
        optimizer.step(closure)  # type: ignore[arg-type]
    assert same(weights(model), before)


def test_a_closure_that_calls_backward_is_told_so():
    model = net()
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=0.01)

    def closure() -> Tensor:
        loss = loss_of(model, 0)()
        loss.backward()
        return loss

    with pytest.raises(TypeError, match="calls backward"):
        optimizer.step(closure)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: ZOOptimizer(MeZO, m.parameters(), lr=0.1), "need their names"),
        (lambda m: ZOOptimizer(MeZO, [{"params": m.named_parameters(), "eps": 1}], lr=0.1), "not eps"),
        (lambda m: ZOOptimizer(MeZO, [{"params": m.named_parameters(), "lr": -1.0}], lr=0.1), "lr of group 0=-1"),
        (lambda m: ZOOptimizer(MeZO, [{"params": list(m.named_parameters())}] * 2, lr=0.1), "is in groups 0 and 1"),
        (lambda m: ZOOptimizer(KerZOO, halves(m), lr=0.1, total_steps=9), "one learning rate"),
        (lambda m: ZOOptimizer(MeZO, [], lr=0.1), "no parameter to train"),
        (lambda m: ZOOptimizer(MeZO, m.named_parameters(), lr=0.1).add_param_group({"params": []}), "cannot be added"),
    ],
)
def test_parameters_that_cannot_be_are_told_in_a_line(make: Callable[[nn.Module], object], message: str):
    with pytest.raises(ValueError, match=message):
        make(net())


def halves(model: nn.Module) -> list[dict[str, object]]:
    pairs = list(model.named_parameters())
    return [{"params": pairs[:2]}, {"params": pairs[2:], "lr": 0.2}]


def test_parameters_that_a_method_leaves_out_and_frozen_and_tied_ones():
    embedding = nn.Embedding(7, 4)
    tied = nn.Linear(4, 7, bias=False)
    tied.weight = embedding.weight
    frozen = nn.Linear(4, 4)
    frozen.requires_grad_(False)
    pairs = [("embed.weight", embedding.weight), ("head.weight", tied.weight), *frozen.named_parameters()]
    pairs += list(nn.Linear(4, 4).named_parameters(prefix="mid"))
    optimizer = ZOOptimizer(MeZO, pairs, lr=0.1)
    assert [optimizer._name(p) for p in optimizer.param_groups[0]["params"]] == [
        "embed.weight",
        "mid.weight",
        "mid.bias",
    ]
    without = ZOOptimizer(CurvZO, pairs[:1] + pairs[2:], lr=0.1, exclude_embeddings=True)
    assert without.state_dict()["param_groups"][0]["params"] == ["mid.weight", "mid.bias"]


def test_a_parameter_frozen_half_way_is_told():
    model = net()
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=0.1)
    optimizer.step(loss_of(model, 0))
    model[0].requires_grad_(False)
    with pytest.raises(ValueError, match=r"0\.weight is frozen since"):
        optimizer.step(loss_of(model, 1))


@pytest.mark.parametrize("own", [{"lr_schedule": "linear", "total_steps": 5}, {"warmup": 3}])
def test_two_schedules_are_refused(own: dict[str, object]):
    model = net()
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=0.1, **own)
    optimizer.step(loss_of(model, 0))
    LambdaLR(optimizer, lambda step: 1.0)
    with pytest.raises(ValueError, match="scheduled twice"):
        optimizer.step(loss_of(model, 1))


def test_a_state_of_other_parameters_is_refused():
    state = ZOOptimizer(MeZO, net().named_parameters(), lr=0.1).state_dict()
    with pytest.raises(ValueError, match="other parameters"):
        ZOOptimizer(MeZO, nn.Linear(2, 2).named_parameters(), lr=0.1).load_state_dict(state)


@pytest.mark.parametrize("name", ["TeZOAdam", "LOREN", "AdamW"])
def test_a_state_from_before_the_first_step_takes_all_back(name: str):
    model = net()
    optimizer = ZOOptimizer(getattr(zobench, name), model.named_parameters(), lr=1e-2)
    state, start = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model.state_dict())
    ends = []
    for _ in range(2):
        model.load_state_dict(start)
        optimizer.load_state_dict(state)
        for step in range(3):
            optimizer.step(loss_of(model, step))
        ends.append(weights(model))
    assert same(*ends)


def test_a_copy_of_model_and_optimizer_goes_its_own_way():
    model = net()
    optimizer = ZOOptimizer(LOZO, model.named_parameters(), lr=0.1, mode="exact")
    LambdaLR(optimizer, lambda step: 1.0)
    optimizer.step(loss_of(model, 0))
    other, copied = copy.deepcopy((model, optimizer))
    copied.step(loss_of(other, 1))
    assert not same(weights(model), weights(other))
    optimizer.step(loss_of(model, 1))
    assert same(weights(model), weights(other))


def test_weights_in_another_dtype_half_way_are_told():
    model = net()
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=0.1)
    model.double()
    optimizer.step(lambda: model(torch.ones(1, 6, dtype=torch.float64)).sum())
    model.float()
    with pytest.raises(ValueError, match=r"0\.weight is torch\.float32 and was torch\.float64"):
        optimizer.step(loss_of(model, 1))


def test_a_projection_moves_all_groups_by_as_much_whatever_their_rates():
    ends = []
    for split in (False, True):
        model = net()
        pairs = list(model.named_parameters())
        rest = {"lr": 5e-3, "weight_decay": 0.1}
        groups = (
            [{"params": pairs[:2], **rest}, {"params": pairs[2:], **rest}] if split else [{"params": pairs, **rest}]
        )
        other = nn.Parameter(torch.ones(1))
        groups += [{"params": [("other", other)], "lr": 0.1, "weight_decay": 0.1}] if split else []
        optimizer = ZOOptimizer(DiZO, groups, lr=1e-2, interval=1, mode="exact")
        optimizer.method.oracle.further = lambda first, count, model=model: loss_of(model, 99 + first)
        for step in range(3):
            optimizer.step(loss_of(model, step))
        ends.append(weights(model))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*ends, strict=True))


def test_a_group_without_parameters_has_no_say():
    model = net()
    groups = [{"params": [], "lr": 5.0}, {"params": model.named_parameters()}]
    optimizer = ZOOptimizer(KerZOO, groups, lr=0.01, total_steps=9)
    optimizer.step(loss_of(model, 0))
    assert optimizer.method.lr == 0.01


def test_a_state_of_another_method_is_refused():
    state = ZOOptimizer(MeZO, net().named_parameters(), lr=0.1).state_dict()
    with pytest.raises(ValueError, match="one of MeZO, not of LOZO"):
        ZOOptimizer(LOZO, net().named_parameters(), lr=0.1).load_state_dict(state)


def test_accelerate_saves_and_loads_its_state(tmp_path: Path):
    def prepared():
        model = net()
        optimizer = ZOOptimizer(zobench.TeZOAdam, model.named_parameters(), lr=0.01)
        accelerator = Accelerator(cpu=True)
        return accelerator, *accelerator.prepare(model, optimizer, LambdaLR(optimizer, lambda step: 0.5**step))

    def train(model, optimizer, scheduler, steps):
        for step in steps:
            optimizer.step(loss_of(model, step))
            scheduler.step()
        return weights(model)

    accelerator, *parts = prepared()
    train(*parts, range(2))
    accelerator.save_state(str(tmp_path))
    whole = train(*parts, range(2, 4))
    accelerator, *parts = prepared()
    accelerator.load_state(str(tmp_path))
    assert same(train(*parts, range(2, 4)), whole)
