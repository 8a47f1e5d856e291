"""ZO-MOPI against a trajectory of the released code, and the mathematics of its power iteration and anchored bases."""

import pytest
import torch
from helpers.released import Problem, feed, follow, read, tensor

from zobench import ZOMOPI
from zobench.testing import problem as testing
from zobench.zo import PowerIteration, make_slots
from zobench.zo.perturbations import left_subspace
from zobench.zo.spectral import polar

GOLDEN = read("zo_mopi")
#: the released code makes its orthonormal columns in fp32
TOLERANCE = 1e-5
#: the steps that renew P
REFRESHES = [t for t, step in enumerate(GOLDEN["steps"]) if step["refresh"]]


def golden(monkeypatch, **switches):
    problem, settings, steps = Problem(GOLDEN), GOLDEN["settings"], GOLDEN["steps"]
    method = ZOMOPI(
        problem.model.named_parameters(),
        lr_vectors=settings["one_d_lr"],
        probes=settings["N"],
        directions=settings["k"],
        weight_decay=settings["wd"],
        **{key: settings[key] for key in ("lr", "eps", "rank", "interval")},
        **{"variant": "official", "beta": settings["beta"], **switches},
    )

    def lookup(step, query, purpose, name, shape):
        if purpose == "power iteration":
            return steps[step]["V_start"][name]
        drawn = steps[step]["queries"][query]["undo_and_update" if purpose == "walked back" else "probe"][name]
        return drawn.get("Psi", drawn.get("z"))

    feed(monkeypatch, method, lookup)
    method.power.keys = method.keys
    monkeypatch.setattr(
        left_subspace, "haar_basis", lambda slot, key, *_: tensor(steps[method.keys.what[key][0]]["P"][slot.name])
    )
    return method, problem


def test_steps_follow_the_released_code(monkeypatch):
    worst = max(follow(*golden(monkeypatch), GOLDEN))
    print(worst)
    assert worst < TOLERANCE


def test_what_the_release_leaves_in_the_weights_is_what_is_recorded(monkeypatch):
    method, problem = golden(monkeypatch)
    found = []

    def displaced(step):
        matrices = [method.space.estimate(slot, method.displaced).abs().max() for slot in method.slots[:2]]
        found.append(float(max(matrices)) if method.displaced else 0.0)

    follow(method, problem, GOLDEN, after=displaced)
    assert [t for t, moved in enumerate(found) if moved] == REFRESHES
    assert found == pytest.approx([step["displaced"] for step in GOLDEN["steps"]], abs=1e-9)


@pytest.mark.parametrize(
    ("switch", "at"),
    [
        ({"walk_back": "same"}, 0),
        *(({"forget_v": False}, second) for second in REFRESHES[1:2]),
        ({"beta": (1 + GOLDEN["settings"]["beta"]) / 2}, 1),
        ({"beta": (1 + GOLDEN["settings"]["beta"]) / 2, "anchored": True}, 1),
    ],
)
def test_each_switch_is_needed_and_shows_where_the_releases_notes_say(monkeypatch, switch, at):
    method, problem = golden(monkeypatch, **switch)
    far = 1e2 * TOLERANCE
    found = follow(method, problem, GOLDEN, until=at + 1)
    assert (all(off < TOLERANCE for off in found[:at]), found[at] > far) == (True, True), found


# -- the step ---------------------------------------------------------------------------------------------------------


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_power_iteration_of_a_fixed_matrix_comes_to_the_sign_of_its_leading_part():
    """``U_k V_kᵀ`` of the SVD, the error falling by the square of the ratio of two neighbouring values a step."""
    U, V = (torch.linalg.qr(randn(n, 4, seed=n)).Q for n in (6, 9))
    matrix = (U * torch.tensor([8.0, 4.0, 1.0, 0.1]).double()) @ V.T
    (slot,) = make_slots([("w", torch.zeros(6, 9).double())])
    rule, state = PowerIteration(directions=2), {}
    errors = [float((rule(slot, matrix, state, step) - U[:, :2] @ V[:, :2].T).norm()) for step in range(20)]
    assert errors[-1] < 1e-10
    assert errors[8] / errors[7] == pytest.approx((4 / 8) ** 2, rel=0.01)
    assert state["V"].shape == (9, 2)


def test_all_directions_are_the_whole_sign_at_once():
    matrix, (slot,) = randn(4, 7), make_slots([("w", torch.zeros(4, 7).double())])
    state = {}
    rule = PowerIteration(directions=32)
    for step in range(60):
        made = rule(slot, matrix, state, step)
    assert torch.allclose(made, polar(matrix), rtol=0, atol=1e-6)
    assert state["V"].shape == (7, 4)


def trained(steps=3, **settings):
    problem = testing.Problem(torch.float64)
    method = ZOMOPI(
        problem.parameters.items(), **{"lr": 1e-2, "rank": 4, "directions": 2, "probes": 3, "seed": 4, **settings}
    )
    problem.train(method, steps)
    return problem, method


def test_a_step_is_the_dense_arithmetic_of_its_box():
    problem, method = trained(steps=3, interval=100)
    slot = method.slots[1]
    before, state = slot.param.clone(), method._rule_state[slot.index]
    M, V, P = state["m"].clone(), state["V"].clone(), method.space.bases[slot.name].U
    problem.train(method, 1)
    M = 0.9 * M + 0.1 * P.T @ method.space.estimate(slot, method.applied)
    V = torch.linalg.qr(M.T @ M @ V).Q
    U = M @ V / (M @ V).norm(dim=0)
    assert torch.allclose(slot.param, before - 1e-2 * P @ U @ V.T, rtol=0, atol=1e-12)


def test_a_new_basis_holds_the_leading_directions_of_the_momentum_which_is_projected_on_it():
    problem, method = trained(steps=3, interval=3)
    slot = method.slots[1]
    state, old = method._rule_state[slot.index], method.space.bases[slot.name].U
    M, V = state["m"].clone(), state["V"].clone()
    problem.train(method, 1)
    P = method.space.bases[slot.name].U
    kept = old @ torch.linalg.svd(M, full_matrices=False).U[:, :2]
    assert torch.allclose(P[:, :2], kept, rtol=0, atol=1e-12)
    assert torch.allclose(P.T @ P, torch.eye(4).double(), rtol=0, atol=1e-12)
    expected = 0.9 * P.T @ old @ M + 0.1 * method.space.core(slot, method.applied)
    assert torch.allclose(state["m"], expected, rtol=0, atol=1e-12)
    assert torch.allclose(state["V"].T @ V, torch.linalg.qr(expected.T @ expected @ V).Q.T @ V, rtol=0, atol=1e-12)


def test_a_random_new_basis_leaves_the_momentum_its_numbers():
    problem, method = trained(steps=3, interval=3, anchored=False)
    slot = method.slots[1]
    M = method._rule_state[slot.index]["m"].clone()
    problem.train(method, 1)
    expected = 0.9 * M + 0.1 * method.space.core(slot, method.applied)
    assert torch.allclose(method._rule_state[slot.index]["m"], expected, rtol=0, atol=1e-12)


def test_more_directions_than_the_rank_keep_the_space_of_a_momentum():
    problem, method = trained(steps=3, interval=3, directions=64)
    slot = method.slots[1]
    old = method.space.bases[slot.name].U
    problem.train(method, 1)
    new = method.space.bases[slot.name].U
    assert torch.allclose(new @ new.T, old @ old.T, rtol=0, atol=1e-12)


def test_v_is_forgotten_with_the_basis_in_the_release_alone():
    def kept(**settings):
        problem, method = trained(steps=3, interval=3, **settings)
        starts = []
        keys = method.power.keys
        method.power.keys = lambda *args, **kwargs: starts.append(args) or keys(*args, **kwargs)
        problem.train(method, 1)
        return not starts

    assert (kept(), kept(variant="official")) == (True, False)


def test_vectors_step_by_the_average_with_a_rate_of_their_own():
    problem, method = trained(steps=2, lr_vectors=1e-3)
    slot = next(slot for slot in method.slots if slot.kind == "vector")
    before, m = slot.param.clone(), method._rule_state[slot.index]["m"].clone()
    problem.train(method, 1)
    m = 0.9 * m + 0.1 * method.space.estimate(slot, method.applied)
    assert torch.allclose(slot.param, before - 1e-3 * m, rtol=0, atol=1e-13)


@pytest.mark.parametrize("variant", ZOMOPI.variants)
def test_equal_losses_give_no_step_at_first_and_the_momentums_later(variant):
    weight = torch.ones(6, 4, dtype=torch.float64)
    method = ZOMOPI([("w", weight)], lr=0.1, rank=3, variant=variant, walk_back="same", seed=1)
    method.step(lambda: weight.sum() * 0 + 1.0)
    assert bool((weight == 1.0).all())
    method.step(lambda: weight.sin().sum())
    before = weight.clone()
    method.step(lambda: weight.sum() * 0 + 1.0)
    assert bool(weight.isfinite().all())
    assert torch.equal(weight, before) == (variant == "official")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 0}, "rank=0: must be at least 1"),
        ({"interval": 0}, "interval=0: must be at least 1"),
        ({"probes": 0}, "probes=0: must be at least 1"),
        ({"directions": 0}, "directions=0: must be at least 1"),
        ({"beta": 1.0}, "beta=1.0"),
        ({"walk_back": "no"}, "walk_back=no: expected one of same, redrawn"),
    ],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        ZOMOPI([("w", torch.ones(3, 2))], lr=0.1, **settings)
