"""KerZOO against closed forms: moments of its kernels, bias and variance of its estimator, and dense recomputation."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss

from zobench.methods.kerzoo import KerZOO
from zobench.methods.mezo import MeZO
from zobench.testing.problem import Problem
from zobench.zo import SGD, Adam, Gaussian, Perturbation, make_slots
from zobench.zo.perturbations.smoothing import Kernel, KernelSchedule
from zobench.zo.perturbations.stored import Stored
from zobench.zo.perturbations.tensor_radii import TensorRadii
from zobench.zo.rules import ClipNorm, PrimalAveraging

TAUS = (1.0, 0.9, 0.75, 0.5, 0.1)


def expectation(f, tau=1.0):
    """E f(r) for r ~ U[−τ, τ]; exact for polynomials up to degree 39."""
    nodes, weights = leggauss(20)
    return float(np.sum(weights / 2 * f(tau * nodes)))


# Moments of the kernels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "moments", "second", "noise"),
    [
        (Kernel(1), (1, 3 / 5, 3 / 7), 3, 9 / 5),
        (Kernel(3), (1, 0, -5 / 21), 75 / 4, 25 / 4),
        (Kernel(5), (1, 0, 0), 3675 / 64, 11025 / 832),
        (Kernel(5, scale=13 / 7), (13 / 7, 0, 0), 12675 / 64, 2925 / 64),
    ],
    ids=["3r", "order 3", "order 5", "as printed"],
)
def test_kernel_moments(kernel, moments, second, noise):
    """E[rK], E[r³K], E[r⁵K], E[K²] and E[(rK)²], and the closed form of the first three."""
    for p, exact in zip((1, 3, 5), moments, strict=True):
        assert expectation(lambda r, p=p: r**p * kernel(r)) == pytest.approx(exact, abs=1e-12)
        assert kernel.moment(p) == pytest.approx(exact, abs=1e-12)
    assert expectation(lambda r: kernel(r) ** 2) == pytest.approx(second, rel=1e-12)
    assert expectation(lambda r: (r * kernel(r)) ** 2) == pytest.approx(noise, rel=1e-12)


def test_the_polynomials_are_the_papers():
    """Written out as in the paper; the coefficient printed in the literature, 195/64, is 13/7 times the normalised."""
    r = np.linspace(-1, 1, 101)
    np.testing.assert_allclose(Kernel(1, 2.0)(r), 2 * 3 * r, atol=1e-12)
    np.testing.assert_allclose(Kernel(3, 2.0)(r), 2 * 15 / 4 * r * (5 - 7 * r**2), atol=1e-12)
    printed = 195 / 64 * r * (99 * r**4 - 126 * r**2 + 35)
    np.testing.assert_allclose(Kernel(5, 13 / 7)(r), printed, atol=1e-12)
    assert expectation(lambda r: r * 195 / 64 * r * (99 * r**4 - 126 * r**2 + 35)) == pytest.approx(13 / 7, abs=1e-12)


# Radii ----------------------------------------------------------------------------------------------------------------


def test_some_steps_go_against_the_measured_direction():
    """r K(r) < 0 exactly where |r| > √(5/7): with probability 0.15485."""
    kernel = Kernel(3)
    grid = np.linspace(-1, 1, 1_000_001)
    negative = grid * kernel(grid) < 0
    assert np.array_equal(negative, np.abs(grid) > math.sqrt(5 / 7))
    assert negative.mean() == pytest.approx(0.15485, abs=1e-4)
    drawn = np.array([kernel.radius(key) for key in range(20_000)])
    assert (drawn * kernel(drawn) < 0).mean() == pytest.approx(0.15485, abs=1e-2)


def test_radii_are_uniform_and_independent_of_the_noise():
    """Mean, variance and fourth moment of U[−τ, τ]; no correlation with the direction or between tensors."""
    n, tau = 20_000, 0.5
    kernel, slot = Kernel(3, tau=tau), make_slots([("w", torch.zeros(1))])[0]
    r = np.array([kernel.radius(key) for key in range(n)]) / tau
    other = np.array([kernel.radius(key, 7) for key in range(n)]) / tau
    z = np.array([float(Gaussian().draw(slot, key)) for key in range(n)])
    assert np.abs(r).max() <= 1
    assert abs(r.mean()) < 4 * math.sqrt(1 / 3 / n)
    assert abs((r**2).mean() - 1 / 3) < 4 * math.sqrt((1 / 5 - 1 / 9) / n)
    assert abs((r**4).mean() - 1 / 5) < 4 * math.sqrt((1 / 9 - 1 / 25) / n)
    for independent in (other, z):
        scale = independent.std() * r.std()
        assert abs((r * independent).mean()) < 4 * scale / math.sqrt(n)
        assert abs(np.corrcoef(r**2, independent**2)[0, 1]) < 4 / math.sqrt(n)


# Variance of the estimator --------------------------------------------------------------------------------------------


def test_the_price_in_variance():
    """On a linear loss E‖ĝ‖² = C² E[(rK)²] (d+2) ‖g‖²: 6.25 times MeZO's."""
    n, d, scale = 400_000, 20, 2.0
    kernel, slot = Kernel(3, scale), make_slots([("w", torch.zeros(n, d))])[0]
    u = Gaussian().draw(slot, 1).double()
    r = torch.tensor([kernel.radius(key) for key in range(n)], dtype=torch.float64)
    g = torch.linspace(-1, 1, d, dtype=torch.float64)
    mezo = (u @ g).square() * u.square().sum(1)
    assert float(mezo.mean()) == pytest.approx(float((d + 2) * g @ g), rel=0.02)
    ours = (r * kernel(r)).square() * mezo
    assert float(ours.mean()) == pytest.approx(scale**2 * 6.25 * float((d + 2) * g @ g), rel=0.02)


# Bias of the estimator ------------------------------------------------------------------------------------------------


def gauss(dimensions):
    """Nodes and weights for dimensions independent N(0, 1)."""
    x, w = hermegauss(8)
    nodes = np.stack(np.meshgrid(*[x] * dimensions, indexing="ij"), -1).reshape(-1, dimensions)
    weights = np.stack(np.meshgrid(*[w] * dimensions, indexing="ij"), -1).reshape(-1, dimensions).prod(-1)
    return nodes, weights / weights.sum()


def estimator_mean(f, x, eps, kernel, shared=True):
    """E of the two-point estimate at x, by quadrature over u and over one r, or over one r per coordinate."""
    u, wu = gauss(len(x))
    nodes, weights = leggauss(8)
    r = np.stack(np.meshgrid(*[nodes] * len(x), indexing="ij"), -1).reshape(-1, len(x)) * kernel.tau
    wr = np.stack(np.meshgrid(*[weights / 2] * len(x), indexing="ij"), -1).reshape(-1, len(x)).prod(-1)
    if shared:
        r, wr = np.repeat(nodes[:, None] * kernel.tau, len(x), 1), weights / 2
    step = eps * r[:, None] * u[None]
    c = (f(*np.moveaxis(x + step, -1, 0)) - f(*np.moveaxis(x - step, -1, 0))) / (2 * eps)
    return np.einsum("r,u,ru,ri,ui->i", wr, wu, c, kernel(r), u)


def cubic(x, y):
    return x * y**2 + x**3 / 3


POINT, GRADIENT, EPS = np.array([1.0, 1.0]), np.array([2.0, 2.0]), 0.5


@pytest.mark.parametrize("order", [3, 5])
def test_no_bias_on_cubics(order):
    assert estimator_mean(cubic, POINT, EPS, Kernel(order)) == pytest.approx(GRADIENT, abs=1e-10)


def test_bias_on_quintics():
    """Order 3 leaves −(5/21)(ε⁴/120) E[D⁵f[u⁵]u], here −(5/21)·15ε⁴; order 5 leaves nothing."""
    x, exact = np.array([0.7]), 5 * 0.7**4
    left = estimator_mean(lambda x: x**5, x, EPS, Kernel(3))[0] - exact
    assert left == pytest.approx(-5 / 21 * 15 * EPS**4, abs=1e-10)
    assert estimator_mean(lambda x: x**5, x, EPS, Kernel(5))[0] == pytest.approx(exact, abs=1e-10)


def test_order_1_does_not_cancel():
    """MeZO's bias on a x³ is 3aε²; K = 3r keeps E[r³K] = 3/5 of it."""
    u, w = gauss(1)
    x, a = 0.7, 1.3
    mezo = np.sum(w * (a * (x + EPS * u[:, 0]) ** 3 - a * (x - EPS * u[:, 0]) ** 3) / (2 * EPS) * u[:, 0])
    assert mezo - 3 * a * x**2 == pytest.approx(3 * a * EPS**2, abs=1e-10)
    first = estimator_mean(lambda x: a * x**3, np.array([x]), EPS, Kernel(1))[0]
    assert first - 3 * a * x**2 == pytest.approx(0.6 * 3 * a * EPS**2, abs=1e-10)


def test_r_per_tensor_does_not_cancel_between_tensors():
    """For x, y in different tensors and f = x y²: y² + ε²/3, against y² with a shared r and y² + ε² for MeZO."""

    def f(x, y):
        return x * y**2

    assert estimator_mean(f, POINT, EPS, Kernel(3), shared=False)[0] == pytest.approx(1 + EPS**2 / 3, abs=1e-10)
    assert estimator_mean(f, POINT, EPS, Kernel(3), shared=True)[0] == pytest.approx(1, abs=1e-10)


def test_bias_by_sampling():
    """f = x y² + x³/3 at (1, 1), ε = 0.5: MeZO 2.5, shared r 2, r per tensor 2.0833."""
    generator = torch.Generator().manual_seed(0)
    n, kernel = 4_000_000, Kernel(3)
    u = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    r = 2 * torch.rand(n, 2, generator=generator, dtype=torch.float64) - 1

    def estimate(rx, ry, k):
        plus, minus = (cubic(1 + s * EPS * rx * u[:, 0], 1 + s * EPS * ry * u[:, 1]) for s in (1, -1))
        return float(((plus - minus) / (2 * EPS) * k * u[:, 0]).mean())

    ones = torch.ones(n, dtype=torch.float64)
    assert estimate(ones, ones, ones) == pytest.approx(2.5, abs=0.01)
    assert estimate(r[:, 0], r[:, 0], kernel(r[:, 0])) == pytest.approx(2.0, abs=0.025)
    assert estimate(r[:, 0], r[:, 1], kernel(r[:, 0])) == pytest.approx(2 + EPS**2 / 3, abs=0.025)


# The released kernel and its schedule ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", TAUS)
def test_released_kernel_moments(tau):
    """K = 15r(5−7r²) on [−τ, τ]: the kernel of [−1, 1] on an interval it was not made for."""
    kernel = Kernel(3, 4.0, tau, rescale=False)
    assert kernel(0.3) == pytest.approx(15 * 0.3 * (5 - 7 * 0.3**2), abs=1e-12)
    exact = {1: tau**2 * (25 - 21 * tau**2), 3: 15 * tau**4 * (1 - tau**2)}
    for p, value in exact.items():
        assert expectation(lambda r, p=p: r**p * kernel(r), tau) == pytest.approx(value, abs=1e-12)
        assert kernel.moment(p) == pytest.approx(value, abs=1e-12)
    noise = expectation(lambda r: (r * kernel(r)) ** 2, tau)
    assert noise == pytest.approx(25 * tau**4 * (49 * tau**4 - 90 * tau**2 + 45), rel=1e-12)


@pytest.mark.parametrize("tau", TAUS)
def test_a_rescaled_kernel_keeps_its_zeros(tau):
    """K = 15r(5−7(r/τ)²): E[rK] = 4τ² and E[r³K] = 0 on every interval; at order 5, E[r⁵K] = 0 too."""
    kernel = Kernel(3, 4.0, tau, rescale=True)
    assert kernel(0.3) == pytest.approx(15 * 0.3 * (5 - 7 * (0.3 / tau) ** 2), abs=1e-12)
    for each, p, exact in (
        (kernel, 1, 4 * tau**2),
        (kernel, 3, 0),
        (Kernel(5, 4.0, tau), 3, 0),
        (Kernel(5, 4.0, tau), 5, 0),
    ):
        assert expectation(lambda r, p=p, each=each: r**p * each(r), tau) == pytest.approx(exact, abs=1e-12)
        assert each.moment(p) == pytest.approx(exact, abs=1e-12)


def official(**switches):
    return KerZOO([("w", torch.zeros(3, 2))], lr=1.0, variant="official", **switches)


def test_hidden_schedule():
    """The mean step of the released code: 4 at first, 7.44 at its height, 2.5e-7 from step 4000 on."""
    multiplier = [official().kernel_at(t).moment(1) for t in range(4200)]
    for t in range(4200):
        tau = max(1 - t / 4000, 1e-4)
        assert multiplier[t] == pytest.approx(tau**2 * (25 - 21 * tau**2), rel=1e-12)
    listed = {0: 4.0, 500: 6.83, 2000: 4.94, 3000: 1.48, 3600: 0.25}
    assert [round(multiplier[t], 2) for t in listed] == [round(value, 2) for value in listed.values()]
    assert max(multiplier) == pytest.approx(7.44, abs=5e-3)
    assert int(np.argmax(multiplier)) == 914
    assert multiplier[4000] == multiplier[4199] == pytest.approx(2.5e-7, rel=1e-6)
    half = official(tau_start=0.5).kernel_at
    assert [round(half(t).moment(1), 2) for t in (0, 1000, 1500)] == [4.94, 1.48, 0.39]
    assert half(2000).moment(1) == pytest.approx(2.5e-7, rel=1e-6)


def test_the_paper_has_no_schedule():
    method = KerZOO([("w", torch.zeros(3))], lr=1.0)
    assert all(method.kernel_at(t) == Kernel(3, 1.0, 1.0) for t in (0, 1, 3999, 100_000))


@pytest.mark.parametrize(("tau", "ratio"), [(1.0, 6.25), (0.75, 1.42), (0.5, 1.64), (1e-4, 1.8)])
def test_noise_ratio(tau, ratio):
    """E[(rK)²]/E[rK]² of the released kernel falls as the interval shrinks."""
    kernel = Kernel(3, 4.0, tau, rescale=False)
    found = expectation(lambda r: (r * kernel(r)) ** 2, tau) / kernel.moment(1) ** 2
    exact = 25 * (49 * tau**4 - 90 * tau**2 + 45) / (25 - 21 * tau**2) ** 2
    assert found == pytest.approx(exact, rel=1e-12)
    assert found == pytest.approx(ratio, abs=5e-3)


# Averaging and cost ---------------------------------------------------------------------------------------------------


def test_averaging_weights():
    """x_T = Σ w_s c_s with w_s = 6 s(s+1)(s+2)(s+3)(s+4) / (T(T+1)…(T+5)); mean index (6T+1)/7, the 6T/7 of large T."""
    steps, generator = 40, torch.Generator().manual_seed(0)
    slot = make_slots([("w", torch.zeros(5, dtype=torch.float64))])[0]
    rule, state = PrimalAveraging(SGD(), 6.0), {}
    x, c, path = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64), []
    for t in range(steps):
        gradient = torch.randn(5, generator=generator, dtype=torch.float64)
        c = c - gradient
        path.append(c)
        x = x - rule(slot, gradient, state, t)
        torch.testing.assert_close(x - state["lag"], c, rtol=0, atol=1e-12)
    s = np.arange(1, steps + 1)
    w = 6 * np.prod([s + i for i in range(5)], 0) / np.prod([float(steps + i) for i in range(6)])
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (w * s).sum() == pytest.approx((6 * steps + 1) / 7, abs=1e-12 * steps)
    torch.testing.assert_close(x, torch.tensor(w) @ torch.stack(path), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("switches", "forwards"),
    [({}, 2), ({"probes": 4}, 8), ({"variant": "official"}, 6), ({"variant": "official", "probes": 1}, 2)],
)
def test_cost(switches, forwards):
    problem, calls = Problem(), []
    method = KerZOO(problem.parameters.items(), lr=1e-3, **switches)
    for _ in range(3):
        method.step(lambda: calls.append(1) or problem.loss(0))
    assert method.forwards_per_step == forwards
    assert len(calls) == method.oracle.forwards == 3 * forwards


# The algorithm, by hand ------------------------------------------------------------------------------------------


class Dense:
    """A smooth loss of two tensors in fp64 which can be evaluated at any point."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.start = {
            "a.weight": torch.randn(4, 3, generator=generator, dtype=torch.float64),
            "b.bias": torch.randn(3, generator=generator, dtype=torch.float64),
        }
        self.live = {name: p.clone() for name, p in self.start.items()}

    def loss(self, at=None):
        p = at or self.live
        return (torch.sin(p["a.weight"]).sum(0) + p["b.bias"]).square().sum() + p["b.bias"].exp().sum()

    def draw(self, method, key):
        return {slot.name: Gaussian().draw(slot, key).double() for slot in method.slots}


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_a_step_of_the_paper_by_hand(order, mode):
    """g = mean_i (L(θ + ε r_i u_i) − L(θ − ε r_i u_i)) / 2ε · K(r_i) u_i with one r per perturbation."""
    problem, eps, lr = Dense(), 1e-2, 1e-2
    method = KerZOO(problem.live.items(), lr=lr, eps=eps, order=order, probes=3, mode=mode, seed=3)
    theta = {name: p.clone() for name, p in problem.start.items()}
    k = {
        1: lambda r: 3 * r,
        3: lambda r: 15 / 4 * r * (5 - 7 * r**2),
        5: lambda r: 105 / 64 * r * (99 * r**4 - 126 * r**2 + 35),
    }[order]
    for t in range(4):
        step = {name: torch.zeros_like(p) for name, p in theta.items()}
        for query in range(3):
            key = method.keys(t, query)
            u, r = problem.draw(method, key), Kernel(order).radius(key)
            plus, minus = (problem.loss({n: theta[n] + s * eps * r * u[n] for n in theta}) for s in (1, -1))
            for n in theta:
                step[n] += (plus - minus) / (2 * eps) * k(r) * u[n] / 3
        theta = {n: theta[n] - lr * step[n] for n in theta}
        method.step(problem.loss)
        for n in theta:
            torch.testing.assert_close(problem.live[n], theta[n], rtol=0, atol=1e-11)


@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("clip", [4e5, 100.0])
def test_steps_of_the_released_code_by_hand(mode, clip):
    """Three perturbations measured at y, r and clipping per tensor, a second copy c of the weights, averages x."""
    problem, eps, lr = Dense(), 1e-2, 1e-3
    settings = {"lr": lr, "eps": eps, "tau_steps": 20, "clip": clip, "mode": mode, "seed": 3}
    method = KerZOO(problem.live.items(), variant="official", **settings)
    x = {name: p.clone() for name, p in problem.start.items()}
    c, clipped = dict(x), []
    for t in range(8):
        tau, beta = max(1 - t / 20, 1e-4), 1 + t / 6
        y = {n: c[n] / beta + (1 - 1 / beta) * x[n] for n in x}
        estimate = {n: torch.zeros_like(p) for n, p in x.items()}
        for query in range(3):
            key = method.keys(t, query) & ~1
            measured, applied = {}, {}
            for slot in method.slots:
                z, r = Gaussian().draw(slot, key).double(), Kernel(3, tau=tau).radius(key, slot.id)
                measured[slot.name] = z * r
                applied[slot.name] = z * (15 * r * (5 - 7 * r**2))
            plus, minus = (problem.loss({n: y[n] + s * eps * measured[n] for n in y}) for s in (1, -1))
            for n in y:
                estimate[n] += (plus - minus) / (2 * eps) * applied[n] / 3
        for n in x:
            clipped.append(float(estimate[n].norm()) > clip)
            c[n] = c[n] - lr * estimate[n] * min(1.0, clip / float(estimate[n].norm()))
            x[n] = c[n] / beta + (1 - 1 / beta) * x[n]
        method.step(problem.loss)
        assert method.oracle.notes["mean_multiplier"] == pytest.approx(tau**2 * (25 - 21 * tau**2), rel=1e-12)
        for n in x:
            torch.testing.assert_close(problem.live[n], x[n], rtol=0, atol=1e-10)
    assert (0 < sum(clipped) < len(clipped)) if clip == 100.0 else not any(clipped)


def test_a_clipped_tensor_has_the_bound_as_its_norm():
    slot = make_slots([("w", torch.zeros(4))])[0]
    rule = ClipNorm(SGD(), 2.0)
    for norm, expected in ((1.0, 1.0), (2.5, 2.0), (0.0, 0.0)):
        estimate = torch.tensor([0.0, 0.0, -norm, 0.0])
        found = rule(slot, estimate, {}, 0)
        torch.testing.assert_close(found, torch.tensor([0.0, 0.0, -expected, 0.0]))


# Ablations and corners -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probes", [1, 3])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_without_r_it_is_mezo_bit_for_bit(probes, mode):
    """r_scope=none: r = 1 and K = E[rK] = 1 on the paper's interval."""
    ours, theirs = Problem(), Problem()
    common = {"lr": 1e-2, "probes": probes, "mode": mode, "seed": 4}
    a, b = KerZOO(ours.parameters.items(), r_scope="none", **common), MeZO(theirs.parameters.items(), **common)
    for t in range(5):
        a.step(lambda t=t: ours.loss(t))
        b.step(lambda t=t: theirs.loss(t))
    for name, tensor in ours.parameters.items():
        assert torch.equal(tensor, theirs.parameters[name])


def test_mezo_with_the_hidden_schedule():
    """The ablation of the released schedule: MeZO whose learning rate is multiplied by τ²(25 − 21τ²)."""
    ours, theirs = Problem(torch.float64), Problem(torch.float64)
    alone = {"clip": 0.0, "averaging": 0.0, "probes": 1, "r_scope": "none", "exclude": ""}
    a = KerZOO(ours.parameters.items(), lr=1e-3, variant="official", tau_steps=10, seed=4, **alone)
    b = MeZO(theirs.parameters.items(), lr=1e-3, seed=4)
    for t in range(12):
        tau = max(1 - t / 10, 1e-4)
        b.base_lr = 1e-3 * tau**2 * (25 - 21 * tau**2)
        a.step(lambda t=t: ours.loss(t))
        b.step(lambda t=t: theirs.loss(t))
    for name, tensor in ours.parameters.items():
        torch.testing.assert_close(tensor, theirs.parameters[name], rtol=0, atol=1e-12)


def test_a_pair_of_directions_shares_noise_and_differs_by_the_kernel():
    """For shapes of LoRA matrices, vectors and embeddings: measured r_l z_l, applied K(r_l) z_l, r_l one per tensor."""
    shapes = {"lora.a": (8, 40), "lora.b": (40, 8), "norm.weight": (40,), "embed.weight": (30, 8)}
    slots = make_slots([(name, torch.zeros(shape)) for name, shape in shapes.items()])
    perturbation = TensorRadii(
        Gaussian(), KernelSchedule(kernel_scale=4.0, tau_end=1e-4, tau_steps=10, rescale_kernel=False)
    )
    perturbation.begin(4, slots)
    measured, applied = TensorRadii.pair(987654321)
    kernel, radii = Kernel(3, 4.0, 0.6, rescale=False), set()
    for slot in slots:
        z = Gaussian().draw(slot, 987654321 & ~1)
        r = kernel.radius(987654321 & ~1, slot.id)
        radii.add(r)
        torch.testing.assert_close(perturbation.estimate(slot, measured), r * z, rtol=1e-6, atol=0)
        torch.testing.assert_close(perturbation.estimate(slot, applied), kernel(r) * z, rtol=1e-6, atol=0)
    assert len(radii) == len(slots)


def test_a_stored_tensor_is_a_direction():
    slot = make_slots([("w", torch.zeros(3, 2))])[0]
    held = torch.arange(6.0).view(3, 2)
    perturbation = Stored(Gaussian(), lambda slot: held)
    both = perturbation.estimate(slot, 0.5 * Stored.ray + 2.0 * MeZO([("w", slot.param)], lr=1.0).direction())
    z = Gaussian().draw(slot, MeZO([("w", slot.param)], lr=1.0).keys(0))
    torch.testing.assert_close(both, 0.5 * held + 2.0 * z)


def test_opts_embedding_is_excluded_in_official_only():
    def parameters():
        return [
            ("model.decoder.embed_tokens.weight", torch.zeros(6, 4)),
            ("model.decoder.fc.weight", torch.zeros(4, 4)),
        ]

    assert len(KerZOO(parameters(), lr=1.0).slots) == 2
    assert [s.name for s in KerZOO(parameters(), lr=1.0, variant="official").slots] == ["model.decoder.fc.weight"]
    assert len(KerZOO(parameters(), lr=1.0, variant="official", exclude="").slots) == 2
    llama = [("model.embed_tokens.weight", torch.zeros(6, 4))]
    assert len(KerZOO(llama, lr=1.0, variant="official").slots) == 1


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"variant": "released"}, "variant=released: expected one of paper, official"),
        ({"order": 2}, "order=2: expected one of 1, 3, 5"),
        ({"eps": 0.0}, "eps=0.0"),
        ({"probes": 0}, "probes=0"),
        ({"r_scope": "layer"}, "r_scope=layer: expected one of step, tensor, none"),
        ({"tau_end": 2.0}, "tau_end=2.0"),
        ({"tau_steps": 0}, "tau_steps=0"),
        ({"kernel_scale": 0.0}, "kernel_scale=0.0"),
        ({"clip": -1.0}, "clip=-1.0: must be positive"),
        ({"averaging": -6.0}, "averaging=-6.0: must be positive"),
    ],
)
def test_bad_settings_are_named(switches, message):
    with pytest.raises(ValueError, match=message):
        KerZOO([("w", torch.zeros(2))], lr=1.0, **switches)


# The rule and its state -----------------------------------------------------------------------------------------------


def test_replay_with_averaging():
    """The step is weight · (lag + clipped estimate), redrawn from the applied direction's keys."""
    problem = Problem(torch.float64)
    method = KerZOO(problem.parameters.items(), lr=1e-2, variant="official", seed=2)
    problem.train(method, 3)
    before, lag = problem.copy(), {s.name: method._rule_state[s.index]["lag"].clone() for s in method.slots}
    problem.train(method, 1)
    for slot in method.slots:
        estimate = Perturbation.estimate(method.perturbation, slot, method.applied)
        expected = before[slot.name] - 1e-2 * 6 / 9 * (lag[slot.name] + estimate)
        torch.testing.assert_close(slot.param, expected, rtol=0, atol=1e-12)


def test_the_state_is_one_fp32_tensor_per_trainable_tensor():
    problem = Problem(torch.bfloat16)
    paper = KerZOO(problem.parameters.items(), lr=1e-2)
    problem.train(paper, 2)
    assert paper.state_bytes() == 0
    method = KerZOO(problem.parameters.items(), lr=1e-2, variant="official", rule=Adam())
    problem.train(method, 2)
    numbers = sum(p.numel() for p in problem.parameters.values())
    assert method.state_bytes() == 4 * numbers * 3
    assert all(x.dtype == torch.float32 for x in method._rule_state[0].values())
