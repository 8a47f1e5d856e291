"""HiZOO against the released code's trajectory, its algorithm box and the mean of its samples of the curvature."""

from itertools import product

import pytest
import torch
from helpers.released import TOLERANCE, Problem, deviation, feed, follow, read
from numpy.polynomial.hermite_e import hermegauss

from zobench.methods.hizoo import HiZOO
from zobench.methods.mezo import MeZO
from zobench.testing.problem import Problem as Regression
from zobench.zo import Direction, Gaussian, make_slots, noise
from zobench.zo.perturbations.diagonal_metric import DiagonalMetric

GOLDEN = read("hizoo")
SETTINGS = {name: GOLDEN["settings"][name] for name in ("alpha", "lr", "eps")} | {
    "variant": "official",
    "weight_decay": GOLDEN["settings"]["wd"],
}


def golden_run(monkeypatch, **switches):
    """The method and the problem of the golden run, with its draws."""
    problem = Problem(GOLDEN)
    method = HiZOO(problem.model.named_parameters(), **{**SETTINGS, **switches})
    feed(monkeypatch, method, lambda step, query, purpose, name, shape: GOLDEN["steps"][step]["draws"][name]["z"])
    return method, problem


# The released code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_steps_follow_the_released_code(monkeypatch, mode):
    method, problem = golden_run(monkeypatch, mode=mode)
    states = {int(state["after_step"]): state["H"] for state in GOLDEN["state"]}
    metrics, losses = [], []

    def after(step):
        recorded = GOLDEN["steps"][step]["losses"]
        losses.extend(abs(a / b - 1) for a, b in zip(method.oracle.seen, recorded, strict=True))
        for name, golden in states.get(step + 1, {}).items():
            metrics.append(deviation(method.metric.metric[name], golden))

    worst = max(follow(method, problem, GOLDEN, after=after))
    print(mode, worst, max(metrics), max(losses))
    assert len(metrics) == 3 * len(states)
    assert max(worst, *metrics, *losses) < TOLERANCE
    assert method.oracle.forwards == 4 * len(GOLDEN["steps"])


def test_the_papers_samples_leave_the_released_run_at_its_first_step(monkeypatch):
    paper, official = (follow(*golden_run(monkeypatch, centred=centred), GOLDEN, until=2) for centred in (True, False))
    print(paper, official)
    assert min(paper) > 1e3 * max(official)


def test_weight_decay_acts_on_vectors_in_official_only():
    for variant, kept in (("paper", 1.0), ("official", 1 - 0.1 * 0.5)):
        weights = {"w": torch.ones(3, 2, dtype=torch.float64), "b": torch.ones(2, dtype=torch.float64)}
        HiZOO(weights.items(), lr=0.1, weight_decay=0.5, variant=variant).step(lambda w=weights: w["b"].sum() * 0 + 1.0)
        torch.testing.assert_close(weights["w"], torch.full((3, 2), 1 - 0.1 * 0.5).double())
        torch.testing.assert_close(weights["b"], torch.full((2,), kept).double())


def test_the_fourth_loss_is_that_after_the_step_and_changes_nothing():
    one, other = Regression(torch.float64), Regression(torch.float64)
    three, four = (HiZOO(p.parameters.items(), lr=0.05, alpha=0.01, log_loss=p is other) for p in (one, other))
    for problem, method in ((one, three), (other, four)):
        problem.train(method, 3)
    assert all(torch.equal(p, other.parameters[name]) for name, p in one.parameters.items())
    assert four.oracle.seen[:3] == three.oracle.seen
    assert four.oracle.seen[3] == float(other.loss(2))
    assert (three.oracle.forwards, four.oracle.forwards) == (9, 12)


# The algorithm box ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("centred", [True, False])
def test_steps_of_the_box_by_hand(mode, centred):
    """Losses along the old H, H moved, and the step along the new one; H is fp64 for fp64 weights."""
    alpha, lr, eps, problem = 0.05, 0.02, 1e-2, Regression(torch.float64)
    settings = {"alpha": alpha, "lr": lr, "eps": eps, "centred": centred, "mode": mode}
    method = HiZOO(problem.parameters.items(), seed=3, **settings)
    theta, H = problem.copy(), {name: torch.ones_like(p) for name, p in problem.parameters.items()}
    other = Regression(torch.float64)

    def loss(step, offset):
        for name, p in other.parameters.items():
            p.copy_(theta[name] + offset[name])
        return float(other.loss(step))

    for t in range(6):
        z = {slot.name: Gaussian().draw(slot, method.keys(t)).double() for slot in method.slots}
        base, plus, minus = (loss(t, {n: side * eps * z[n] / H[n].sqrt() for n in z}) for side in (0, 1, -1))
        c = (plus + minus - 2 * base) / eps**2
        for n in z:
            H[n] = (1 - alpha) * H[n] + alpha * abs(c / 2) * H[n] * (z[n] ** 2 - float(centred)).abs()
            theta[n] = theta[n] - lr * (plus - minus) / (2 * eps) * z[n] / H[n].sqrt()
        problem.train(method, 1)
        assert method.oracle.notes["curvature"] == pytest.approx(c, abs=1e-8)
        for n in z:
            torch.testing.assert_close(method.metric.metric[n], H[n], rtol=1e-9, atol=0)
            torch.testing.assert_close(problem.parameters[n], theta[n], rtol=0, atol=1e-10)
    assert max(float((h - 1).abs().max()) for h in H.values()) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_without_alpha_it_is_mezo_to_the_bit(dtype, mode):
    one, other = Regression(dtype), Regression(dtype)
    common = {"lr": 1e-2, "seed": 4, "mode": mode, "weight_decay": 0.1}
    ours, mezo = HiZOO(one.parameters.items(), alpha=0.0, **common), MeZO(other.parameters.items(), **common)
    one.train(ours, 5)
    other.train(mezo, 5)
    assert all(torch.equal(p, other.parameters[name]) for name, p in one.parameters.items())
    assert ours.state_bytes() == 0


@pytest.mark.parametrize("centred", [True, False])
def test_the_mean_sample_is_the_diagonal_of_the_hessian(monkeypatch, centred):
    """Exactly, over a grid: with z² instead of z² − 1 half the trace of H^(−1/2) A H^(−1/2) is added, times H."""
    A = torch.tensor([[2.0, 0.5, -0.3], [0.5, -1.0, 0.7], [-0.3, 0.7, 4.0]], dtype=torch.float64)
    H = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    slots = make_slots([("w", torch.zeros(3, dtype=torch.float64))])
    nodes, weights = hermegauss(4)
    mean = torch.zeros(3, dtype=torch.float64)
    for at in product(range(4), repeat=3):
        z = torch.tensor([nodes[i] for i in at])
        monkeypatch.setattr(noise, "add_rows_", lambda total, stream, draws, rows=None, z=z, **_: total.add_(z))
        space = DiagonalMetric(alpha=0.5, centred=centred)
        space.load_state_dict({"w": H})
        space.begin(0, slots)
        u = z / H.sqrt()
        curvature = float(u @ A @ u)
        space.learn(slots, Direction.ray(1), curvature)
        size = 2 * space.metric["w"] - H  # of the sample; H takes its absolute value
        sign = torch.sign((z**2 - 1) * curvature) if centred else torch.sign(torch.tensor(curvature))
        mean += size * sign * torch.tensor([weights[i] for i in at]).prod() / weights.sum() ** 3
    trace = float((A.diagonal() / H).sum())
    torch.testing.assert_close(mean, A.diagonal() + (0.0 if centred else 0.5 * trace * H), rtol=0, atol=1e-12)


# State and settings ---------------------------------------------------------------------------------------------------


def test_the_metric_is_one_fp32_copy_whatever_the_weights_are():
    problem = Regression(torch.bfloat16)
    method = HiZOO(problem.parameters.items(), lr=1e-2, alpha=1e-2)
    problem.train(method, 2)
    assert method.state_bytes() == 4 * sum(p.numel() for p in problem.parameters.values())
    assert all(H.dtype == torch.float32 and float(H.min()) > 0 for H in method.metric.metric.values())


@pytest.mark.parametrize("count", [1, 2])
def test_the_metric_hangs_on_no_number_of_threads(count):
    """Of a matrix of several parts, against its definition."""
    slots, u, before = make_slots([("w", torch.zeros(700, 500))]), Direction.ray(7), torch.get_num_threads()
    space = DiagonalMetric(alpha=0.25, centred=True)
    torch.set_num_threads(count)
    try:
        space.begin(0, slots)
        space.learn(slots, u, 4.0)
    finally:
        torch.set_num_threads(before)
    assert len(list(space.parts(slots[0]))) > 1
    assert torch.equal(space.metric["w"], (Gaussian().draw(slots[0], 7).square() - 1).abs() * 0.5 + 0.75)


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"alpha": 1.0}, "alpha=1.0: must lie in"),
        ({"alpha": -1e-8}, "alpha=-1e-08: must lie in"),
        ({"variant": "released"}, "variant=released: expected one of paper, official"),
    ],
)
def test_bad_settings_are_named(switches, message):
    with pytest.raises(ValueError, match=message):
        HiZOO([("w", torch.zeros(2))], lr=1.0, **switches)
