"""``method=mezo_adam`` and ``method=mezo_momentum``: MeZO with a rule that has a memory."""

import pytest
import torch
from helpers.methods import node_of

from zobench.config import instantiate
from zobench.zo import Adam, Direction, Momentum

F64 = torch.float64


def made(name, weight, **settings):
    return instantiate.build(node_of(name) | settings, "method", [("w", weight)])


@pytest.mark.parametrize(("name", "rule"), [("mezo_adam", Adam), ("mezo_momentum", Momentum)])
def test_the_preset_has_its_rule(name, rule):
    assert type(made(name, torch.zeros(2, 2)).rule) is rule


def test_the_first_step_of_adam_moves_every_weight_by_the_rate_against_the_sign_of_its_estimate():
    g = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    w = torch.zeros(6, 5, dtype=F64)
    method = made("mezo_adam", w, lr=1e-2)
    method.step(lambda: (g * w).sum())
    estimate = method.perturbation.estimate(method.slots[0], method.applied)
    torch.testing.assert_close(w, -1e-2 * estimate.sign(), rtol=1e-5, atol=0)


def test_momentum_is_the_last_steps_replayed_with_falling_weights():
    """``b_T = Σ β^i c_{T−i} z_{T−i}``: what T pairs of key and slope hold, too."""
    g = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    w = torch.zeros(6, 5, dtype=F64)
    method = made("mezo_momentum", w, lr=1e-2)
    applied = Direction()
    for _ in range(7):
        before = w.clone()
        method.step(lambda: (g * w).sum())
        applied = 0.9 * applied + method.applied
        b = method.perturbation.estimate(method.slots[0], applied)
        torch.testing.assert_close(w, before - 1e-2 * b, rtol=1e-10, atol=1e-12)


def test_momentum_along_one_direction_is_a_geometric_sum():
    g = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    w = torch.zeros(6, 5, dtype=F64)
    method = made("mezo_momentum", w, lr=1e-2)
    method.direction = lambda query: Direction.ray(7)
    z = method.perturbation.estimate(method.slots[0], Direction.ray(7))
    for _ in range(5):
        method.step(lambda: (g * w).sum())
    b = method.state_dict()["rule.m.w"]
    torch.testing.assert_close(b, (g * z).sum() * z * (1 - 0.9**5) / (1 - 0.9), rtol=1e-9, atol=0)
