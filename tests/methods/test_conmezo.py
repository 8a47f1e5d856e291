"""ConMeZO against recorded trajectories, its algorithm box and the moments of directions on a cone."""

import math

import pytest
import torch
from helpers.released import TOLERANCE, Problem, feed, follow, read, tensor

from zobench.methods.conmezo import ConMeZO
from zobench.methods.mezo import MeZO
from zobench.testing.problem import Problem as Regression
from zobench.zo import ZERO, Direction, Gaussian, make_slots, noise
from zobench.zo.perturbations.cone import Cone

GOLDEN = read("conmezo")
OFFICIAL = [name for name, run in GOLDEN["runs"].items() if "momentum_at_start" in run]
F64 = torch.float64


def golden_run(monkeypatch, name, **switches):
    """The method and the problem of a recorded run, with its draws and its first momentum."""
    run, problem = GOLDEN["runs"][name], Problem(GOLDEN)
    settings = {key: run["settings"][key] for key in ("theta", "beta", "lr", "eps")}
    variant = {"variant": "official" if name in OFFICIAL else "paper", "beta_ramp": 0}
    method = ConMeZO(problem.model.named_parameters(), **{**settings, **variant, **switches})
    feed(monkeypatch, method, lambda step, query, purpose, name, shape: run["steps"][step]["u"][name])
    if method.cone.m0 == "normal":
        monkeypatch.setattr(method.cone, "_initial", lambda slot: tensor(run["momentum_at_start"][slot.name]))
    return method, problem, run


@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_steps_follow_the_recorded_ones(monkeypatch, name, mode):
    method, problem, run = golden_run(monkeypatch, name, mode=mode)
    losses, lengths = [], []

    def after(step):
        recorded = run["steps"][step]
        losses.extend(abs(a / b - 1) for a, b in zip(method.oracle.seen, recorded["losses"], strict=True))
        if step:
            lengths.append(abs(method.cone.length / run["steps"][step - 1]["norm_used_next"] - 1))

    worst = max(follow(method, problem, run, after=after))
    print(name, mode, worst, max(losses), max(lengths))
    assert max(worst, *losses, *lengths) < TOLERANCE


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize(("switch", "value", "same"), [("norm", "measured", 1), ("m0", "zero", 0)])
def test_every_switch_of_the_variant_is_needed(monkeypatch, name, switch, value, same):
    """A carried norm is that of the draws at the first step: what is measured differs from the second on."""
    method, problem, run = golden_run(monkeypatch, name, **{switch: value})
    found = follow(method, problem, run, until=4)
    print(switch, found)
    assert all(off < TOLERANCE for off in found[:same])
    assert all(off > 1e3 * TOLERANCE for off in found[same:])


# The algorithm box ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_steps_of_the_box_by_hand(mode):
    """Over all tensors as one vector, β on its way from the second step on; the first step is MeZO's."""
    lr, eps, theta, problem, other = 1e-2, 1e-3, 1.1, Regression(F64), Regression(F64)
    ramp = {"beta": 0.8, "beta_start": 0.2, "beta_hold": 1, "beta_ramp": 4}
    method = ConMeZO(problem.parameters.items(), lr=lr, eps=eps, theta=theta, mode=mode, seed=3, **ramp)

    def flat(tensors):
        return torch.cat([tensors[name].double().flatten() for name in other.parameters])

    def loss(step, at):
        sizes = [p.numel() for p in other.parameters.values()]
        for p, part in zip(other.parameters.values(), at.split(sizes), strict=True):
            p.copy_(part.view_as(p))
        return float(other.loss(step))

    at = flat(problem.parameters)
    m, d = torch.zeros_like(at), len(at)
    for t in range(7):
        u = flat({slot.name: Gaussian().draw(slot, method.keys(t)) for slot in method.slots})
        z = math.cos(theta) * math.sqrt(d) * m / m.norm() + math.sin(theta) * u if t else u
        c = (loss(t, at + eps * z) - loss(t, at - eps * z)) / (2 * eps)
        at = at - lr * c * z
        along = max(0.0, (t - 1) / 3) ** 1.8
        beta = 0.8 - 0.6 / (1 + 8 * along) ** 3 if t <= 4 else 0.8
        m = beta * m + (1 - beta) * c * z
        problem.train(method, 1)
        assert method.oracle.notes["beta"] == pytest.approx(beta)
        torch.testing.assert_close(flat(problem.parameters), at, rtol=0, atol=1e-11)
    method.cone.begin(7, method.slots)
    torch.testing.assert_close(flat(method.cone.mean), m, rtol=0, atol=1e-12)
    assert method.cone.length == pytest.approx(float(m.norm()), rel=1e-12)


def test_the_released_ease_of_beta():
    method = ConMeZO([("w", torch.zeros(2))], lr=1.0)
    assert [method.beta_at(step) for step in (0, 200)] == pytest.approx([0.1, 0.1], abs=1e-15)
    assert method.beta_at(1100) == pytest.approx(0.99 - 0.89 / (1 + 8 * 0.5**1.8) ** 3)
    assert method.beta_at(2000) == pytest.approx(0.99 - 0.89 / 729)
    assert method.beta_at(2001) == 0.99
    assert ConMeZO([("w", torch.zeros(2))], lr=1.0, beta_ramp=0).beta_at(0) == 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_with_an_angle_of_a_right_one_it_is_mezo_to_the_bit(dtype, mode, variant):
    one, other = Regression(dtype), Regression(dtype)
    common = {"lr": 1e-2, "seed": 4, "mode": mode, "weight_decay": 0.1}
    ours = ConMeZO(one.parameters.items(), theta=math.pi / 2, variant=variant, **common)
    one.train(ours, 4)
    other.train(MeZO(other.parameters.items(), **common), 4)
    assert all(torch.equal(p, other.parameters[name]) for name, p in one.parameters.items())
    assert ours.state_bytes() == 0


# Directions on a cone -------------------------------------------------------------------------------------------------


def on_cone(m, theta):
    """Slots, and a cone about a momentum over two tensors."""
    slots = make_slots([("w", torch.zeros(2, 2, dtype=F64)), ("b", torch.zeros(2, dtype=F64))])
    cone = Cone(theta=theta)
    cone.load_state_dict({"m.w": m[:4].view(2, 2), "m.b": m[4:], "length": float(m.norm()), "beta": 0.0})
    cone.begin(1, slots)
    return slots, cone


def test_second_moments_are_those_of_the_cone(monkeypatch):
    """``E z zᵀ = sin²θ I + cos²θ d m mᵀ/‖m‖²``, so ``E|z|² = d``; exactly, from the points ±√d e_i."""
    m, theta, d = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, -1.0], dtype=F64), 1.2, 6
    slots, cone = on_cone(m, theta)
    moments = torch.zeros(d, d, dtype=F64)
    for point in math.sqrt(d) * torch.cat([torch.eye(d), -torch.eye(d)]).double():
        parts = {slots[0].id: point[:4].view(2, 2), slots[1].id: point[4:]}
        monkeypatch.setattr(
            noise, "add_rows_", lambda to, stream, w, rows=None, p=parts: to.add_(p[stream], alpha=sum(w.values()))
        )
        z = torch.cat([cone.draw(slot, 7).flatten() for slot in slots])
        moments += torch.outer(z, z) / (2 * d)
    unit = m / m.norm()
    expected = math.sin(theta) ** 2 * torch.eye(d).double() + math.cos(theta) ** 2 * d * torch.outer(unit, unit)
    torch.testing.assert_close(moments, expected, rtol=0, atol=1e-12)
    assert float(moments.trace()) == pytest.approx(d)


def test_directions_keep_to_the_momentum_across_tensors():
    """z − sinθ u is cosθ √d m/‖m‖ in every tensor, with the norm of all; of a sum, times its weights."""
    m, theta = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, -1.0], dtype=F64), 0.7
    slots, cone = on_cone(m, theta)
    direction = Direction({7: 0.5, 8: -2.0})
    for slot, part in zip(slots, (m[:4].view(2, 2), m[4:]), strict=True):
        rest = cone.estimate(slot, direction) - math.sin(theta) * Gaussian().estimate(slot, direction)
        expected = -1.5 * math.cos(theta) * math.sqrt(6) * part / m.norm()
        torch.testing.assert_close(rest, expected, rtol=0, atol=1e-14)


def test_a_first_step_whose_losses_tie_leaves_the_next_one_plain():
    """m is still 0, and has no direction."""
    weight = torch.randn(3, 4, dtype=F64)
    method = ConMeZO([("w", weight)], lr=1e-2)
    method.step(lambda: weight.sum() * 0 + 1.0)
    method.step(weight.sum)
    assert (method.cone.length, method.cone.sigma, method.cone.shift) == (0.0, 1.0, 0.0)
    method.step(weight.sum)
    assert method.cone.length > 0
    assert method.cone.sigma == math.sin(1.35)


@pytest.mark.parametrize("count", [1, 2])
def test_momentum_and_norm_hang_on_no_number_of_threads(count):
    slots, before = make_slots([("w", torch.zeros(700, 500)), ("b", torch.zeros(9000))]), torch.get_num_threads()
    found = []
    for threads in (1, count):
        cone = Cone(theta=1.0)
        torch.set_num_threads(threads)
        try:
            for step, estimate in enumerate((0.3 * Direction.ray(7), ZERO - 0.2 * Direction.ray(8))):
                cone.begin(step, slots)
                cone.learn(estimate, 0.5)
            cone.begin(2, slots)
        finally:
            torch.set_num_threads(before)
        found.append((cone.length, *cone.mean.values()))
    assert found[0][0] == found[1][0]
    assert all(map(torch.equal, found[0][1:], found[1][1:]))


def test_the_momentum_is_one_fp32_copy_whatever_the_weights_are():
    problem = Regression(torch.bfloat16)
    method = ConMeZO(problem.parameters.items(), lr=1e-2)
    problem.train(method, 2)
    assert method.state_bytes() == 4 * sum(p.numel() for p in problem.parameters.values())
    assert all(m.dtype == torch.float32 for m in method.cone.mean.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"theta": 0.0}, "theta=0.0: must lie in"),
        ({"theta": 1.6}, "theta=1.6: must lie in"),
        ({"beta": 1.0}, "beta=1.0: must lie in"),
        ({"beta_start": -0.1}, "beta_start=-0.1: must lie in"),
        ({"beta_ramp": 100}, "beta_ramp=100: must be 0 or more than beta_hold=200"),
        ({"norm": "exact"}, "norm=exact: expected one of measured, carried"),
        ({"m0": "unit"}, "m0=unit: expected one of zero, normal"),
        ({"variant": "released"}, "variant=released: expected one of paper, official"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ConMeZO([("w", torch.zeros(2))], lr=1.0, **settings)
