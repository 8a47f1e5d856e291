"""SubZero against recorded steps of the released code; SubZero and SubZero+ against their mathematics."""

import math

import pytest
import torch
from helpers import released
from helpers.methods import descended
from helpers.released import TOLERANCE, Problem, feed, follow

from zobench.methods.mezo import MeZO
from zobench.methods.subzero import SubZero, SubZeroPlus
from zobench.zo import SGD, Adam, CoreSpace, Direction, Momentum, make_slots
from zobench.zo.perturbations import random_subspace
from zobench.zo.perturbations.bases import haar_basis, most_square
from zobench.zo.perturbations.random_subspace import RandomSubspace

GOLDEN = released.read("subzero")


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_steps_follow_the_released_code(monkeypatch):
    """With the recorded draws and bases; in modes other than ``ft`` matrices are reshaped."""
    problem, its = Problem(GOLDEN), GOLDEN["settings"]
    settings = {name: its[name] for name in ("lr", "eps", "rank", "interval")} | {"reshape": its["mode"] != "ft"}
    rule = Momentum(beta=its["momentum"]) if its["momentum"] else SGD()
    method = SubZero(problem.model.named_parameters(), rule=rule, **settings)

    def recorded(slot, key, size, rank):
        bases = GOLDEN["steps"][method.t]["bases"][slot.name]
        return next(x for x in (released.tensor(bases["U"]), released.tensor(bases["Vt"]).T) if x.shape == (size, rank))

    feed(
        monkeypatch,
        method,
        lambda t, query, purpose, slot, shape: next(iter(GOLDEN["steps"][t]["draws"][slot].values())),
    )
    monkeypatch.setattr(random_subspace, "haar_basis", recorded)
    off = follow(method, problem, GOLDEN)
    print(max(off))
    assert max(off) < TOLERANCE


# -- the subspace -----------------------------------------------------------------------------------------------------


def drawn(shape=(6, 8), rank=3, **settings):
    """A slot with its bases."""
    slot = make_slots([("w", torch.zeros(shape, dtype=torch.float64))])[0]
    space = RandomSubspace(rank=rank, **settings)
    space.refresh([slot], key=5)
    return slot, space, space.bases["w"]


@pytest.mark.parametrize(
    ("shape", "reshape", "expected"),
    [
        ((6, 8), False, (6, 8, 3)),
        ((2, 48), False, (2, 48, 2)),  # a rank above the short side is cut to it
        ((2, 48), True, (8, 12, 3)),  # an adapter's factor in the most square shape
        ((48, 2), True, (8, 12, 3)),
    ],
)
def test_directions_lie_in_the_subspace_and_are_as_long_as_a_gaussian(shape, reshape, expected):
    """Orthonormal bases; ``E‖u‖² = mn``, exactly: ``‖u‖² = (mn/r²) ‖Z‖²`` with a standard normal Z."""
    slot, space, basis = drawn(shape, reshape=reshape)
    m, n, r = expected
    assert (basis.U.shape, basis.V.shape) == ((m, r), (n, r))
    for side in (basis.U, basis.V):
        torch.testing.assert_close(side.T @ side, torch.eye(r, dtype=torch.float64), rtol=0, atol=1e-12)
    u, core = space.estimate(slot, Direction.ray(7)), space.draw(slot, 7)
    assert u.shape == shape
    torch.testing.assert_close(u.view(m, n), basis.U @ core @ basis.V.T, rtol=0, atol=1e-12)
    standard = random_subspace.Subspace.draw_core(space, slot, 7, basis)
    torch.testing.assert_close(u.square().sum(), m * n / r**2 * standard.square().sum())
    assert space.factor_rank(slot) == (None if reshape else r)
    assert space.largest_factor_rank(slot) == (None if reshape else r)


def test_the_most_square_shape_is_the_released_one():
    """The smaller factor first; a prime number of entries stays a row."""
    golden = {96: (8, 12), 48: (6, 8), 7: (1, 7), 36: (6, 6), 8 * 768: (64, 96)}
    assert {count: most_square(count) for count in golden} == golden


def test_a_matrix_with_a_side_of_one_counts_as_a_vector():
    for shape in ((1, 8), (8, 1), (8,)):
        slot = make_slots([("w", torch.zeros(shape))])[0]
        space = RandomSubspace(rank=3, reshape=True)
        space.refresh([slot], key=5)
        assert not space.bases
        assert space.dense(slot)


def mean_estimate(space, slot, G, monkeypatch):
    """``E[⟨G, u⟩ u]`` over Z, given the bases: by the points ``±√d e_i``, exact for polynomials of degree 3."""
    shape = space.bases[slot.name].core_shape(slot.param.shape)
    d = shape.numel()
    points = torch.cat([torch.eye(d), -torch.eye(d)]).double() * math.sqrt(d)
    total = torch.zeros_like(G)
    for z in points:
        monkeypatch.setattr(random_subspace.Subspace, "draw_core", lambda *_, z=z: z.view(shape).clone())
        space._held.clear()
        u = space.estimate(slot, Direction.ray(1))
        total += (G * u).sum() * u / len(points)
    monkeypatch.undo()
    return total


def test_the_mean_estimate_is_the_projected_gradient_times_the_squared_scale(monkeypatch):
    """``E ĝ = (mn/r²) UUᵀ G VVᵀ``, and G itself in the mean over the bases, or where the rank is full."""
    G = randn(6, 8)
    slot, space, basis = drawn()
    expected = 48 / 9 * basis.U @ basis.U.T @ G @ basis.V @ basis.V.T
    torch.testing.assert_close(mean_estimate(space, slot, G, monkeypatch), expected, rtol=0, atol=1e-11)
    slot, space, _ = drawn((4, 4), rank=9)
    torch.testing.assert_close(mean_estimate(space, slot, G[:4, :4], monkeypatch), G[:4, :4], rtol=0, atol=1e-11)
    total = torch.zeros_like(G)
    for key in range(4000):
        U, V = haar_basis(slot, 2 * key, 6, 3), haar_basis(slot, 2 * key + 1, 8, 3)
        total += 48 / 9 * U @ (U.T @ G @ V) @ V.T / 4000
    assert float((total - G).norm() / G.norm()) < 0.1


def test_the_second_moment_exceeds_a_gaussians():
    """``E‖ĝ‖²/‖G‖² = mn(r²+2)/r²``, where ``‖UᵀGV‖²`` is its mean ``r²/(mn) ‖G‖²``: by 5·10⁴ draws."""
    m, n, r = 6, 8, 3
    H, Z = randn(r, r, seed=1), randn(50_000, r, r)
    scale = m * n / r**2
    squares = (scale * (Z * H).sum((1, 2))).square() * Z.square().sum((1, 2)) / (scale * H.square().sum())
    expected = m * n * (r**2 + 2) / r**2
    assert float(squares.mean()) == pytest.approx(expected, abs=5 * float(squares.std()) / math.sqrt(50_000))


def test_haar_bases_have_no_preferred_sign():
    """The mean of the columns is 0; without the sign of R's diagonal the first entry of Q is never positive."""
    (slot,) = make_slots([("w", torch.zeros(5, 2, dtype=torch.float64))])
    mean = sum(haar_basis(slot, key, 5, 2) for key in range(2000)) / 2000
    assert float(mean.abs().max()) < 4.5 / math.sqrt(5 * 2000)


# -- the algorithms ---------------------------------------------------------------------------------------------------


def problem_of():
    shapes = {"embed.weight": (7, 4), "layer.weight": (4, 6), "head.weight": (6, 1), "layer.bias": (6,)}
    weights = {name: randn(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}

    def loss():
        hidden = torch.tanh(weights["embed.weight"] @ weights["layer.weight"] + weights["layer.bias"])
        return (hidden @ weights["head.weight"] - 1).square().mean()

    return weights, loss


def test_steps_of_subzero_plus_by_dense_algebra():
    """K one-sided slopes at one point, and Adam on the cores, whose means stay through a refresh of the bases."""
    weights, loss = problem_of()
    method = SubZeroPlus(weights.items(), lr=0.05, probes=4, rank=2, interval=2, eps=1e-4, beta1=0.8)
    expected = {name: p.clone() for name, p in weights.items()}
    means = dict.fromkeys(weights, 0.0)
    squares = dict(means)
    for step in range(5):
        method.step(loss)
        base, *ahead = method.oracle.seen
        for slot in method.slots:
            cores = [method.space.draw(slot, method.keys(step, k)).double() for k in range(4)]
            g = sum((there - base) / 1e-4 * core / 4 for there, core in zip(ahead, cores, strict=True))
            means[slot.name] = 0.8 * means[slot.name] + 0.2 * g
            squares[slot.name] = 0.95 * squares[slot.name] + 0.05 * g * g
            m, v = means[slot.name] / (1 - 0.8 ** (step + 1)), squares[slot.name] / (1 - 0.95 ** (step + 1))
            core = m / (v.sqrt() + 1e-8)
            basis = method.space.bases.get(slot.name)
            expected[slot.name] -= 0.05 * (core if basis is None else basis.U @ core @ basis.V.T)
    assert method.space.renewals == 2
    worst = max(float((weights[name] - expected[name]).abs().max()) for name in weights)
    print(worst)
    assert worst < 1e-11


def test_the_first_step_of_subzero_plus_has_the_length_of_its_core():
    """Adam's first step is a sign in each of r² orthonormal coordinates: ``‖ΔW‖ = lr · r`` at any scale of the loss."""
    for scale in (1.0, 1e3):
        weights, loss = problem_of()
        before = weights["layer.weight"].clone()
        method = SubZeroPlus(weights.items(), lr=0.01, probes=3, rank=3)
        method.step(lambda loss=loss, scale=scale: scale * loss())
        assert float((weights["layer.weight"] - before).norm()) == pytest.approx(0.03, rel=1e-5)


def test_subzero_plus_with_sgd_and_one_query_is_a_one_sided_subzero():
    weights, loss = problem_of()
    start = {name: p.clone() for name, p in weights.items()}
    method = SubZeroPlus(weights.items(), lr=0.01, probes=1, rank=2, core_rule="sgd")
    method.step(loss)
    base, ahead = method.oracle.seen
    for slot in method.slots:
        u = method.space.estimate(slot, Direction.ray(method.keys(0)))
        torch.testing.assert_close(slot.param, start[slot.name] - 0.01 * (ahead - base) / 1e-3 * u, rtol=0, atol=1e-12)


def test_momentum_of_cores_is_dense_momentum_until_the_bases_change():
    found = []
    for rule in (Momentum(), CoreSpace(rule=Momentum())):
        weights, loss = problem_of()
        method = SubZero(weights.items(), lr=0.001, rank=2, interval=4, rule=rule)
        path = []
        for _ in range(6):
            method.step(loss)
            path.append(weights["layer.weight"].clone())
        found.append(path)
    off = [float((dense - core).abs().max()) for dense, core in zip(*found, strict=True)]
    assert max(off[:4]) < 1e-13
    assert min(off[4:]) > 1e-6  # the transport keeps what the old and the new subspace share


def test_only_vectors_are_those_of_mezo():
    """Without a matrix SubZero is MeZO, bit for bit."""
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(descended(MeZO, dtype), descended(SubZero, dtype))


def test_losses_that_tie_move_nothing():
    for make in (SubZero, SubZeroPlus):
        weights, _ = problem_of()
        before = {name: p.clone() for name, p in weights.items()}
        method = make(weights.items(), lr=1.0, interval=2, mode="exact")
        for _ in range(3):
            method.step(lambda weights=weights: weights["layer.bias"].sum() * 0 + 1.0)
        assert all(torch.equal(p, before[name]) for name, p in weights.items())


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (SubZero, {"rank": 0}, "rank=0"),
        (SubZero, {"interval": 0}, "interval=0"),
        (SubZero, {"embeddings": "none"}, "embeddings=none"),
        (SubZeroPlus, {"probes": 0}, "probes=0"),
        (SubZeroPlus, {"core_rule": "lion"}, "core_rule=lion"),
        (SubZeroPlus, {"beta2": 1.0}, "beta2=1.0"),
    ],
)
def test_bad_settings_are_named_in_one_line(make, settings, said):
    with pytest.raises(ValueError, match=said) as caught:
        make([("w", torch.zeros(3, 3))], lr=0.1, **settings)
    assert "\n" not in str(caught.value)


def test_the_rule_of_subzero_plus_is_adams():
    rule = SubZeroPlus([("w", torch.zeros(3, 3))], lr=0.1).rule
    assert isinstance(rule, CoreSpace)
    assert isinstance(rule.rule, Adam)
    assert (rule.rule.beta1, rule.rule.beta2) == (0.9, 0.95)
