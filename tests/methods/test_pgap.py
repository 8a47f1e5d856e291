"""P-GAP against its algorithm box and the identities of aligned low-rank directions."""

import math
from itertools import product

import pytest
import torch

from zobench.errors import ConfigError
from zobench.methods.mezo import MeZO
from zobench.methods.pgap import PGAP
from zobench.run.budget import total_steps
from zobench.zo import Direction, Gaussian, Oracle, make_slots, mix, noise
from zobench.zo.perturbations.aligned_subspace import AlignedSubspace, aligned
from zobench.zo.perturbations.bases import truncated_svd


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def fitted(dtype=torch.float64, shape=(24, 15), rank=5, delta=2.0, **options):
    """A slot and a space whose basis comes from a two-term gradient estimate."""
    slot = make_slots([("layer.weight", randn(*shape, dtype=dtype))])[0]
    space = AlignedSubspace(rank=rank, **options)
    space.fit([slot], Direction({11: 0.7, 12: -1.9}), key=3)
    space.delta = delta
    return slot, space, space.bases[slot.name]


def expectation(function, d):
    """``E f(z)`` for ``z ~ N(0, I_d)``: the 2d points ``±√d e_i``, exact for polynomials of degree 3."""
    points = math.sqrt(d) * torch.cat([torch.eye(d), -torch.eye(d)]).double()
    return function(points).mean(0)


# -- the core ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "core_dtype", "tolerance"),
    [
        (torch.float64, torch.float64, 1e-12),
        (torch.float32, torch.float32, 1e-5),
        (torch.bfloat16, torch.float32, 1e-5),
        (torch.bfloat16, torch.bfloat16, 2e-2),
    ],
    ids=["fp64", "fp32", "bf16 weights", "bf16 core"],
)
@pytest.mark.parametrize("delta", [0.0, 0.5, 2.0])
def test_alignment(weights, core_dtype, tolerance, delta):
    """``⟨S, Z⟩ = ξ √δ ‖S‖`` in the core and ``⟨U S Vᵀ, U Z Vᵀ⟩`` likewise in the matrix."""
    slot, space, basis = fitted(weights, delta=delta)
    U, S, V = (x.double() for x in (basis.U, basis.S, basis.V))
    for key in range(20):
        core = space.draw(slot, key).to(core_dtype).double()
        lifted = U @ core @ V.T
        target = space.sign(slot, key) * math.sqrt(delta)
        assert abs(float((S * core.diagonal()).sum() / S.norm()) - target) < tolerance * max(1.0, float(core.norm()))
        inner = float(((U * S) @ V.T * lifted).sum() / S.norm())
        assert abs(inner - target) < tolerance * max(1.0, float(lifted.norm()))
        if core_dtype is not torch.bfloat16:
            found = space.estimate(slot, Direction.ray(key))
            assert float((found.double() - lifted).norm()) < tolerance * float(lifted.norm())


@pytest.mark.parametrize(("shape", "rank"), [((60, 40), 6), ((8, 50), 8), ((50, 8), 128), ((7, 1), 3)])
def test_directions_stay_in_the_subspace(shape, rank):
    """In fp32; a LoRA factor is spanned whole along its short side."""
    slot, space, basis = fitted(torch.float32, shape, rank)
    r = min(rank, *shape)
    assert (basis.U.shape, basis.S.shape, basis.V.shape) == ((shape[0], r), (r,), (shape[1], r))
    for side in (basis.U, basis.V):
        torch.testing.assert_close(side.T @ side, torch.eye(r), rtol=0, atol=1e-5)
    z = space.estimate(slot, Direction.ray(5))
    assert float((z - basis.U @ (basis.U.T @ z)).norm()) < 1e-5 * float(z.norm())
    assert float((z - z @ basis.V @ basis.V.T).norm()) < 1e-5 * float(z.norm())
    assert int(torch.linalg.matrix_rank(z, rtol=1e-5)) <= r


def test_the_core_changes_along_the_gradient_only():
    """off the diagonal the Gaussian core is untouched, on it the change is a multiple of S."""
    slot, space, basis = fitted()
    r = len(basis.S)
    for key in range(5):
        before = noise.gaussian(key, slot.id, torch.Size((r, r)), torch.device("cpu")).double()
        change = space.draw(slot, key) - before
        assert torch.equal(change - torch.diag(change.diagonal()), torch.zeros(r, r, dtype=torch.float64))
        ratio = change.diagonal() / basis.S
        torch.testing.assert_close(ratio, ratio[:1].expand(r), rtol=1e-12, atol=0)


def test_a_matrix_without_gradient_keeps_the_gaussian_core():
    core = randn(4, 4)
    assert torch.equal(aligned(core, torch.zeros(4, dtype=torch.float64), 1.0), core)


@pytest.mark.parametrize("delta", [0.0, 2.0])
def test_norm(delta):
    """``E‖Z‖² = r² − 1 + δ``, sampled; not the constant r² of a Gaussian."""
    S = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    cores = aligned(randn(200_000, 4, 4), S, math.sqrt(delta))
    assert float(cores.square().sum((1, 2)).mean()) == pytest.approx(15 + delta, rel=0.01)


@pytest.mark.parametrize("delta", [0.0, 1.0, 2.0])
def test_covariance(delta):
    """``E[vec Z vec Zᵀ] = I + (δ−1) ŝŝᵀ``, by exact cubature over Z and both signs."""
    S = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)

    def outer(z):
        both = [aligned(z.view(-1, 3, 3), S, xi * math.sqrt(delta)).flatten(1) for xi in (1, -1)]
        return sum(v[:, :, None] * v[:, None, :] for v in both) / 2

    unit = torch.diag(S / S.norm()).flatten()
    expected = torch.eye(9, dtype=torch.float64) + (delta - 1) * torch.outer(unit, unit)
    torch.testing.assert_close(expectation(outer, 9), expected, rtol=0, atol=1e-12)


# -- the estimator ----------------------------------------------------------------------------------------------------

CORES = [(randn(3, 3, seed=i) * (1 + i), randn(3, seed=50 + i).abs() + 0.1) for i in range(5)]


def mean_estimates(cores, delta, signs):
    """``E[ρ Z_l]`` for ``ρ = Σ_m ⟨H_m, Z_m⟩``, by exact cubature over all cores at once and the given sign vectors."""
    shapes = [S.numel() for _, S in cores]

    def estimates(z):
        total = 0.0
        for xi in signs:
            parts = z.split([r * r for r in shapes], dim=1)
            Z = [
                aligned(part.view(-1, r, r), S, sign * math.sqrt(delta))
                for part, r, (_, S), sign in zip(parts, shapes, cores, xi, strict=True)
            ]
            rho = sum((H * z).sum((1, 2)) for (H, _), z in zip(cores, Z, strict=True))
            total = total + torch.stack([rho[:, None, None] * z for z in Z], dim=1) / len(signs)
        return total

    return expectation(estimates, sum(r * r for r in shapes))


def kept(H, S, delta):
    """The mean of one matrix's estimate, ``H + (δ−1) ⟨H, Ŝ⟩ Ŝ``."""
    unit = torch.diag(S / S.norm())
    return H + (delta - 1) * (H * unit).sum() * unit


@pytest.mark.parametrize("delta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("signs", [[(1,)], [(1,), (-1,)]], ids=["fixed", "random"])
def test_mean_of_one_matrix(delta, signs):
    """δ = 1 leaves the subspace's gradient unbiased, 0 removes its aligned part, 2 doubles it."""
    H, S = CORES[0]
    mean = mean_estimates([(H, S)], delta, signs)[0]
    torch.testing.assert_close(mean, kept(H, S, delta), rtol=0, atol=1e-12)
    unit = torch.diag(S / S.norm())
    assert float((mean * unit).sum()) == pytest.approx(delta * float((H * unit).sum()), abs=1e-12)
    exact = mean_estimates([(torch.diag(S), S)], delta, signs)[0]
    torch.testing.assert_close(exact, delta * torch.diag(S), rtol=0, atol=1e-12)


def test_mean_of_one_matrix_sampled():
    """In the matrix: a linear loss ``⟨G, W⟩`` at 2·10⁵ sampled directions."""
    _, _, basis = fitted(shape=(9, 6), rank=3)
    G = randn(9, 6, seed=1) + (basis.U * basis.S) @ basis.V.T
    Z = torch.cat([aligned(randn(100_000, 3, 3, seed=3 + xi), basis.S, xi * math.sqrt(2.0)) for xi in (1, -1)])
    rho = ((basis.U @ Z @ basis.V.T) * G).sum((1, 2))
    mean = (rho[:, None, None] * Z).mean(0)
    expected = kept(basis.U.T @ G @ basis.V, basis.S, 2.0)
    assert float((mean - expected).norm()) < 0.01 * float(expected.norm())


def test_cross_matrix_bias():
    """independent signs leave each matrix alone; a common or fixed sign adds ``δ Ŝ_l Σ_{m≠l} ⟨H_m, Ŝ_m⟩``."""
    delta = 2.0
    aligned_part = torch.stack([(H.diagonal() * S / S.norm()).sum() for H, S in CORES])
    alone = torch.stack([kept(H, S, delta) for H, S in CORES])
    units = torch.stack([torch.diag(S / S.norm()) for _, S in CORES])
    bias = delta * units * (aligned_part.sum() - aligned_part)[:, None, None]
    independent = mean_estimates(CORES, delta, list(product((1, -1), repeat=5)))
    torch.testing.assert_close(independent, alone, rtol=0, atol=1e-11)
    for signs in ([(1,) * 5, (-1,) * 5], [(1,) * 5]):
        torch.testing.assert_close(mean_estimates(CORES, delta, signs), alone + bias, rtol=0, atol=1e-11)
    exact = [(torch.diag(S / S.norm()), S) for _, S in CORES]
    sizes = [
        float(mean_estimates(exact, delta, signs)[0].norm())
        for signs in (list(product((1, -1), repeat=5)), [(1,) * 5, (-1,) * 5])
    ]
    assert sizes == pytest.approx([2.0, 10.0], rel=1e-12)


def test_signs_are_drawn_in_their_scope():
    """Per matrix: fair and independent between matrices and keys. Common: one sign per key. Fixed: +1."""
    slots = make_slots([(f"layer.{i}.weight", torch.zeros(2, 2)) for i in range(5)])
    keys = [mix(9, step) for step in range(20_000)]
    drawn = {}
    for scope in ("per_matrix", "common", "fixed"):
        space = AlignedSubspace(rank=2, sign=scope)
        drawn[scope] = torch.tensor([[space.sign(slot, key) for slot in slots] for key in keys]).double()
        assert set(drawn[scope].unique().tolist()) <= {-1.0, 1.0}
    x = drawn["per_matrix"]
    assert float((x.T @ x / len(keys) - torch.eye(5)).abs().max()) < 5 / math.sqrt(len(keys))
    for column in (*x.T, drawn["common"][:, 0]):
        assert float(column.mean().abs()) < 5 / math.sqrt(len(keys))
        assert float((column[1:] * column[:-1]).mean().abs()) < 5 / math.sqrt(len(keys))
    assert bool((drawn["common"] == drawn["common"][:, :1]).all())
    assert bool((drawn["fixed"] == 1).all())


def test_probe_quality():
    """with few probes the basis holds r²/(mn) of the true gradient's energy, as much as a random one."""
    shares, cosines = {"probes": [], "random": []}, []
    for seed, basis in product(range(6), shares):
        W, G = torch.zeros(256, 256), randn(256, 256, seed=seed, dtype=torch.float32)
        loss = lambda W=W, G=G: (G.double() * W).sum()  # noqa: E731
        method = PGAP([("w", W)], lr=0.0, seed=seed, rank=32, delta_end=2.0, basis=basis)
        method.step(loss)
        shares[basis].append(float(method.space.captured(method.slots[0], G)))
        if basis == "probes":
            found = replayed_gradient(method, G.double(), 0)
            cosines.append(float((found * G).sum() / found.norm() / G.norm()))
    assert sum(shares["random"]) / 6 == pytest.approx(32**2 / 256**2, rel=0.1)
    assert sum(shares["probes"]) / 6 == pytest.approx(32**2 / 256**2, rel=0.1)
    assert sum(cosines) / 6 == pytest.approx((1 + 65537 / 10) ** -0.5, abs=3 / 256 / math.sqrt(6))


def test_probe_quality_with_many_probes():
    """Where probes tell something: ``cos(Ĝ, G) ≈ (1 + (D+1)/h)^(−1/2)``."""
    cosines = []
    for seed in range(40):
        W, G = torch.zeros(16, 16), randn(16, 16, seed=seed)
        method = PGAP([("w", W)], lr=0.0, seed=seed, probes=200, delta_end=2.0)
        found = replayed_gradient(method, G, 0)
        cosines.append(float((found * G).sum() / found.norm() / G.norm()))
    assert sum(cosines) / 40 == pytest.approx((1 + 257 / 200) ** -0.5, rel=0.02)


def replayed_gradient(method, G, step):
    """``Ĝ`` of a linear loss, from the probes' keys alone."""
    slot = method.slots[0]
    probes = [
        noise.gaussian(method.keys(step, j, "dense probe"), slot.id, slot.param.shape, slot.param.device).double()
        for j in range(method.probes)
    ]
    return sum((G * q).sum() * q for q in probes) / method.probes


# -- the algorithm ----------------------------------------------------------------------------------------------------


class Quadratic:
    """A loss on a matrix, an embedding, a tensor of three axes and a bias; quartic, so that ε matters."""

    def __init__(self, dtype=torch.float64):
        shapes = {"layer.weight": (12, 7), "embed.weight": (9, 6), "conv.weight": (3, 2, 2), "layer.bias": (5,)}
        self.parameters = {name: randn(*s, seed=i, dtype=dtype) for i, (name, s) in enumerate(shapes.items())}
        self.targets = {name: randn(*s, seed=10 + i) for i, (name, s) in enumerate(shapes.items())}

    def loss(self, step=0, parameters=None):
        gaps = [p.double() - self.targets[n] for n, p in (parameters or self.parameters).items()]
        return sum((1 + 0.1 * step) * gap.square().mean() + 0.01 * gap.pow(4).sum() for gap in gaps)


def by_hand(problem, *, steps, total, lr, eps, rank, refresh, probes, seed, method):
    """The algorithm box in dense linear algebra, with every perturbation held as a full tensor."""
    slots = {slot.name: slot for slot in method.slots}
    theta = {name: p.clone() for name, p in problem.parameters.items()}

    def gaussian(name, key, shape):
        return noise.gaussian(key, slots[name].id, torch.Size(shape), torch.device("cpu")).double()

    def rho(u, t):
        ends = [problem.loss(t, {n: p + s * eps * u[n] for n, p in theta.items()}) for s in (1, -1)]
        return float(ends[0] - ends[1]) / (2 * eps)

    bases = {}
    for t in range(steps):
        if t % refresh == 0:
            estimate = {name: torch.zeros_like(p) for name, p in theta.items()}
            for j in range(probes):
                q = {n: gaussian(n, method.keys(t, j, "dense probe"), p.shape) for n, p in theta.items()}
                weight = rho(q, t) / probes
                estimate = {n: e + weight * q[n] for n, e in estimate.items()}
            for name in ("layer.weight", "embed.weight"):
                U, S, Vh = torch.linalg.svd(estimate[name])
                for i in range(rank):
                    if U[U[:, i].abs().argmax(), i] < 0:
                        U[:, i], Vh[i] = -U[:, i], -Vh[i]
                bases[name] = U[:, :rank], torch.diag(S[:rank]), Vh[:rank].T
        delta, key, u = 2 * (1 - t / total), method.keys(t), {}
        for name, p in theta.items():
            if name in bases:
                U, S, V = bases[name]
                Z = gaussian(name, key, (rank, rank))
                xi = method.space.sign(slots[name], key)
                alpha = ((S * Z).sum() - xi * math.sqrt(delta) * S.norm()) / S.norm() ** 2
                u[name] = U @ (Z - alpha * S) @ V.T
            else:
                u[name] = gaussian(name, key, p.shape)
        step = lr * rho(u, t)
        theta = {n: p - step * u[n] for n, p in theta.items()}
    return theta


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_steps_by_hand(mode):
    """Five steps with three refreshes equal the algorithm box in dense linear algebra."""
    settings = {"lr": 3e-2, "eps": 1e-2, "rank": 3, "refresh": 2, "probes": 3, "seed": 4}
    problem, start = Quadratic(), Quadratic()
    method = PGAP(problem.parameters.items(), total_steps=8, mode=mode, **settings)
    for t in range(5):
        method.step(lambda t=t: problem.loss(t))
    expected = by_hand(start, steps=5, total=8, method=method, **settings)
    for name, p in problem.parameters.items():
        assert float((p - start.parameters[name]).abs().max()) > 1e-3
        torch.testing.assert_close(p, expected[name], rtol=0, atol=1e-10)


def run(problem, method, steps):
    for _ in range(steps):
        method.step(lambda: problem.loss(method.t))


@pytest.mark.parametrize(("steps", "refresh", "probes"), [(23, 5, 3), (20, 5, 1), (4, 100, 10)])
def test_cost(steps, refresh, probes):
    """``2T + 2h⌈T/k⌉`` losses, declared and counted."""
    problem = Quadratic()
    method = PGAP(problem.parameters.items(), lr=1e-3, rank=2, refresh=refresh, probes=probes, total_steps=steps)
    calls = []
    for _ in range(steps):
        method.step(lambda: calls.append(0) or problem.loss())
    cost = 2 * steps + 2 * probes * math.ceil(steps / refresh)
    assert len(calls) == method.oracle.forwards == sum(map(method.forwards_at, range(steps))) == cost


def test_cost_of_the_other_readings():
    problem = Quadratic()
    random = PGAP(problem.parameters.items(), lr=1e-3, refresh=2, basis="random", total_steps=9)
    late = PGAP(problem.parameters.items(), lr=1e-3, refresh=4, refresh_from=4, probes=3, total_steps=9)
    for method, cost in ((random, 18), (late, 18 + 2 * 6)):
        run(problem, method, 9)
        assert method.oracle.forwards == sum(map(method.forwards_at, range(9))) == cost


@pytest.mark.parametrize(
    ("steps", "forwards", "total"),
    [
        (None, 22, 1),
        (None, 220, 100),
        (None, 239, 100),
        (None, 242, 101),
        (50, 10_000, 50),
        (7, None, 7),
    ],
)
def test_a_budget_in_forward_passes_pays_for_the_probes(steps, forwards, total):
    method = PGAP([("w", torch.zeros(2, 2))], lr=0.0)
    assert total_steps(steps, forwards, method) == total


def test_a_budget_below_the_first_step_is_refused():
    method = PGAP([("w", torch.zeros(2, 2))], lr=0.0)
    with pytest.raises(ConfigError, match="forwards=21: one step of this method takes 22"):
        total_steps(None, 21, method)


def test_a_constant_budget_is_as_before():
    method = MeZO([("w", torch.zeros(2, 2))], lr=0.0, probes=3)
    assert total_steps(None, 40_000, method) == 6666


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_walk_restores_the_weights(mode):
    """+1, −2, +1 along a subspace direction, in fp32."""
    slot, space, _ = fitted(torch.float32)
    before = slot.param.clone()
    oracle = Oracle([slot], space, mode)
    oracle.begin(lambda: slot.param.sum())
    z = Direction.ray(8)
    first = oracle.losses([z * 1e-2, z * -1e-2])
    assert first[0] != first[1]
    oracle.settle()
    torch.testing.assert_close(slot.param, before, rtol=0, atol=0 if mode == "exact" else 1e-6)


def test_delta_falls_linearly():
    problem = Quadratic()
    method = PGAP(problem.parameters.items(), lr=0.0, refresh=50, probes=1, total_steps=8)
    found = []
    for _ in range(10):
        method.step(problem.loss)
        found.append(method.oracle.notes["delta"])
    assert found == pytest.approx([2 * max(0.0, 1 - t / 8) for t in range(10)], abs=1e-15)
    assert method.space.delta == 0.0


def test_a_falling_delta_needs_the_length_of_the_run():
    problem = Quadratic()
    with pytest.raises(ValueError, match="needs total_steps"):
        PGAP(problem.parameters.items(), lr=0.0).step(problem.loss)
    constant = PGAP(problem.parameters.items(), lr=0.0, probes=1, delta_end=2.0)
    constant.step(problem.loss)
    assert constant.oracle.notes["delta"] == 2.0


@pytest.mark.parametrize(
    ("embeddings", "in_subspace"),
    [("subspace", {"layer.weight", "embed.weight"}), ("gaussian", {"layer.weight"})],
)
@pytest.mark.parametrize("basis", ["probes", "random"])
def test_which_tensors_have_a_subspace(embeddings, in_subspace, basis):
    """Matrices, and embeddings if asked; vectors and tensors of more axes are perturbed as MeZO perturbs them."""
    problem = Quadratic()
    options = {"lr": 0.0, "rank": 2, "probes": 1, "total_steps": 9, "seed": 3}
    method = PGAP(problem.parameters.items(), embeddings=embeddings, basis=basis, **options)
    method.step(problem.loss)
    assert set(method.space.bases) == in_subspace
    assert method.state_bytes() == sum(8 * 2 * (sum(slot.param.shape) + 1) for slot in matrices(method))
    for slot in method.slots:
        u = method.perturbation.estimate(slot, Direction.ray(77))
        gaussian = Gaussian().estimate(slot, Direction.ray(77))
        if slot.name in in_subspace:
            assert int(torch.linalg.matrix_rank(u)) <= 2
        else:
            assert torch.equal(u, gaussian)


def matrices(method):
    return [slot for slot in method.slots if slot.name in method.space.bases]


def test_before_the_first_refresh_a_step_is_mezos():
    one, two = Quadratic(), Quadratic()
    run(one, PGAP(one.parameters.items(), lr=1e-2, eps=1e-2, refresh_from=3, total_steps=9, seed=6), 3)
    run(two, MeZO(two.parameters.items(), lr=1e-2, eps=1e-2, seed=6), 3)
    for name, p in one.parameters.items():
        assert torch.equal(p, two.parameters[name])


def test_random_bases_are_orthonormal_renewed_and_blind():
    """The ablation: new at each refresh, equal singular values, and the same whatever the loss."""
    problem, other = Quadratic(), Quadratic()
    options = {"lr": 1e-2, "rank": 3, "refresh": 2, "basis": "random", "total_steps": 9}
    method, blind = PGAP(problem.parameters.items(), **options), PGAP(other.parameters.items(), **options)
    seen = []
    for _ in range(3):
        method.step(problem.loss)
        blind.step(lambda: 2 + other.parameters["layer.bias"].sum())
        for name, basis in method.space.bases.items():
            assert torch.equal(basis.U, blind.space.bases[name].U)
            for side in (basis.U, basis.V):
                torch.testing.assert_close(side.T @ side, torch.eye(3).double(), rtol=0, atol=1e-12)
            assert torch.equal(basis.S, torch.ones(3).double())
        seen.append(method.space.bases["layer.weight"].U)
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[1], seen[2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("stop", [3, 4, 5])
def test_resume_inside_and_between_windows(dtype, mode, stop):
    """Bit for bit, with refreshes before and after the stop."""
    options = {"lr": 1e-2, "rank": 3, "refresh": 4, "probes": 2, "total_steps": 10, "mode": mode}
    whole, part = Quadratic(dtype), Quadratic(dtype)
    run(whole, PGAP(whole.parameters.items(), **options), 10)
    first = PGAP(part.parameters.items(), **options)
    run(part, first, stop)
    state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in first.state_dict().items()}
    rest = PGAP(part.parameters.items(), **options)
    rest.load_state_dict(state)
    again = rest.state_dict()
    assert set(again) == set(state)
    assert all(torch.equal(torch.as_tensor(again[k]), torch.as_tensor(v)) for k, v in state.items())
    run(part, rest, 10 - stop)
    for name, p in whole.parameters.items():
        assert torch.equal(p, part.parameters[name])
        assert not torch.equal(p, Quadratic(dtype).parameters[name])


def test_draws_are_pure():
    """A draw hangs on key, slot and frozen state: not on other draws, the global generator or the thread count."""
    slot, space, _ = fitted(torch.float32)
    first = space.draw(slot, 5)
    space.draw(slot, 6)
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    again = space.draw(slot, 5)
    torch.set_num_threads(threads)
    assert torch.equal(again, first)
    assert not torch.equal(space.draw(slot, 6), first)


def test_the_lift_is_linear():
    slot, space, _ = fitted()
    a, b = space.draw(slot, 1), space.draw(slot, 2)
    together, apart = torch.zeros_like(slot.param), torch.zeros_like(slot.param)
    space.add_(slot, 2 * a - 3 * b, together, 0.5)
    space.add_(slot, a, apart, 1.0)
    space.add_(slot, b, apart, -1.5)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-13)


# -- the decomposition ------------------------------------------------------------------------------------------------


def product_of(basis):
    return (basis.U * basis.S) @ basis.V.T


def test_randomised_svd_is_exact_on_low_rank():
    matrix = randn(80, 6, seed=1) @ randn(6, 60, seed=2)
    basis = truncated_svd(matrix, 6, key=1)
    torch.testing.assert_close(product_of(basis), matrix, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("shape", "rank"), [((120, 90), 10), ((90, 120), 10), ((20, 15), 9)])
def test_randomised_svd_finds_a_decaying_spectrum(shape, rank):
    """Singular values halve; the leading triplets agree with the full decomposition, signs included."""
    U, V = (torch.linalg.qr(randn(n, min(shape), seed=n)).Q for n in shape)
    matrix = U * 2.0 ** -torch.arange(min(shape)).double() @ V.T
    fast, full = truncated_svd(matrix, rank, key=2), truncated_svd(matrix, rank, key=2, svd="full")
    torch.testing.assert_close(fast.S, full.S, rtol=1e-9, atol=0)
    torch.testing.assert_close(product_of(fast), product_of(full), rtol=0, atol=1e-8)
    torch.testing.assert_close(fast.U, full.U, rtol=0, atol=1e-6)


def test_randomised_svd_of_noise_keeps_most_energy():
    """On a flat spectrum, which is what few probes give, the subspace holds nearly the optimal energy."""
    matrix = randn(256, 200, seed=3)
    fast, full = truncated_svd(matrix, 32, key=2), truncated_svd(matrix, 32, key=2, svd="full")
    assert 0.9 < float(fast.S.norm() ** 2 / full.S.norm() ** 2) <= 1 + 1e-12


def test_singular_values_are_the_mean_probes():
    """At a refresh, S holds the leading singular values of Ĝ, and the note their share of ``‖Ĝ‖²``; later, no note."""
    W, G = torch.zeros(20, 12).double(), randn(20, 12)
    method = PGAP([("w", W)], lr=0.0, rank=4, total_steps=9)
    method.step(lambda: (G * W).sum())
    S = torch.linalg.svdvals(replayed_gradient(method, G, 0))
    torch.testing.assert_close(method.space.bases["w"].S, S[:4], rtol=1e-6, atol=0)
    share = float(S[:4].square().sum() / S.square().sum())
    assert method.oracle.notes["probe_energy_in_basis"] == pytest.approx(share, rel=1e-6)
    method.step(lambda: (G * W).sum())
    assert "probe_energy_in_basis" not in method.oracle.notes


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"eps": 0}, "eps=0: must be positive"),
        ({"rank": 0}, "rank=0: must be at least 1"),
        ({"refresh": 0}, "refresh=0: must be at least 1"),
        ({"probes": 0}, "probes=0: must be at least 1"),
        ({"refresh_from": -1}, "refresh_from=-1: must be 0 or positive"),
        ({"delta_start": -1.0}, "delta_start=-1.0: must be 0 or positive"),
        ({"delta_end": float("nan")}, "delta_end=nan: must be 0 or positive"),
        ({"sign": "both"}, "sign=both: expected one of per_matrix, common, fixed"),
        ({"basis": "svd"}, "basis=svd: expected one of probes, random"),
        ({"embeddings": "none"}, "embeddings=none: expected one of subspace, gaussian"),
        ({"svd": "fast"}, "svd=fast: expected one of randomized, full"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        PGAP([("w", torch.zeros(2, 2))], lr=0.0, **setting)
