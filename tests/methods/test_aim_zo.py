"""AIM-ZO against the recorded trajectories, and the identities of its directions and of Oja's rule."""

import re

import pytest
import torch
import torch.nn.functional as F
from helpers.released import TOLERANCE, Problem, deviation, feed, follow, read, tensor

from zobench.methods.aim_zo import AIMZO
from zobench.zo import Direction, Unsuited, make_slots
from zobench.zo.perturbations.bases import Basis
from zobench.zo.perturbations.oja import OjaSubspace

GOLDEN = read("aim_zo")


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- the recorded trajectories ----------------------------------------------------------------------------------------


def recorded(monkeypatch, name, **settings):
    """AIM-ZO on the problem of the file, fed a run's draws."""
    problem, run = Problem(GOLDEN), GOLDEN["runs"][name]
    given = dict(run["settings"])
    given["lr"] *= given["eps"]
    names = {"total_steps": "steps", "rank": "width", "interval": "refresh"}
    given |= {name: given.pop(theirs) for name, theirs in names.items()}
    method = AIMZO(problem.model.named_parameters(), **{"variant": "official", **given, **settings})

    def lookup(step, query, purpose, slot, shape):
        draws = run["steps"][step]
        if purpose == "basis":
            return draws["Q0"][slot]
        if slot in draws["z"]:
            return draws["z"][slot][query]
        a, b = draws["a"][slot][query], draws["b"][slot][query]
        chosen = draws["tail"][slot][query] if "tail" in draws else []
        order, shared = [-1.0] * (shape[0] - len(a) - len(b)), len(b) - len(chosen)
        for place, column in enumerate(chosen):
            order[column - shared] = 1.0 - place / 10
        return a + b + order

    feed(monkeypatch, method, lookup)
    return method, problem, run


@pytest.mark.parametrize("name", list(GOLDEN["runs"]))
def test_steps_follow_the_recorded_trajectories(monkeypatch, name):
    """Weights, losses and bases; the bases of steps without a refresh are the last ones."""
    method, problem, run = recorded(monkeypatch, name)
    worst = {"losses": 0.0, "Q": 0.0}

    def after(step):
        draws = run["steps"][step]
        worst["losses"] = max(worst["losses"], deviation(tensor(method.oracle.seen), draws["losses"]))
        for slot, Q in draws.get("Q", {}).items():
            worst["Q"] = max(worst["Q"], deviation(method.space.bases[slot].V, Q))

    worst["weights"] = max(follow(method, problem, run, after=after))
    print(name, worst)
    assert max(worst.values()) < TOLERANCE


@pytest.mark.parametrize("name", list(GOLDEN["runs"]))
def test_the_papers_divisor_leaves_them_when_eps_has_moved_and_not_before(monkeypatch, name):
    method, problem, run = recorded(monkeypatch, name, divisor="eps")
    moved = [step for step, recorded in enumerate(run["steps"]) if recorded["eps"] != method.eps]
    found = follow(method, problem, run, until=moved[0] + 1 if moved else None)
    assert max(found[:-1] if moved else found) < TOLERANCE
    assert not moved or found[-1] > 1e3 * TOLERANCE
    assert AIMZO.variants["paper"].divisor == "eps"


@pytest.mark.parametrize("setting", ["eta", "eps_end", "interval"])
@pytest.mark.parametrize("name", list(GOLDEN["runs"]))
def test_another_setting_leaves_the_recorded_trajectory(monkeypatch, name, setting):
    its = GOLDEN["runs"][name]["settings"]
    others = {"eta": its["eta"] + 0.1, "eps_end": its["eps_end"] * 0.9, "interval": 1 if its["refresh"] > 1 else 2}
    method, problem, run = recorded(monkeypatch, name, **{setting: others[setting]})
    if setting == "interval":
        with pytest.raises(AssertionError, match="another number of forward passes"):
            follow(method, problem, run, until=3)
    else:
        assert max(follow(method, problem, run, until=4)) > 1e3 * TOLERANCE


def test_at_a_constant_eps_the_variants_are_one():
    weights = {variant: randn(4, 6) for variant in AIMZO.variants}
    for variant, weight in weights.items():
        method = AIMZO([("w", weight)], lr=0.1, eps=0.01, eps_end=1.0, variant=variant)
        for _ in range(3):
            method.step(lambda weight=weight: F.linear(randn(5, 6, seed=1), weight).square().sum())
    assert torch.equal(weights["paper"], weights["official"])
    assert not torch.equal(weights["paper"], randn(4, 6))


# -- the directions ---------------------------------------------------------------------------------------------------


def followed(m=7, n=12, axis=1, **settings):
    """A slot and a space with a random Q on an axis."""
    slot = make_slots([("w", randn(m, n))])[0]
    space = OjaSubspace(**{"rank": 8, "shared": 3, "sampled": 2} | settings)
    Q = torch.linalg.qr(randn(slot.param.shape[axis], min(space.r, slot.param.shape[axis]), seed=1)).Q
    space.span({"w": Basis.along(axis, Q)})
    return slot, space, Q


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("settings", [{}, {"shared": 1}, {"sampled": 0}, {"rank": 128, "shared": 48, "sampled": 16}])
def test_directions_have_rank_one_and_mean_square_one_within_the_basis(axis, settings):
    slot, space, Q = followed(axis=axis, **settings)
    for key in range(20):
        u = space.estimate(slot, Direction.ray(key))
        assert float(u.norm()) == pytest.approx((7 * 12) ** 0.5, rel=1e-12)
        assert int(torch.linalg.matrix_rank(u)) == 1
        within = u @ Q @ Q.T if axis == 1 else Q @ Q.T @ u
        torch.testing.assert_close(within, u, rtol=0, atol=1e-12)


def test_each_direction_uses_the_shared_columns_and_some_others_that_it_chooses():
    slot, space, Q = followed()
    counts, used = torch.zeros(8, dtype=torch.float64), []
    for key in range(1000):
        used.append((space.estimate(slot, Direction.ray(key)) @ Q).abs().sum(0) > 1e-9)
        counts += used[-1]
    assert counts[:3].tolist() == [1000.0] * 3
    assert {int(columns.sum()) for columns in used} == {5}
    assert all(abs(count - 400) < 4.5 * (1000 * 0.4 * 0.6) ** 0.5 for count in counts[3:].tolist())


def test_a_basis_as_wide_as_all_columns_that_are_used_leaves_none_out():
    slot, space, Q = followed(rank=5)
    assert bool(((space.estimate(slot, Direction.ray(1)) @ Q).abs() > 1e-9).any(0).all())


def test_a_sum_of_directions_is_the_lift_of_the_sum_of_cores():
    slot, space, Q = followed()
    direction = Direction({1: 0.5, 2: -2.0, 3: 0.1})
    torch.testing.assert_close(space.estimate(slot, direction), space.core(slot, direction) @ Q.T, rtol=0, atol=1e-12)
    assert space.factors(slot, direction).rank == 3


# -- Oja's rule -------------------------------------------------------------------------------------------------------


def test_oja_finds_the_leading_directions_of_the_inputs_in_their_order():
    scales = torch.tensor([3.0, 2.0, 1.3, 0.5, 0.1, 0.1, 0.1], dtype=torch.float64)
    V = torch.linalg.qr(randn(7, 7, seed=2)).Q
    inputs = torch.linalg.qr(randn(40, 7, seed=3)).Q * scales @ V.T * 40**0.5
    weight = randn(3, 7)
    method = AIMZO([("w", weight)], lr=0.0, eps_end=1.0, rank=3, probes=2)
    for _ in range(60):
        method.step(lambda: F.linear(inputs, weight).sum())
    overlap = (method.space.bases["w"].V.T @ V[:, :3]).abs()
    torch.testing.assert_close(overlap, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)


def test_bases_move_at_the_refreshes_alone_and_steps_cost_accordingly():
    weight, inputs = randn(3, 7), randn(9, 7, seed=1)
    method = AIMZO([("w", weight)], lr=1e-3, eps_end=1.0, probes=4, interval=3)
    seen, before = [], None
    for step in range(7):
        forwards = method.oracle.forwards
        method.step(lambda: F.linear(inputs, weight).square().sum())
        Q = method.space.bases["w"].V
        seen.append(before is None or not torch.equal(Q, before))
        before = Q.clone()
        assert method.oracle.forwards - forwards == method.forwards_at(step) == 4 + seen[-1]
    assert seen == [True, False, True, False, False, True, False]


def test_a_layer_that_does_not_run_keeps_its_basis():
    weights, inputs = [randn(3, 7), randn(3, 7)], randn(9, 7, seed=1)
    method = AIMZO([("a", weights[0]), ("b", weights[1])], lr=1e-3, eps_end=1.0)

    def loss(*which):
        return lambda: sum(F.linear(inputs, weights[i]).square().sum() for i in which)

    method.step(loss(0, 1))
    a, b = (method.space.bases[name].V.clone() for name in "ab")
    method.step(loss(1))
    assert torch.equal(method.space.bases["a"].V, a)
    assert not torch.equal(method.space.bases["b"].V, b)


# -- bad input --------------------------------------------------------------------------------------------------------


def test_eps_falls_to_its_end_at_the_last_step_and_needs_the_length_of_the_run():
    method = AIMZO([("w", randn(2, 2))], lr=0.0, eps=1.0, total_steps=11)
    found = []
    for method.t in (0, 5, 10):
        found.append(method.eps_now)
    assert found == pytest.approx([1.0, 0.625, 0.25])
    with pytest.raises(ValueError, match=r"^eps_end=0.25: ε falls over the run, so AIM-ZO needs total_steps$"):
        AIMZO([("w", randn(2, 2))], lr=0.0).step(lambda: 0.0)


def test_a_model_without_layers_is_refused_in_one_line():
    table = randn(4, 3)
    method = AIMZO([("embed.weight", table)], lr=0.1, eps_end=1.0)
    with pytest.raises(Unsuited, match=r"^no trainable matrix was seen in a linear layer, .* or use method=mezo$"):
        method.step(lambda: F.embedding(torch.tensor([1]), table).sum())


def test_equal_losses_leave_the_weights():
    weight, inputs = randn(3, 4), randn(5, 4, seed=1)
    AIMZO([("w", weight)], lr=0.1, eps_end=1.0).step(lambda: 0.0 * F.linear(inputs, weight).sum() + 1.0)
    assert torch.equal(weight, randn(3, 4))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"probes": 1}, "probes=1: must be at least 2"),
        ({"interval": 0}, "interval=0: must be at least 1"),
        ({"rank": 0}, "rank=0: must be at least 1"),
        ({"shared": 0}, "shared=0: must be at least 1"),
        ({"sampled": -1}, "sampled=-1: must be 0 or positive"),
        ({"eta": -0.1}, "eta=-0.1: must be 0 or positive"),
        ({"eps_end": 0.0}, "eps_end=0.0: must lie in (0, 1]"),
        ({"divisor": "none"}, "divisor=none: expected one of eps, first_eps"),
        ({"variant": "port"}, "variant=port: expected one of paper, official"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AIMZO([("w", torch.zeros(2, 2))], lr=0.0, **setting)
