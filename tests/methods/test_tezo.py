"""TeZO, TeZO-m and TeZO-Adam against numbers of their description, dense arithmetic, and identities."""

import re

import pytest
import torch
from helpers.released import TOLERANCE, Problem, feed, follow, read

from zobench import TeZO, TeZOAdam, TeZOMomentum
from zobench.testing import problem as testing
from zobench.zo import Perturbation, make_slots
from zobench.zo.perturbations.temporal import TemporalSubspace

GOLDEN = read("tezo_paper")
CLASSES = {"sgd": TeZO, "m": TeZOMomentum, "adam": TeZOAdam}
SIDES = {"left": "U", "right": "V"}


def lookup(run):
    def numbers(step, query, purpose, name, shape):
        if purpose in SIDES:
            return run["factors"][SIDES[purpose]][name]
        drawn = run["steps"][step]
        return drawn["tau"][name] if name in drawn["tau"] else drawn["z"][name]

    return numbers


def golden(monkeypatch, name):
    problem, run = Problem(GOLDEN), GOLDEN["runs"][name]
    settings = {key: value for key, value in run["settings"].items() if key != "seed"}
    if name == "m":
        settings["beta"] = settings.pop("beta1")
    method = CLASSES[name](problem.model.named_parameters(), **settings)
    feed(monkeypatch, method, lookup(run))
    return problem, method, run


@pytest.mark.parametrize("name", CLASSES)
def test_steps_follow_the_description(monkeypatch, name):
    problem, method, run = golden(monkeypatch, name)
    worst = max(follow(method, problem, run))
    print(name, worst)
    assert worst < TOLERANCE


@pytest.mark.parametrize(("name", "stays"), [("sgd", True), ("m", True), ("adam", False)])
def test_weights_of_tezo_and_tezo_m_stay_in_the_space_and_those_of_tezo_adam_leave_it(monkeypatch, name, stays):
    problem, method, run = golden(monkeypatch, name)
    before = problem.weights()
    follow(method, problem, run)
    for slot in method.slots[:2]:
        moved, basis = slot.param.detach() - before[slot.name], method.space.bases[slot.name]
        rank = int(torch.linalg.matrix_rank(moved, rtol=1e-9))
        U, V = (torch.linalg.qr(side).Q for side in (basis.U, basis.V))
        outside = float((moved - U @ (U.T @ moved @ V) @ V.T).norm() / moved.norm())
        assert (outside < 1e-12) == stays, (slot.name, outside)
        assert not stays or rank <= run["settings"]["rank"]


def test_the_mean_estimate_is_rank_times_the_gradient():
    """``E ⟨G, u⟩ u = r G``: independent signs have the second moments of normal numbers, on which alone it hangs."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 10)
    U, V, tau = signs[:, :4].view(-1, 2, 2), signs[:, 4:8].view(-1, 2, 2), signs[:, 8:]
    u = (U * tau[:, None]) @ V.mT
    G = torch.tensor([[0.3, -1.0], [2.0, 0.7]], dtype=torch.float64)
    mean = ((G * u).sum((1, 2), keepdim=True) * u).mean(0)
    assert torch.allclose(mean, 2 * G, rtol=0, atol=1e-12)


def test_tezo_m_is_dense_momentum_of_the_same_directions():
    core, dense = testing.Problem(torch.float64), testing.Problem(torch.float64)
    method = TeZOMomentum(core.parameters.items(), lr=1e-2, rank=3, seed=4)
    plain = TeZO(dense.parameters.items(), lr=1e-2, rank=3, seed=4, rule=method.rule.rule)
    core.train(method, 8)
    dense.train(plain, 8)
    for name, p in core.parameters.items():
        assert torch.allclose(p, dense.parameters[name], rtol=0, atol=1e-13)
    assert method._rule_state[1]["m"].shape == (3,)
    assert plain._rule_state[1]["m"].shape == (8, 5)


def test_tezo_adam_of_rank_one_is_dense_adam_without_bias_correction():
    """With one term there are no cross terms to drop."""
    problem = testing.Problem(torch.float64)
    method = TeZOAdam(problem.parameters.items(), lr=1e-2, rank=1, seed=4)
    weights = problem.copy()
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in weights.items()}
    for _ in range(6):
        problem.train(method, 1)
        for slot in method.slots:
            g = method.perturbation.estimate(slot, method.applied)
            m, v = moments[slot.name]
            m.mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.99).add_(g.square(), alpha=0.01)
            weights[slot.name] -= 1e-2 * m / (v + 1e-8).sqrt()
    for name, p in problem.parameters.items():
        assert torch.allclose(p, weights[name], rtol=0, atol=1e-12), name


def test_the_lift_by_squares_is_the_variance_of_lifted_independent_cores_in_parts_of_rows():
    (slot,) = make_slots([("w", torch.zeros(6000, 50, dtype=torch.float64))])
    space = TemporalSubspace(rank=4)
    space.draw_bases([slot], 5, 6)
    basis, variances = space.bases["w"], torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)
    terms = [(basis.U * variances.sqrt() * e) @ basis.V.T for e in torch.eye(4).double()]
    found = [part for _, part in space.lifted_variances(slot, variances)]
    assert len(found) > 1
    assert torch.allclose(torch.cat(found), sum(term.square() for term in terms), rtol=1e-12, atol=0)


def test_a_distribution_without_variances_of_lifts_says_so():
    class Ones(Perturbation):
        pass

    with pytest.raises(TypeError, match="Ones has no lifted_variances"):
        Ones().lifted_variances(make_slots([("w", torch.zeros(2, 2))])[0], torch.ones(2))


def test_factors_are_drawn_once_and_of_the_short_sides_rank():
    problem = testing.Problem()
    method = TeZO(problem.parameters.items(), lr=1e-2, rank=4)
    problem.train(method, 1)
    first = {name: (basis.U.clone(), basis.V.clone()) for name, basis in method.space.bases.items()}
    problem.train(method, 4)
    shapes = {name: (tuple(U.shape), tuple(V.shape)) for name, (U, V) in first.items()}
    assert shapes == {
        "embed.weight": ((6, 4), (8, 4)),
        "layer.weight": ((8, 4), (5, 4)),
        "head.weight": ((5, 1), (1, 1)),
    }
    for name, (U, V) in first.items():
        assert torch.equal(U, method.space.bases[name].U)
        assert torch.equal(V, method.space.bases[name].V)


@pytest.mark.parametrize("cls", CLASSES.values())
def test_equal_losses_leave_tezo_where_it_is_and_its_moments_decay(cls):
    weight = torch.ones(6, 4, dtype=torch.float64)
    method = cls([("w", weight)], lr=0.1, rank=2)
    method.step(lambda: weight.sum() * 0 + 1.0)
    assert bool((weight == 1.0).all())
    method.step(weight.sum)
    held = {name: x.clone() for name, x in method._rule_state[0].items()}
    method.step(lambda: weight.sum() * 0 + 1.0)
    for name, decay in {"m": 0.9, "v": 0.99}.items():
        if name in held:
            assert torch.allclose(method._rule_state[0][name], held[name] * decay)
    assert bool(weight.isfinite().all())


@pytest.mark.parametrize(
    ("cls", "settings", "said"),
    [
        (TeZO, {"rank": 0}, "rank=0: must be at least 1"),
        (TeZOMomentum, {"beta": 1.0}, "beta=1.0: must lie in [0, 1)"),
        (TeZOAdam, {"beta2": 1.0}, "beta2=1.0: must lie in [0, 1)"),
        (TeZOAdam, {"eps_adam": 0.0}, "eps_adam=0.0: must be positive"),
    ],
)
def test_bad_settings_are_named(cls, settings, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        cls([("w", torch.ones(3, 2))], lr=0.1, **settings)


def test_moments_of_tezo_adam_are_two_cores():
    problem = testing.Problem()
    method = TeZOAdam(problem.parameters.items(), lr=1e-3, rank=2)
    problem.train(method, 2)
    assert [tuple(method._rule_state[1][name].shape) for name in ("m", "v")] == [(2,), (2,)]
