"""BSZO against trajectories recorded from both released optimizers, and against Bayes' rule in closed form."""

import numpy as np
import pytest
import torch
from helpers import released
from helpers.released import TOLERANCE, follow, read

from zobench.methods.bszo import BSZO, Posterior
from zobench.testing.problem import Problem, StepLoss
from zobench.zo import ZERO, Method

GOLDEN = read("bszo")
VARIANTS = {"v3": "paper", "v4": "official"}
#: runs with observations after the first k
LATER = [name for name, run in GOLDEN["runs"].items() if run["settings"]["samples"] > run["settings"]["k"]]


def deviations(monkeypatch, name, until=None, **switches):
    """The largest deviation of a weight from a golden run after each step; the noise's is asserted."""
    run = GOLDEN["runs"][name]
    problem, on, steps = released.Problem(GOLDEN), run["settings"], run["steps"]
    method = BSZO(
        problem.model.named_parameters(), lr=on["lr"], eps=on["eps"], probes=on["k"], samples=on["samples"],
        sigma_prior=on["sigma_prior"], sigma_noise=on["sigma_noise"], **switches,
    )  # fmt: skip

    def recorded(step, query, purpose, slot, shape):
        return steps[step]["directions"][query][slot]["z"]

    def widest(posterior, compute=Posterior.widest):
        """The sign of an eigenvector is LAPACK's."""
        vector = compute(posterior)
        return vector * np.sign(max((vector @ d for d in steps[method.t]["probe_vectors"]), key=abs))

    def after(step):
        least = 0.1 * on["sigma_noise"]
        assert max(least, method.oracle.notes["noise"]) == pytest.approx(steps[step]["sigma_noise"], rel=1e-7)

    released.feed(monkeypatch, method, recorded)
    monkeypatch.setattr(Posterior, "widest", widest)
    return follow(method, problem, run, after=after, until=until)


@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_steps_follow_the_released_code(monkeypatch, name):
    worst = deviations(monkeypatch, name, variant=VARIANTS[GOLDEN["runs"][name]["settings"]["version"]])
    print(name, worst)
    assert max(worst) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in LATER if GOLDEN["runs"][name]["settings"]["version"] == "v4"])
def test_an_observation_along_an_eigenvector_takes_a_forward_pass_more(monkeypatch, name):
    with pytest.raises(AssertionError, match="another number of forward passes"):
        deviations(monkeypatch, name, variant="paper", until=1)


def test_the_filter_is_bayes_rule():
    """After any observations: covariance ``(I/σ² + D'R⁻¹D)⁻¹``, mean that times ``D'R⁻¹y``; but for 1e-10 an update."""
    generator = np.random.default_rng(0)
    directions, seen, noises = generator.normal(size=(5, 3)), generator.normal(size=5), generator.uniform(1, 2, size=5)
    slopes = Posterior(3, sigma=1.5)
    for d, y, noise in zip(directions, seen, noises, strict=True):
        slopes.observe(d, y, noise)
    variances = noises * (directions**2).sum(1)
    covariance = np.linalg.inv(np.eye(3) / 1.5**2 + (directions.T / variances) @ directions)
    mean = covariance @ (directions.T / variances) @ seen
    print(np.abs(slopes.covariance - covariance).max(), np.abs(slopes.mean - mean).max())
    np.testing.assert_allclose(slopes.covariance, covariance, atol=1e-9)
    np.testing.assert_allclose(slopes.mean, mean, atol=1e-9)
    values, vectors = np.linalg.eigh(covariance)
    assert abs(slopes.widest() @ vectors[:, values.argmax()]) == pytest.approx(1.0)


class OneSided(Method):
    """k one-sided slopes, summed over their directions."""

    def update(self, oracle):
        z = [self.direction(i) for i in range(3)]
        base, *ahead = oracle.losses([ZERO, *(self.eps * u for u in z)])
        self.apply(sum(((loss - base) / self.eps * u for loss, u in zip(ahead, z, strict=True)), ZERO))


def test_without_noise_it_is_the_sum_of_one_sided_slopes():
    one, other = Problem(), Problem()
    settings = {"lr": 1e-2, "seed": 3}
    quiet = BSZO(one.parameters.items(), probes=3, samples=3, sigma_noise=0.0, noise_rate=0.0, eps=1e-3, **settings)
    one.train(quiet, 5)
    other.train(OneSided(other.parameters.items(), **settings), 5)
    assert all(torch.equal(p, other.parameters[name]) for name, p in one.parameters.items())


def test_as_much_noise_as_prior_halves_each_slope():
    problem = Problem(torch.float64)
    method = BSZO(problem.parameters.items(), lr=1e-2, samples=2, sigma_prior=2.0, sigma_noise=2.0, noise_rate=0.0)
    method.step(StepLoss(problem, 0))
    base, *ahead = method.oracle.seen
    assert list(method.applied.values()) == pytest.approx([(loss - base) / method.eps / 2 for loss in ahead], rel=1e-9)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"probes": 0}, "probes=0: must be at least 1"),
        ({"samples": 0}, "samples=0: must be at least 1"),
        ({"samples": 1}, "samples=1: must be at least probes=2, as each axis is observed once"),
        ({"sigma_prior": 0.0}, "sigma_prior=0.0: must be positive"),
        ({"noise_rate": 1.5}, r"noise_rate=1.5: must lie in \[0, 1\]"),
        ({"repeat": "axes"}, "repeat=axes: expected one of axis, eigenvector"),
    ],
)
def test_bad_settings_are_refused_in_one_line(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        BSZO([("w", torch.zeros(2, 2))], lr=0.0, **setting)
