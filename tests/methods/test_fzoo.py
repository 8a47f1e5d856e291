"""FZOO against the released code's steps, and what a step over the deviation of losses is invariant under."""

import itertools
import math
import statistics

import pytest
import torch
from helpers.released import TOLERANCE, Problem, feed, follow, read

from zobench import FZOO
from zobench.zo import Direction, Rademacher

GOLDEN = read("fzoo")
#: the recording left out the rounding of losses to fp32
OFFICIAL = {"variant": "official", "round_losses": False}


def deviations(monkeypatch, until=None, **switches):
    problem, s = Problem(GOLDEN), GOLDEN["settings"]
    method = FZOO(problem.model.named_parameters(), lr=s["lr"], eps=s["eps"], probes=s["N"], **switches)

    def lookup(step, query, purpose, name, shape):
        return GOLDEN["steps"][step]["queries"][query][name]["sign"]

    feed(monkeypatch, method, lookup)
    return follow(method, problem, GOLDEN, until=until)


def test_steps_follow_the_released_code(monkeypatch):
    found = deviations(monkeypatch, **OFFICIAL)
    print(max(found))
    assert max(found) < TOLERANCE


@pytest.mark.parametrize(
    "switch", [{"spread": "sample"}, {"eps_in_step": True}, {"round_losses": True}, {"variant": "paper"}]
)
def test_every_switch_of_the_variant_is_needed_from_the_first_step(monkeypatch, switch):
    found = deviations(monkeypatch, until=3, **OFFICIAL | switch)
    print(switch, found)
    assert found[0] > TOLERANCE


def test_the_papers_step_is_the_released_one_at_another_rate(monkeypatch):
    """The rate takes ε and the ratio of the two deviations."""
    s = GOLDEN["settings"]
    rate = s["lr"] * s["eps"] * math.sqrt(s["N"] / (s["N"] - 1))
    monkeypatch.setitem(GOLDEN, "settings", s | {"lr": rate})
    assert max(deviations(monkeypatch, variant="paper")) < TOLERANCE


def linear(scale=1.0, shift=0.0, size=40):
    torch.manual_seed(0)
    w, g = torch.zeros(size, dtype=torch.float64), torch.randn(size, dtype=torch.float64)
    return w, g, lambda: scale * (g * w + w.square()).sum() + shift


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("reuse", [False, True])
def test_steps_are_the_same_under_affine_maps_of_the_loss(variant, reuse):
    ends = []
    for scale, shift in ((1.0, 0.0), (8.0, 0.0), (1.0, 0.25), (1e-3, 0.0)):
        w, _, loss = linear(scale, shift)
        settings = {"variant": variant, "reuse": reuse, "round_losses": False}
        method = FZOO([("w", w)], lr=1e-5, eps=1e-3, probes=4, **settings)
        for _ in range(6):
            method.step(loss)
        ends.append(w)
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-9, atol=0)


def test_the_deviation_over_eps_is_the_norm_of_the_gradient():
    """Exactly, in the mean over all sign vectors: ``E ⟨g, u⟩² = ‖g‖²``."""
    g = torch.randn(8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8)), dtype=torch.float64)
    losses = (1e-3 * signs @ g + 3.0).tolist()
    assert statistics.pstdev(losses) / 1e-3 == pytest.approx(float(g.norm()), rel=1e-10)
    w, g, loss = linear(size=2000)
    method = FZOO([("w", w)], lr=0.0, probes=400, eps=1e-6)
    method.step(loss)
    assert method.oracle.notes["loss_spread"] / 1e-6 == pytest.approx(float(g.norm()), rel=0.1)


def test_along_one_sign_vector_the_estimate_has_norm_d_times_the_squared_slope():
    """``E‖⟨g, u⟩ u‖² = d‖g‖²`` for signs, where a Gaussian has d + 2."""
    g = torch.randn(8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8)), dtype=torch.float64)
    squared = ((signs @ g)[:, None] * signs).square().sum(1).mean()
    assert float(squared) == pytest.approx(8 * float(g.square().sum()), rel=1e-12)


def test_steps_have_a_length_that_no_loss_changes():
    """About ``lr √(d/N)`` in the released form."""
    for scale in (1.0, 1e3):
        w, _, loss = linear(scale, size=3000)
        FZOO([("w", w)], lr=1e-5, eps=1e-4, probes=8, **OFFICIAL).step(loss)
        assert float(w.norm()) == pytest.approx(1e-5 * math.sqrt(3000 / 8), rel=0.3)


def test_directions_are_signs():
    w, _, loss = linear()
    method = FZOO([("w", w)], lr=1e-6)
    method.step(loss)
    (key, *_) = method.applied
    assert set(method.perturbation.estimate(method.slots[0], Direction.ray(key)).tolist()) == {-1.0, 1.0}
    assert isinstance(method.perturbation, Rademacher)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_equal_losses_make_no_step_and_keep_the_keys(variant):
    w = torch.ones(4, 3)
    method = FZOO([("w", w)], lr=1.0, variant=variant, mode="exact")
    method.step(lambda: w.sum() * 0 + 0.1 + 0.2)
    assert torch.equal(w, torch.ones(4, 3))
    assert list(method.applied.values()) == [0.0] * 8


def test_rounding_to_fp32_makes_ties_of_losses_that_hardly_differ():
    w = torch.ones(4, 3, dtype=torch.float64)
    for variant, moved in (("official", False), ("paper", True)):
        before = w.clone()
        FZOO([("w", w)], lr=1e-6, variant=variant, mode="exact").step(lambda: 1.0 + 1e-12 * w.sum())
        assert bool((w != before).any()) == moved


def test_reuse_takes_half_of_the_losses_of_the_step_before_for_the_deviation():
    w, _, loss = linear()
    method = FZOO([("w", w)], lr=1e-5, probes=6, reuse=True)
    earlier = []
    for step, new in enumerate((6, 3, 3)):
        assert method.forwards_at(step) == 1 + new
        method.step(loss)
        base, *ahead = method.oracle.seen
        assert len(ahead) == new
        sigma = statistics.stdev(ahead + earlier)
        assert list(method.applied.values()) == [(x - base) / (new * sigma * method.eps) for x in ahead]
        earlier = ahead[-3:]
        assert method.earlier == earlier


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"probes": 1}, "probes=1: must be at least 2"),
        ({"probes": 5, "reuse": True}, "probes=5: with reuse, half of them are new in a step; set an even number"),
        ({"spread": "range"}, "spread=range: expected one of sample, population"),
        ({"variant": "released"}, "variant=released: expected one of paper, official"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FZOO([("w", torch.zeros(2, 2))], lr=0.0, **setting)
