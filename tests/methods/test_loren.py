"""LOREN against its closed forms: square roots, scores, leave-one-out estimates, and whole steps by dense algebra."""

import math
from dataclasses import replace

import pytest
import torch

from zobench.methods.loren import LOREN
from zobench.zo import Direction, Momentum, leave_one_out, make_slots
from zobench.zo.perturbations.rank_one import RankOnePrecision

RHO = 0.1
F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def perturbation(slot, a, **switches):
    found = RankOnePrecision(**{"rho": RHO, "lr_cov": 1e-3, **switches})
    found.load_state_dict({f"a.{slot.name}": a.to(slot.param.dtype)})
    return found


def slot_of(*shape, dtype=F64):
    return make_slots([("layer.weight", torch.zeros(shape, dtype=dtype))])[0]


def lifted(p, slot, core):
    out = torch.zeros(slot.param.shape, dtype=slot.param.dtype)
    p.add_(slot, core, out, 1.0)
    return out


def operator(p, m, n):
    """The lift as an (mn, mn) matrix."""
    slot = slot_of(m, n)
    return torch.stack([lifted(p, slot, e.view(m, n)).flatten() for e in torch.eye(m * n, dtype=F64)])


def precision(a, rho=RHO):
    return rho * torch.eye(len(a), dtype=F64) + torch.outer(a, a)


def log_density(y, a):
    """Of rows N(0, H⁻¹), up to a constant."""
    h = precision(a)
    return 0.5 * len(y) * torch.logdet(h) - 0.5 * torch.einsum("mi,ij,mj->", y, h, y)


A12 = normal(12, seed=1) * 0.4


@pytest.mark.parametrize("root", ["principal", "reflected"])
@pytest.mark.parametrize("cov_scale", ["normalised", "inverse"])
def test_the_lift_is_a_square_root_of_the_covariance(root, cov_scale):
    slot = slot_of(12, 12)
    b = lifted(perturbation(slot, A12, root=root, cov_scale=cov_scale), slot, torch.eye(12, dtype=F64))
    factor = RHO if cov_scale == "normalised" else 1.0
    torch.testing.assert_close(b @ b, factor * precision(A12).inverse(), rtol=0, atol=1e-10)


def test_the_principal_root_is_the_positive_one_and_the_reflected_root_differs_along_a():
    slot, eye = slot_of(12, 12), torch.eye(12, dtype=F64)
    values, vectors = torch.linalg.eigh(RHO * precision(A12).inverse())
    principal = lifted(perturbation(slot, A12), slot, eye)
    torch.testing.assert_close(principal, vectors @ torch.diag(values.sqrt()) @ vectors.T, rtol=0, atol=1e-10)
    r = math.sqrt(RHO / (RHO + float(A12 @ A12)))
    reflected = lifted(perturbation(slot, A12, root="reflected"), slot, eye)
    torch.testing.assert_close(reflected @ A12, -r * A12, rtol=0, atol=1e-10)
    assert torch.linalg.matrix_norm(principal - reflected, 2) == pytest.approx(2 * r, abs=1e-10)


@pytest.mark.parametrize("root", ["principal", "reflected"])
@pytest.mark.parametrize("block", ["rowwise", "tiled"])
def test_blocks(block, root):
    """Row by row, the covariance is I ⊗ ρH⁻¹; tiled, it is ρ(ρI + ttᵀ)⁻¹ with ``t`` the repeated ``a``."""
    m, n = 3, 4
    a = normal(n, seed=2)
    b = operator(perturbation(slot_of(m, n), a, block=block, root=root), m, n)
    rowwise = torch.block_diag(*[RHO * precision(a).inverse()] * m)
    expected = rowwise if block == "rowwise" else RHO * precision(a.repeat(m)).inverse()
    torch.testing.assert_close(b @ b, expected, rtol=0, atol=1e-10)


def test_covariance_of_the_draws():
    m = 400_000
    slot = slot_of(m, 12)
    p = perturbation(slot, A12, root="reflected")
    w = p.estimate(slot, Direction.ray(7))
    covariance = RHO * precision(A12).inverse()
    variance = (torch.outer(covariance.diag(), covariance.diag()) + covariance.square()) / m
    assert ((w.T @ w / m - covariance).abs() / variance.sqrt()).max() < 5


def test_leave_one_out():
    losses = normal(6, seed=3).tolist()
    for k, weight in enumerate(leave_one_out(losses)):
        others = [loss for j, loss in enumerate(losses) if j != k]
        assert weight == pytest.approx((losses[k] - sum(others) / 5) / 6, abs=1e-12)


@pytest.mark.parametrize("root", ["principal", "reflected"])
def test_the_estimate_is_the_preconditioned_gradient(root):
    """E[g] = ρH⁻¹∇f on a quadratic."""
    steps, k, eps = 100_000, 6, 1e-3
    slot = slot_of(steps * k, 12)
    half = normal(12, 12, seed=4)
    q, x = half @ half.T / 12, normal(12, seed=5)
    w = perturbation(slot, A12, root=root).estimate(slot, Direction.ray(1))
    points = x + eps * w
    losses = 0.5 * torch.einsum("ni,ij,nj->n", points, q, points)
    excess = torch.tensor([leave_one_out(row) for row in losses.view(steps, k).tolist()], dtype=F64).view(-1)
    estimates = (excess[:, None] / eps * w).view(steps, k, 12).sum(1)
    expected = RHO * precision(A12).inverse() @ q @ x
    mean = estimates.mean(0)
    assert torch.cosine_similarity(mean, expected, dim=0) > 0.999
    assert ((mean - expected).abs() / (estimates.std(0) / math.sqrt(steps))).max() < 5


def released_formula(u, a, sign):
    """The released gradient of a tiled ``a``, rows summed, without its factor ε²; sign −1 is the principal root's."""
    t = a.repeat(len(u))
    flat, s = u.flatten(), t @ t
    root = (RHO + s).sqrt()
    along = t @ flat
    first = along * flat - t
    second = (sign * math.sqrt(RHO) + root) * (along**2 - s) * t / (s * root)
    return ((first - second) / root).view_as(u).sum(0)


@pytest.mark.parametrize(("root", "sign", "ratio"), [("reflected", 1, 1), ("principal", -1, -1)])
def test_released_gradient_of_a(root, sign, ratio):
    """It is √ρ times the score of the reflected root, and minus that with the principal root's signs."""
    u, a = normal(5, 4, seed=6), normal(4, seed=7)
    slot = slot_of(5, 4)
    p = perturbation(slot, a, block="tiled", root=root)
    y = (lifted(p, slot, u) / math.sqrt(RHO)).view(1, -1)
    variable = a.clone().requires_grad_(True)
    log_density(y, variable.repeat(5)).backward()
    torch.testing.assert_close(p.score(slot, u), variable.grad, rtol=0, atol=1e-9)
    torch.testing.assert_close(released_formula(u, a, sign), ratio * math.sqrt(RHO) * variable.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("cov_scale", ["normalised", "inverse"])
@pytest.mark.parametrize("root", ["principal", "reflected"])
def test_score_against_autograd_and_central_differences(root, cov_scale):
    u, a = normal(5, 4, seed=8), normal(4, seed=9)
    slot = slot_of(5, 4)
    p = perturbation(slot, a, root=root, cov_scale=cov_scale)
    y = lifted(p, slot, u) / (math.sqrt(RHO) if cov_scale == "normalised" else 1.0)
    variable = a.clone().requires_grad_(True)
    log_density(y, variable).backward()
    score = p.score(slot, u)
    torch.testing.assert_close(score, variable.grad, rtol=0, atol=1e-9)
    h = 1e-5
    for i, e in enumerate(torch.eye(4, dtype=F64) * h):
        difference = (log_density(y, a + e) - log_density(y, a - e)) / (2 * h)
        assert float(difference) == pytest.approx(float(score[i]), abs=1e-6)


def scores_of_rows(p, slot, core, a):
    """The score of each row on its own, held to the sum that ``score`` gives."""
    y = lifted(p, slot, core) / math.sqrt(RHO)
    rows = a / (RHO + a @ a) - y * (y @ a)[:, None]
    torch.testing.assert_close(p.score(slot, core), rows.sum(0), rtol=1e-8, atol=1e-6)
    return rows


def test_moments_of_the_score():
    """E[S] = 0 and E[SSᵀ] = s/(ρ+s)·H⁻¹ + aaᵀ/(ρ+s)², the Fisher information of a row."""
    n, rows = 6, 1_500_000
    a = normal(n, seed=10) * 0.5
    slot = slot_of(rows, n)
    p = perturbation(slot, a)
    scores = scores_of_rows(p, slot, p.draw(slot, 3).double(), a)
    s = a @ a
    fisher = s / (RHO + s) * precision(a).inverse() + torch.outer(a, a) / (RHO + s) ** 2
    assert (scores.mean(0) / (fisher.diag() / rows).sqrt()).abs().max() < 5
    found = scores.T @ scores / rows
    assert torch.linalg.matrix_norm(found - fisher) < 0.01 * torch.linalg.matrix_norm(fisher)


def test_the_gradient_of_a_at_a_minimiser():
    """E[A] = ∇_a ½ε²ρ·tr(QH⁻¹) at the minimiser of a quadratic; elsewhere the noise hides it."""
    n, k, steps, eps = 4, 6, 300_000, 1e-3
    half, a = normal(n, n, seed=11), normal(n, seed=12) * 0.5
    q = half @ half.T / n
    slot = slot_of(steps * k, n)
    p = perturbation(slot, a)
    core = p.draw(slot, 5).double()
    w = lifted(p, slot, core)
    losses = (0.5 * eps**2 * torch.einsum("ni,ij,nj->n", w, q, w)).view(steps, k)
    excess = ((losses - losses.mean(1, keepdim=True)) / (k - 1)).view(-1, 1)
    assert excess[:k, 0].tolist() == pytest.approx(leave_one_out(losses[0].tolist()), abs=1e-12)
    found = (excess * scores_of_rows(p, slot, core, a)).view(steps, k, n).sum(1)
    variable = a.clone().requires_grad_(True)
    (0.5 * eps**2 * RHO * torch.trace(q @ precision(variable).inverse())).backward()
    assert torch.cosine_similarity(found.mean(0), variable.grad, dim=0) > 0.98
    assert ((found.mean(0) - variable.grad).abs() / (found.std(0) / math.sqrt(steps))).max() < 5


def test_perturbing_forth_and_back_restores_the_weights():
    slot = make_slots([("layer.weight", normal(1024, 1024, seed=13).float() / 32)])[0]
    before = slot.param.clone()
    p = RankOnePrecision(rho=RHO, lr_cov=1e-3)
    p.move_(slot, Direction({1: 1e-3}))
    assert (slot.param - before).abs().max() > 1e-3
    p.move_(slot, Direction({1: -1e-3}))
    torch.testing.assert_close(slot.param, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("root", ["principal", "reflected"])
def test_no_curvature_is_plain_noise(root):
    """At a = 0 a draw is ``u`` for either root, and near it for the principal one."""
    slot, u = slot_of(5, 4), normal(5, 4, seed=14)
    assert torch.equal(lifted(perturbation(slot, torch.zeros(4), root=root), slot, u), u)
    small = lifted(perturbation(slot, torch.full((4,), 1e-9)), slot, u)
    torch.testing.assert_close(small, u, rtol=0, atol=1e-15)


class Repeating(LOREN):
    """Draws the same directions at every step."""

    def direction(self, query=0, purpose="probe"):
        return Direction.ray(1 + query)


def test_momentum_per_query_and_per_step():
    """On a linear loss with fixed directions: the same displacement per step in the end, 1/(1−β) times the estimate."""
    slope, displacements = normal(3, 4, seed=15), {}
    for per in ("step", "query"):
        x = torch.zeros(3, 4, dtype=F64)
        method = Repeating([("x", x)], lr=1.0, lr_cov=0.0, update_per=per, mode="exact")
        moves = []
        for _ in range(200):
            before = x.clone()
            method.step(lambda x=x: (slope * x).sum())
            moves.append(before - x)
        estimate = method.perturbation.estimate(method.slots[0], method.applied)
        torch.testing.assert_close(moves[-1], 10 * estimate, rtol=0, atol=1e-6)
        displacements[per] = [float((move * estimate).sum() / estimate.square().sum()) / 10 for move in moves]
    assert [d >= 0.9 for d in displacements["step"]].index(True) + 1 == 22
    assert [d >= 0.9 for d in displacements["query"]].index(True) + 1 <= 5


class Quadratic:
    """½|Aw − b|² over a matrix, an embedding and a vector, as one concatenated w."""

    def __init__(self, dtype=F64):
        self.tensors = {"layer.weight": normal(3, 4), "embed.weight": normal(2, 5, seed=1), "bias": normal(4, seed=2)}
        self.tensors = {name: tensor.to(dtype) for name, tensor in self.tensors.items()}
        self.a, self.b = normal(9, 26, seed=3), normal(9, seed=4)

    def loss(self, tensors=None):
        w = torch.cat([t.double().flatten() for t in (tensors or self.tensors).values()])
        return 0.5 * (self.a @ w - self.b).square().sum()


def dense_lift(u, a, block, root):
    """``W`` from the eigendecomposition of the covariance, the sign of the root along ``a`` set by hand."""
    rows = u.reshape(-1, len(a))
    if block == "tiled":
        rows, a = rows.reshape(1, -1), a.repeat(len(rows))
    values, vectors = torch.linalg.eigh(RHO * precision(a).inverse())
    b = vectors @ torch.diag(values.sqrt()) @ vectors.T
    if root == "reflected":
        r, unit = math.sqrt(RHO / float(RHO + a @ a)), a / a.norm()
        b = b - 2 * r * torch.outer(unit, unit)
    return (rows @ b).reshape(u.shape)


def dense_score(w, a, block):
    y = (w / math.sqrt(RHO)).reshape(-1, len(a))
    variable = a.clone().requires_grad_(True)
    density = log_density(y.reshape(1, -1), variable.repeat(len(y))) if block == "tiled" else log_density(y, variable)
    return torch.autograd.grad(density, variable)[0]


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_steps_by_dense_algebra(variant, mode):
    """Four steps recomputed from the drawn noise; ``lr_cov`` is so large that ``a`` moves visibly in both variants."""
    k, eps, lr, beta = 4, 1e-2, 1e-2, 0.9
    official = variant == "official"
    decay, lr_cov = (0.01, 20.0) if official else (0.3, 0.5)
    block, root = ("tiled", "reflected") if official else ("rowwise", "principal")
    problem, reference = Quadratic(), Quadratic().tensors
    settings = {} if official else {"weight_decay": decay}
    method = LOREN(
        problem.tensors.items(), variant=variant, lr=lr, eps=eps, probes=k, lr_cov=lr_cov, mode=mode, **settings
    )
    noise = {slot.name: [method.perturbation.draw(slot, method.keys(t, q)).double() for t in range(4) for q in range(k)]
             for slot in method.slots}  # fmt: skip
    a = {slot.name: method.curvature.a(slot).clone() for slot in method.slots}
    first = {name: vector.clone() for name, vector in a.items()}
    m = {name: torch.zeros_like(x) for name, x in reference.items()}

    def step_weights(name, g, keep):
        x = reference[name]
        m[name] = beta * m[name] + g if x.ndim > 1 else g
        x.mul_(keep if official or x.ndim > 1 else 1.0).sub_(lr * m[name])

    for t in range(4):
        losses = []
        for q in range(k):
            moved = {n: x + eps * dense_lift(noise[n][t * k + q], a[n], block, root) for n, x in reference.items()}
            losses.append(float(problem.loss(moved)))
        mean = sum(losses) / k
        excess = [(f - mean) / (k - 1) for f in losses]
        for name in reference:
            if official:
                for q in range(k):
                    w = dense_lift(noise[name][t * k + q], a[name], block, root)
                    step_weights(name, excess[q] / eps * w, 1 - lr * decay)
                    gradient = excess[q] * eps**2 * math.sqrt(RHO) * dense_score(w, a[name], block)
                    if reference[name].ndim == 1:
                        gradient = gradient.sum()
                    a[name] = (1 - lr_cov * decay) * a[name] - lr_cov * gradient
            else:
                w = [dense_lift(noise[name][t * k + q], a[name], block, root) for q in range(k)]
                step_weights(name, sum(e / eps * x for e, x in zip(excess, w, strict=True)), 1 - lr * decay)
                scores = [e * dense_score(x, a[name], block) for e, x in zip(excess, w, strict=True)]
                a[name] = a[name] - lr_cov * sum(scores)
        method.step(problem.loss)
    method.perturbation.begin(4, method.slots)
    for slot in method.slots:
        torch.testing.assert_close(slot.param, reference[slot.name], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(method.curvature.a(slot), a[slot.name], rtol=1e-9, atol=1e-9)
        assert (first[slot.name] - a[slot.name]).abs().max() > 1e-3


@pytest.mark.parametrize(("decay", "frozen"), [(0.0, True), (0.01, False)])
def test_the_official_a_never_moves_by_its_gradient(decay, frozen):
    """In fp32 the ε² in its step is below the resolution: only weight decay changes a bit of ``a``."""
    problem = Quadratic(torch.float32)
    method = LOREN(problem.tensors.items(), variant="official", lr=1e-3, weight_decay=decay, one_dim="row")
    method.step(problem.loss)
    before = {slot.name: method.curvature.a(slot).clone() for slot in method.slots}
    moved = []
    for _ in range(50):
        method.step(problem.loss)
        moved.append(method.oracle.notes["a_moved"])
    assert all(torch.equal(before[s.name], method.curvature.a(s)) for s in method.slots) == frozen
    assert (max(moved) == 0.0) == frozen


def test_a_learns_and_moves_between_steps_only():
    problem = Quadratic()
    method = LOREN(problem.tensors.items(), lr=0.0)
    method.step(problem.loss)
    before = [method.curvature.a(slot).clone() for slot in method.slots]
    assert method.oracle.notes["a_moved"] == 0.0
    assert before[0].tolist() == [float(x) for x in method.curvature.a(method.slots[0])]
    method.step(problem.loss)
    assert method.oracle.notes["a_moved"] > 0.9
    assert all(not torch.equal(b, method.curvature.a(slot)) for b, slot in zip(before, method.slots, strict=True))
    assert method.oracle.notes["loss_spread"] == pytest.approx(torch.tensor(method.oracle.seen, dtype=F64).std())


def test_iso_rloo_is_the_paper_without_curvature():
    """Equal to ``paper`` with ``a`` = 0 fixed, and one step is ``Σ e_k u_k / ε`` with Gaussian ``u``."""
    weights = []
    for variant in ("iso_rloo", "paper"):
        problem = Quadratic()
        method = LOREN(problem.tensors.items(), variant=variant, lr=1e-3, lr_cov=0.0, seed=3)
        if method.curvature:
            method.curvature.load_state_dict({f"a.{s.name}": 0 * method.curvature.a(s) for s in method.slots})
        start = problem.tensors["layer.weight"].clone()
        method.step(problem.loss)
        excess = leave_one_out(method.oracle.seen)
        draws = [method.perturbation.draw(method.slots[0], method.keys(0, q)).double() for q in range(6)]
        estimate = sum(e / 1e-3 * u for e, u in zip(excess, draws, strict=True))
        torch.testing.assert_close(problem.tensors["layer.weight"], start - 1e-3 * estimate, rtol=0, atol=1e-12)
        for _ in range(4):
            method.step(problem.loss)
        weights.append(problem.tensors)
    assert method.state_bytes() > 0
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=0, atol=1e-10)


def test_antithetic_pairs():
    """The estimate is the mean of central differences, exact on a quadratic; a linear loss says nothing about ``a``."""
    problem = Quadratic()
    slope = torch.autograd.functional.jacobian(
        lambda *x: problem.loss(dict(zip(problem.tensors, x, strict=True))), tuple(problem.tensors.values())
    )
    method = LOREN(problem.tensors.items(), lr=0.0, eps=0.1, probes=3, antithetic=True, mode="exact")
    method.step(problem.loss)
    assert method.oracle.forwards == method.forwards_per_step == 6
    rays = [Direction.ray(method.keys(0, q)) for q in range(3)]
    draws = [[method.perturbation.estimate(slot, ray) for slot in method.slots] for ray in rays]
    projections = [sum(float((g * x).sum()) for g, x in zip(slope, w, strict=True)) for w in draws]
    for i, slot in enumerate(method.slots):
        expected = sum(p * w[i] for p, w in zip(projections, draws, strict=True)) / 3
        torch.testing.assert_close(method.perturbation.estimate(slot, method.applied), expected, rtol=0, atol=1e-9)
    noise = []
    for antithetic in (False, True):
        method = LOREN(problem.tensors.items(), lr=0.0, antithetic=antithetic)
        method.step(lambda: sum((g * x).sum() for g, x in zip(slope, problem.tensors.values(), strict=True)))
        noise.append(max(abs(w) for w in method.curvature.observed.values()))
    assert noise[1] < 1e-9 * noise[0]


def test_vectors():
    """One row, a shift of all entries alike, or no curvature; momentum on request only."""
    slot = make_slots([("bias", torch.zeros(5, dtype=F64))])[0]
    u, a = normal(5, seed=20), normal(5, seed=21)
    moves = {}
    for one_dim in ("row", "scalar_shift"):
        p = perturbation(slot, a, one_dim=one_dim, lr_cov=1.0)
        torch.testing.assert_close(lifted(p, slot, u), dense_lift(u, a, "rowwise", "principal"), rtol=0, atol=1e-10)
        p.observe(Direction({4: 0.5}))
        p.begin(1, [slot])
        moves[one_dim] = p.a(slot) - a
    score = perturbation(slot, a).score(slot, p.draw(slot, 4))
    torch.testing.assert_close(moves["row"], -0.5 * score, rtol=0, atol=1e-12)
    torch.testing.assert_close(moves["scalar_shift"], -0.5 * score.sum().expand(5), rtol=0, atol=1e-12)
    assert torch.equal(lifted(perturbation(slot, a, one_dim="isotropic"), slot, u), u)
    for vector_momentum, held in ((False, {"layer.weight", "embed.weight"}), (True, set(Quadratic().tensors))):
        method = LOREN(Quadratic().tensors.items(), lr=0.0, rule=Momentum(beta=0.5), vector_momentum=vector_momentum)
        method.step(lambda: 0.0)
        assert {key.removeprefix("rule.m.") for key in method.state_dict() if key.startswith("rule")} == held


@pytest.mark.parametrize("shape", [(), (7,), (8, 3), (8, 200), (4, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
def test_every_shape_and_dtype(shape, dtype):
    slot = slot_of(*shape, dtype=dtype)
    p = RankOnePrecision(rho=RHO, lr_cov=1e-3)
    p.observe(Direction({1: 0.1}))
    p.begin(0, [slot])
    p.move_(slot, Direction({1: 1.0}))
    n = slot.param.numel() // (slot.param.shape[0] if slot.param.ndim > 1 else 1)
    assert p.a(slot).shape == (n,)
    assert p.a(slot).dtype == (F64 if dtype == F64 else torch.float32)
    expected = dense_lift(p.draw(slot, 1).double(), p.a(slot).double(), "rowwise", "principal")
    atol = {F64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(slot.param.double(), expected, rtol=0, atol=atol)


def test_a_switch_wins_over_the_variant():
    given = LOREN([("x", torch.zeros(2))], lr=0.1, variant="official", root="principal", weight_decay=0.0)
    assert given.switches == replace(LOREN.variants["official"], root="principal", weight_decay=0.0)
    assert LOREN([("x", torch.zeros(2))], lr=0.1, variant="official").weight_decay == 0.01


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"variant": "offical"}, r"variant=offical: expected one of paper, official, iso_rloo"),
        ({"block": "rows"}, r"block=rows: expected one of rowwise, tiled, none"),
        ({"cov_scale": "h"}, r"cov_scale=h: expected one of normalised, inverse"),
        ({"probes": 1}, r"probes=1: must be at least 2"),
        ({"rho": 0.0}, r"rho=0.0: must be positive"),
        ({"weight_decay": -1.0}, r"weight_decay=-1.0: must be 0 or positive"),
    ],
)
def test_bad_settings(bad, message):
    with pytest.raises(ValueError, match=message):
        LOREN([("x", torch.zeros(2))], lr=0.1, **bad)
