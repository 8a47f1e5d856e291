"""MeZO-SVRG against recorded trajectories, the paper's and the released code's, and the identities of its estimate."""

import pytest
import torch
from helpers import released
from helpers.released import TOLERANCE, follow, read

from zobench.methods.mezo import MeZO
from zobench.methods.mezo_svrg import MeZOSVRG
from zobench.testing.problem import Problem, StepLoss


def deviations(name, until=None, monkeypatch=None, **switches):
    """The largest deviation of a weight from a golden run after each step, and the method."""
    golden = read(name)
    problem, on, steps = released.Problem(golden), golden["settings"], golden["steps"]
    method = MeZOSVRG(
        problem.model.named_parameters(), lr=on["lr2"], large_rate=on["lr1"] / on["lr2"], eps=on["eps"],
        interval=on["q"], large_batches=1, **switches,
    )  # fmt: skip
    method.oracle.further = lambda first, count: lambda: problem.loss(steps[method.t].get("rows"))

    def recorded(step, query, purpose, slot, shape):
        at = steps[step]
        return at["z"][slot] if "z" in at else at["queries"][query][slot]["z"]

    released.feed(monkeypatch, method, recorded)
    return follow(method, problem, golden, lambda step: lambda: problem.loss(steps[step].get("rows")), until=until)


def test_paper_follows_the_algorithm_box(monkeypatch):
    worst = deviations("mezo_svrg_paper", monkeypatch=monkeypatch)
    print(worst)
    assert max(worst) < TOLERANCE


def test_official_follows_the_released_code(monkeypatch):
    worst = deviations("mezo_svrg_released", monkeypatch=monkeypatch, variant="official")
    print(worst)
    assert max(worst) < TOLERANCE


@pytest.mark.parametrize("switches", [{}, {"draws": "independent"}, {"reference": "moved", "draws": "shared"}])
def test_every_switch_of_official_is_needed_and_first_at_a_small_batch(monkeypatch, switches):
    first, second = deviations("mezo_svrg_released", 2, monkeypatch, **switches)
    assert first < TOLERANCE
    assert second > 1e3 * TOLERANCE


def made(problem, cls=MeZOSVRG, **settings):
    method = cls(problem.parameters.items(), **{"lr": 1e-2, "seed": 3, **settings})
    method.oracle.further = lambda first, count: problem.further(method.t, first, count)
    return method


def test_with_an_anchor_at_every_step_it_is_mezo_on_the_large_batch():
    one, other = Problem(), Problem()
    svrg, mezo = made(one, interval=1, large_rate=1.0), made(other, MeZO)
    for step in range(4):
        svrg.step(StepLoss(one, step))
        mezo.step(other.further(step, 0, 8))
    assert all(torch.equal(p, other.parameters[name]) for name, p in one.parameters.items())


def test_at_the_anchor_itself_the_small_batch_corrects_nothing():
    problem = Problem(torch.float64)
    method = made(problem, lr=0.0, interval=3)
    for step in range(3):
        method.step(StepLoss(problem, step))
        assert {key: weight for key, weight in method.applied.items() if weight} == dict(method.g)


def test_near_the_anchor_a_shared_direction_takes_the_variance_away_that_independent_ones_add():
    def spread(**switches):
        """The mean square of what small batches add to g, over 40 batches and directions near the anchor."""
        problem, found = Problem(torch.float64), []
        method = made(problem, lr=1e-4, interval=41, **switches)
        for step in range(41):
            method.step(StepLoss(problem, step))
            found.append(sum(weight**2 for weight in (method.applied - method.g).values()))
        return sum(found[1:])

    print(spread(), spread(draws="independent"))
    assert spread() < 1e-3 * spread(draws="independent")


def test_both_rates_are_divided_where_a_window_of_losses_is_too_large():
    problem, levels = Problem(), [1.0, 1.0, 1.04, 1.04, 2.0, 2.0, 2.0, 2.0]
    method = made(problem, window=2, large_rate=4.0)
    found = []
    for level in levels:
        method.oracle.further = lambda first, count, level=level: lambda: level
        found.append(method.lr)
        method.step(lambda level=level: level)
    small, large = 1e-2, 4e-2
    assert found == pytest.approx([large, small, large, small, large, small, large / 5, small / 5])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"interval": 0}, "interval=0: must be at least 1"),
        ({"large_batches": 0}, "large_batches=0: must be at least 1"),
        ({"anneal": 0.5}, r"anneal=0.5: must lie in \[1, inf\)"),
        ({"draws": "other"}, "draws=other: expected one of shared, independent"),
    ],
)
def test_bad_settings_are_refused_in_one_line(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MeZOSVRG([("w", torch.zeros(2, 2))], lr=0.0, **setting)
