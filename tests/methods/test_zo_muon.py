"""ZO-Muon against trajectories of the released code, its identities, and Subspace-MeZO."""

import pytest
import torch
from helpers.released import TOLERANCE, Problem, deviation, feed, follow, read, tensor

from zobench import MeZO, ZOMuon
from zobench.testing import problem as testing
from zobench.zo import Direction, Muon, make_slots
from zobench.zo.perturbations import left_subspace
from zobench.zo.spectral import newton_schulz, polar

RELEASED, REPAIRED = read("zo_muon"), read("zo_muon_repaired")
SIGNS = {"muon": "newton_schulz", "muon_svd": "svd", "sgd": "none"}


def released(monkeypatch, name, **switches):
    """A run of the released code: its P were made in fp32, and are taken as they are."""
    problem, run = Problem(RELEASED), RELEASED["runs"][name]
    settings = run["settings"]
    method = ZOMuon(
        problem.model.named_parameters(),
        probes=settings["N"],
        central=not settings["one_sided"],
        msign=SIGNS[settings["opt"]],
        weight_decay=settings["wd"],
        **{key: settings[key] for key in ("lr", "eps", "rank", "interval")},
        **{"variant": "official", **switches},
    )

    def lookup(step, query, purpose, name, shape):
        drawn = run["steps"][step]["queries"][query][name]
        return drawn.get("Psi", drawn.get("z"))

    def basis(slot, key, size, rank):
        step, query, _ = method.keys.what[key]
        return tensor(run["steps"][step]["queries"][query][slot.name]["P"])

    feed(monkeypatch, method, lookup)
    monkeypatch.setattr(left_subspace, "haar_basis", basis)
    return method, problem, run


@pytest.mark.parametrize("name", RELEASED["runs"])
def test_steps_follow_the_released_code(monkeypatch, name):
    worst = max(follow(*released(monkeypatch, name)))
    print(name, worst)
    assert worst < TOLERANCE


@pytest.mark.parametrize("name", RELEASED["runs"])
def test_the_paper_leaves_the_released_run_where_a_basis_is_new_and_more_than_one_query_asks(monkeypatch, name):
    method, problem, run = released(monkeypatch, name, variant="paper")
    if method.probes > 1:
        assert follow(method, problem, run, until=1)[0] > 1e3 * TOLERANCE
    else:
        assert max(follow(method, problem, run)) < TOLERANCE


@pytest.mark.parametrize("name", RELEASED["runs"])
def test_the_paper_leaves_the_released_run_at_no_other_step(monkeypatch, name):
    """From the weights after a step that renews P, the steps up to the next one are the same."""
    method, problem, run = released(monkeypatch, name)
    follow(method, problem, run, until=1)
    method.switches = ZOMuon.variants["paper"]
    for step in range(1, min(method.interval, len(run["steps"]))):
        method.step(problem.loss)
        for slot, weights in problem.weights().items():
            assert deviation(weights, run["weights"][step + 1][slot]) < TOLERANCE


def test_steps_follow_the_description(monkeypatch):
    problem, settings = Problem(REPAIRED), REPAIRED["settings"]
    method = ZOMuon(
        problem.model.named_parameters(),
        probes=settings["N"],
        **{key: settings[key] for key in ("lr", "lr_vectors", "eps", "rank", "interval")},
    )

    def lookup(step, query, purpose, name, shape):
        if purpose == "basis":  # of which QR makes the same columns again
            return REPAIRED["steps"][step]["P"][name]
        drawn = REPAIRED["steps"][step]["queries"][query]
        return drawn["Psi"].get(name, drawn["z"].get(name))

    feed(monkeypatch, method, lookup)
    worst = max(follow(method, problem, REPAIRED))
    print(worst)
    assert worst < TOLERANCE


# -- the step ---------------------------------------------------------------------------------------------------------


def trained(steps=3, dtype=torch.float64, **settings):
    problem = testing.Problem(dtype)
    method = ZOMuon(problem.parameters.items(), **{"lr": 1e-2, "rank": 3, "seed": 4, **settings})
    problem.train(method, steps)
    return problem, method


def test_newton_schulz_brings_singular_values_near_one_and_keeps_singular_vectors():
    matrix = torch.randn(5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = newton_schulz(matrix)
    values = torch.linalg.svdvals(made)
    assert 0.68 < float(values.min()) <= float(values.max()) < 1.21
    assert torch.allclose(made.T, newton_schulz(matrix.T), rtol=0, atol=1e-14)
    core = polar(matrix).T @ made  # V f(S) Vᵀ
    assert torch.allclose(core, core.T, rtol=0, atol=1e-12)
    one = torch.outer(torch.arange(3.0), torch.arange(4.0))
    assert abs(float(torch.linalg.svdvals(newton_schulz(one))[0]) - 0.70) < 0.01


def test_polar_is_the_nearest_partial_isometry():
    matrix = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(polar(matrix) @ polar(matrix).T, torch.eye(4).double(), rtol=0, atol=1e-12)
    matrix[3] = matrix[0]
    assert torch.linalg.svdvals(polar(matrix)).round(decimals=9).tolist() == [1.0, 1.0, 1.0, 0.0]
    assert not polar(torch.zeros(3, 4)).any()
    assert not newton_schulz(torch.zeros(3, 4)).any()


@pytest.mark.parametrize("msign", ["newton_schulz", "svd"])
def test_the_sign_of_the_core_lifted_is_the_sign_of_the_whole_estimate(msign):
    """``msign(P g) = P msign(g)``; the step lies in the range of P."""
    problem, method = trained(msign=msign)
    before = problem.copy()
    problem.train(method, 1)
    for slot in method.slots:
        estimate, step = method.space.estimate(slot, method.applied), (before[slot.name] - slot.param) / 1e-2
        if slot.kind == "vector":
            assert torch.allclose(step, estimate * 1e-5, rtol=0, atol=1e-12)
            continue
        whole = Muon(msign=msign)(slot, estimate, {}, 0)
        assert torch.allclose(step, whole, rtol=0, atol=1e-9)
        P = method.space.bases[slot.name].U
        assert float((step - P @ (P.T @ step)).norm()) < 1e-12 * float(step.norm())


@pytest.mark.parametrize("msign", ["newton_schulz", "svd"])
def test_matrices_step_alike_whatever_the_scale_and_the_level_of_the_loss(msign):
    steps = []
    for scale, level in ((1.0, 0.0), (37.0, -2.0)):
        problem = testing.Problem(torch.float64)
        method = ZOMuon(problem.parameters.items(), lr=1e-2, rank=3, seed=4, msign=msign, lr_vectors=0.0)
        before = problem.copy()
        method.step(lambda problem=problem, scale=scale, level=level: problem.loss(0) * scale + level)
        steps.append({name: before[name] - p for name, p in problem.parameters.items()})
    for name, step in steps[0].items():
        assert torch.allclose(step, steps[1][name], rtol=0, atol=1e-7), name


def test_the_mean_estimate_is_the_projection_of_the_gradient():
    """Over Ψ it is ``P Pᵀ G``, and over uniform P ``r/m · G``: a whole orthogonal frame, cut into its columns."""
    (slot,) = make_slots([("w", torch.zeros(4, 3, dtype=torch.float64))])
    space = left_subspace.LeftSubspace(rank=2)
    space.randomise([slot], 7)
    P, G = space.bases["w"].U, torch.arange(12.0, dtype=torch.float64).view(4, 3)
    points = 6**0.5 * torch.cat([torch.eye(6), -torch.eye(6)]).double().view(-1, 2, 3)
    mean = torch.stack([(G * (P @ psi)).sum() * P @ psi for psi in points]).mean(0)
    assert torch.allclose(mean, P @ P.T @ G, rtol=0, atol=1e-12)
    frame = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double()).Q
    halves = [frame[:, :2], frame[:, 2:]]
    assert torch.allclose(sum(Q @ Q.T @ G for Q in halves) / 2, 2 / 4 * G, rtol=0, atol=1e-12)


def test_subspace_mezo_of_full_rank_is_mezo_along_rotated_directions():
    """P is square then: with both losses of a direction, the step is MeZO's along ``P Ψ``."""
    weight = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
    start = weight.clone()
    settings = {"probes": 1, "central": True, "msign": "none", "lr_vectors": 1e-3}
    method = ZOMuon([("w", weight)], lr=1e-3, rank=8, **settings)
    method.step(lambda: weight.sin().sum())
    u = method.space.estimate(method.slots[0], Direction.ray(method.keys(0)))
    eps = method.eps
    slope = float((start + eps * u).sin().sum() - (start - eps * u).sin().sum()) / (2 * eps)
    assert torch.allclose(weight, start - 1e-3 * slope * u, rtol=0, atol=1e-12)


def test_on_vectors_alone_it_is_mezo_with_a_learning_rate_of_its_own():
    ours, mezo = (torch.linspace(-1, 1, 7, dtype=torch.float64) for _ in range(2))
    method = ZOMuon([("bias", ours)], lr=1e-1, lr_vectors=1e-2, seed=3, probes=2, central=True)
    plain = MeZO([("bias", mezo)], lr=1e-2, seed=3, probes=2)
    for _ in range(3):
        method.step(lambda: ours.sin().sum())
        plain.step(lambda: mezo.sin().sum())
    assert torch.allclose(ours, mezo, rtol=0, atol=1e-12)


def test_a_basis_is_kept_for_an_interval_and_its_rank_cut_to_the_short_side():
    problem, method = trained(steps=1, rank=64, interval=3)
    shapes = {name: tuple(basis.U.shape) for name, basis in method.space.bases.items()}
    assert shapes == {"embed.weight": (6, 6), "layer.weight": (8, 5), "head.weight": (5, 1)}
    first = method.space.bases["layer.weight"].U
    problem.train(method, 2)
    assert method.space.bases["layer.weight"].U is first
    problem.train(method, 1)
    assert not torch.allclose(method.space.bases["layer.weight"].U, first)


@pytest.mark.parametrize("variant", ZOMuon.variants)
def test_equal_losses_leave_it_where_it_is(variant):
    weight = torch.ones(6, 4)
    method = ZOMuon([("w", weight)], lr=0.1, rank=2, variant=variant, mode="exact")
    for _ in range(2):
        method.step(lambda: weight.sum() * 0 + 1.0)
    assert bool((weight == 1.0).all())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 0}, "rank=0: must be at least 1"),
        ({"interval": 0}, "interval=0: must be at least 1"),
        ({"probes": 0}, "probes=0: must be at least 1"),
        ({"lr_vectors": -1.0}, r"lr_vectors=-1.0: must be 0 or positive"),
        ({"msign": "ns"}, "msign=ns: expected one of newton_schulz, svd, none"),
        ({"basis_per": "step"}, "basis_per=step: expected one of interval, query"),
    ],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        ZOMuon([("w", torch.ones(3, 2))], lr=0.1, **settings)
