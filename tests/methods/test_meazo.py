"""MEAZO against recorded arithmetic, and what one adaptive scalar does to a step."""

import math

import pytest
import torch
from helpers.released import TOLERANCE, Problem, feed, follow, read

from zobench import MEAZO, MeZO

GOLDEN = read("meazo_paper")


def made(problem, **settings):
    s = GOLDEN["settings"]
    return MEAZO(
        problem.model.named_parameters(),
        **{"lr": s["lr"], "eps": s["eps"], "probes": s["queries"], "beta": s["beta"], "zeta": s["zeta"]} | settings,
    )


def test_steps_follow_the_recorded_arithmetic(monkeypatch):
    problem = Problem(GOLDEN)
    method = made(problem)
    feed(monkeypatch, method, lambda step, query, purpose, name, shape: GOLDEN["steps"][step]["queries"][query][name])
    found = []

    def after(step):
        size = math.sqrt(GOLDEN["steps"][step]["v_hat"]) + method.zeta
        found.append(abs(method.oracle.notes["slope_size"] / size - 1))

    worst = max(follow(method, problem, GOLDEN, after=after))
    print(worst, max(found))
    assert worst < TOLERANCE
    assert max(found) < TOLERANCE


def quadratic(scale=1.0):
    torch.manual_seed(0)
    w, target = torch.zeros(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    return w, lambda: scale * (w - target).square().sum()


def test_steps_are_the_same_whatever_the_loss_is_multiplied_by():
    ends = []
    for scale in (1.0, 1e-6, 4096.0):
        w, loss = quadratic(scale)
        method = MEAZO([("w", w)], lr=1e-2, probes=2, zeta=1e-300)
        for _ in range(8):
            method.step(loss)
        ends.append(w)
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-8, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_the_first_step_has_the_length_of_its_direction(beta):
    w, loss = quadratic()
    method = MEAZO([("w", w)], lr=1e-2, beta=beta, zeta=1e-300)
    u = method.perturbation.estimate(method.slots[0], method.direction())
    method.step(loss)
    assert float(w.norm()) == pytest.approx(1e-2 * float(u.norm()), rel=1e-12)


def test_the_scalar_is_that_of_the_mean_slope_and_the_direction_is_mezos():
    (w, loss), (v, other) = quadratic(), quadratic()
    method = MEAZO([("w", w)], lr=1e-2, probes=3, seed=4)
    mezo = MeZO([("w", v)], lr=1e-2, probes=3, seed=4)
    method.step(loss)
    mezo.step(other)
    plus, minus = method.oracle.seen[::2], method.oracle.seen[1::2]
    slope = sum(p - m for p, m in zip(plus, minus, strict=True)) / (3 * 2 * method.eps)
    torch.testing.assert_close(w * (abs(slope) + 1e-8), v, rtol=1e-10, atol=0)


def test_a_first_step_whose_losses_tie_moves_nothing():
    w = torch.ones(4, 3)
    method = MEAZO([("w", w)], lr=1.0, mode="exact")
    method.step(lambda: w.sum() * 0 + 1.0)
    assert torch.equal(w, torch.ones(4, 3))
    assert method.v == 0.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"probes": 0}, "probes=0: must be at least 1"),
        ({"beta": 1.0}, r"beta=1.0: must lie in \[0, 1\)"),
        ({"zeta": 0.0}, "zeta=0.0: must be positive"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MEAZO([("w", torch.zeros(2, 2))], lr=0.0, **setting)
