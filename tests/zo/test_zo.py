"""The zeroth-order core against its definitions and closed forms."""

import math
import re

import pytest
import torch

from zobench import LDSD, LOREN, AdamW, MeZO
from zobench.testing.definition import moved
from zobench.zo import (
    ZERO,
    Adam,
    Direction,
    Diverged,
    Gaussian,
    Method,
    Momentum,
    Oracle,
    Sign,
    central_difference,
    make_slots,
    mix,
    schedule,
    tag,
)
from zobench.zo.noise import draws


def slot_of(shape, dtype=torch.float32, name="layer.weight", seed=0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return make_slots([(name, values.to(dtype))])[0]


def test_keys_are_fixed_numbers():
    """The mixer names every draw of every published run: it must never change."""
    assert mix(0, 0, 0, tag("probe")) == 0x79F61BFD50593F1A
    assert tag("model.layers.0.weight") == 0x5647E03B84E77CB
    assert 0 <= mix(-1, 2**70) < 2**63


def test_keys_do_not_collide_or_correlate():
    keys = [mix(seed, step, query) for seed in range(10) for step in range(100) for query in range(10)]
    assert len(set(keys)) == len(keys)
    bits = torch.tensor([[key >> b & 1 for b in range(63)] for key in keys], dtype=torch.float64)
    assert (bits.mean(0) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(len(keys))


def test_directions_form_a_vector_space():
    u, v = Direction.ray(1), Direction.ray(2)
    assert 2.0 * u + v - u == Direction({1: 1.0, 2: 1.0})
    assert u - u == ZERO
    assert len((1e-3 * u + -1e-3 * u).nonzero()) == 0
    assert -(u * 3.0) == Direction({1: -3.0})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3,), (7, 5), (600, 1000), (draws.BLOCK["cpu"] + 5,)])
def test_the_fused_move_equals_its_definition_bit_for_bit(dtype, shape):
    direction = Direction({11: 0.37, 12: -1.3e-3, 13: 2.0})
    slot = slot_of(shape, dtype)
    expected = moved(Gaussian(), slot, direction, keep=0.99)
    Gaussian().move_(slot, direction, keep=0.99)
    assert torch.equal(slot.param, expected)


def test_a_draw_depends_on_key_and_slot_name_alone():
    a, b = slot_of((40, 30)), slot_of((40, 30), name="other.weight")
    first = Gaussian().draw(a, 5)
    Gaussian().draw(b, 6)
    torch.manual_seed(123)
    assert torch.equal(Gaussian().draw(a, 5), first)
    assert not torch.equal(Gaussian().draw(b, 5), first)
    assert not torch.equal(Gaussian().draw(a, 6), first)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    assert torch.equal(Gaussian().draw(a, 5), first)
    torch.set_num_threads(threads)


def test_draws_are_standard_normal_and_independent():
    slot = slot_of((200_000,))
    z, w = Gaussian().draw(slot, 1).double(), Gaussian().draw(slot, 2).double()
    n = z.numel()
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert abs((z * w).mean()) < 4 / math.sqrt(n)


def quadratic(seed=0, d=6):
    """A random positive quadratic ``½ xᵀAx + bᵀx`` in fp64, its slot and its gradient at the start."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64)
    a, b = root @ root.T / d, torch.randn(d, generator=generator, dtype=torch.float64)
    x = torch.randn(d, generator=generator, dtype=torch.float64)
    return x, (lambda: 0.5 * x @ a @ x + b @ x), a @ x + b


def test_central_difference_is_exact_on_a_quadratic():
    """(L(θ+εu) − L(θ−εu)) / 2ε = ⟨∇L, u⟩ without error in ε."""
    x, loss, gradient = quadratic()
    slots = make_slots([("x", x)])
    oracle = Oracle(slots, Gaussian(), "exact")
    oracle.begin(loss)
    u = Direction.ray(9)
    found = central_difference(oracle, u, eps=0.1)
    oracle.settle()
    assert found == pytest.approx(float(gradient @ Gaussian().draw(slots[0], 9).double()), abs=1e-10)
    assert oracle.forwards == 2


def test_the_mezo_estimate_is_unbiased():
    """E[⟨∇L, u⟩ u] = ∇L for u ~ N(0, I); variance per coordinate |∇L|² + g_i²."""
    x, _, gradient = quadratic(d=4)
    slot = make_slots([("x", x)])[0]
    n = 20_000
    u = torch.stack([Gaussian().draw(slot, key).double() for key in range(n)])
    estimate = (u @ gradient)[:, None] * u
    error = math.sqrt(float(2 * gradient @ gradient) / n)
    assert (estimate.mean(0) - gradient).abs().max() < 4 * error


@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_restored(mode, dtype):
    slot = slot_of((50, 40), dtype)
    before = slot.param.clone()
    oracle = Oracle([slot], Gaussian(), mode)
    oracle.begin(lambda: slot.param.float().square().sum())
    oracle.losses([Direction({1: 1e-3}), Direction({1: -1e-3}), Direction({2: 0.5, 3: 0.1})])
    oracle.settle()
    if mode == "exact":
        assert torch.equal(slot.param, before)
    else:
        # Four moves, each rounding once at the magnitude of the weights (here below 8).
        eps = torch.finfo(dtype).eps
        assert (slot.param - before).abs().max() <= 4 * 8 * eps
    assert oracle.state_bytes() == 0


def test_the_walk_measures_at_the_offset_and_not_elsewhere():
    slot = slot_of((20,), torch.float64)
    start, z = slot.param.clone(), Gaussian().draw(slot, 4).double()
    oracle = Oracle([slot], Gaussian())
    seen = []
    oracle.begin(lambda: seen.append(slot.param.clone()) or 0.0)
    oracle.losses([Direction({4: 0.3}), ZERO, Direction({4: -0.2})])
    for at, scale in zip(seen, (0.3, 0.0, -0.2), strict=True):
        torch.testing.assert_close(at, start + scale * z, rtol=0, atol=1e-14)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_stops_with_the_weights_put_back(value):
    slot = slot_of((30,), torch.float64)
    before = slot.param.clone()
    oracle = Oracle([slot], Gaussian())
    oracle.begin(lambda: value)
    with pytest.raises(Diverged, match="forward pass 1"):
        oracle.loss(Direction({1: 0.1}))
    torch.testing.assert_close(slot.param, before, rtol=0, atol=1e-15)


def test_an_error_in_the_loss_puts_the_weights_back():
    slot = slot_of((30,), torch.float64)
    before = slot.param.clone()
    oracle = Oracle([slot], Gaussian(), "exact")

    def broken():
        raise RuntimeError("no batch")

    oracle.begin(broken)
    with pytest.raises(RuntimeError, match="no batch"):
        oracle.loss(Direction({1: 0.1}))
    assert torch.equal(slot.param, before)
    assert oracle.forwards == 0


def test_the_applied_step_is_algorithm_1():
    """θ ← θ − η g z − ηλθ, with z the probe that was measured; vectors are not decayed."""
    weight, bias = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    old_w, old_b = weight.clone(), bias.clone()
    method = MeZO([("w", weight), ("b", bias)], lr=0.05, eps=1e-3, weight_decay=0.2, seed=3)
    loss = method.step(lambda: (weight.sum() + bias.sum()) ** 2)
    g = method.oracle.notes["projected_gradient"]
    key = next(iter(method.applied))
    z_w, z_b = (Gaussian().draw(slot, key).double() for slot in method.slots)
    torch.testing.assert_close(weight, old_w * (1 - 0.05 * 0.2) - 0.05 * g * z_w, rtol=0, atol=1e-12)
    torch.testing.assert_close(bias, old_b - 0.05 * g * z_b, rtol=0, atol=1e-12)
    assert loss == pytest.approx(float((old_w.sum() + old_b.sum()) ** 2), rel=1e-3)


def test_rules_agree_with_torch():
    """Adam and momentum given the same gradients walk the same path as torch's own optimizers."""
    for rule, make in [
        (Adam(beta1=0.8, beta2=0.95, eps=1e-6), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-6)),
        (Momentum(beta=0.7), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7)),
    ]:
        slot = slot_of((5, 4), torch.float64)
        theirs = torch.nn.Parameter(slot.param.clone())
        optimizer, state = make([theirs]), {}
        for step in range(20):
            gradient = torch.randn(5, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            slot.param.sub_(0.1 * rule(slot, gradient.clone(), state, step))
            theirs.grad = gradient
            optimizer.step()
        torch.testing.assert_close(slot.param, theirs.detach(), rtol=0, atol=1e-12)
    assert torch.equal(Sign()(slot, torch.tensor([-2.0, 0.0, 3.0]), {}, 0), torch.tensor([-1.0, 0.0, 1.0]))


def test_schedules():
    assert [schedule.factor("linear", t, 4) for t in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert schedule.factor("cosine", 2, 4) == pytest.approx(0.5)
    assert [schedule.factor("constant", t, None, warmup=3) for t in range(4)] == [0.25, 0.5, 0.75, 1.0]
    with pytest.raises(ValueError, match="total_steps"):
        schedule.factor("cosine", 2, None)


def test_tied_tensors_are_one_slot_and_names_are_unique():
    tensor = torch.zeros(2, 2)
    assert len(make_slots([("embed", tensor), ("head", tensor)])) == 1
    with pytest.raises(ValueError, match="same name"):
        make_slots([("a", torch.zeros(1)), ("a", torch.zeros(1))])
    with pytest.raises(ValueError, match="no parameter"):
        make_slots([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 0.0}, "eps=0.0: must be positive"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"probes": 0}, "probes=0"),
        ({"lr_schedule": "cosin"}, "lr_schedule=cosin: expected one of"),
        ({"mode": "inplace"}, "mode=inplace: expected one of in_place, exact"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MeZO([("x", torch.zeros(2))], **{"lr": 0.1, **arguments})


def test_a_beginners_slips_are_told_what_was_expected():
    class Empty(Method):
        """Has no algorithm yet."""

    class Tensors(Method):
        """Hands over a tensor."""

        def update(self, oracle):
            self.apply(torch.zeros(3))

    for method, error, said in (
        (Empty, NotImplementedError, "Empty has no update(self, oracle)"),
        (Tensors, TypeError, "apply was given a Tensor; it takes a Direction"),
    ):
        with pytest.raises(error, match=re.escape(said)):
            method([("w", torch.zeros(3))], lr=0.1).step(lambda: 1.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("made", "settings"),
    [(MeZO, {"lr": 1e60}), (MeZO, {"lr": 1e60, "rule": Adam()}), (MeZO, {"lr": 1e60, "rule": Momentum()}),
     (AdamW, {"lr": 1e38}), (LDSD, {"lr": 1e60}), (LDSD, {"lr": 1e-3, "lr_mu": 1e60}), (LOREN, {"lr": 1e60}),
     (MeZO, {"lr": 1.0, "weight_decay": 1e60}), (MeZO, {"lr": 1.0, "eps": 1e60})],
)  # fmt: skip
def test_numbers_beyond_the_dtype_diverge_and_neither_warn_nor_crash(made, settings, dtype):
    torch.manual_seed(0)
    params = {"w": torch.randn(6, 4).to(dtype).requires_grad_(made is AdamW), "b": torch.ones(4, dtype=dtype)}
    method = made(params.items(), **settings)

    def loss():
        return (params["w"].float() ** 2).sum() + (params["b"].float() ** 2).sum()

    with pytest.raises(Diverged):
        list(map(method.step, [loss] * 4))
