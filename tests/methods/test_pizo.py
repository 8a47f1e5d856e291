"""MeZO-GV and MeZO-Greedy: the released steps, and what a guide of ranked candidates is and is not."""

import pytest
import torch
from helpers.released import TOLERANCE, Problem, feed, follow, read

from zobench import MeZO, MeZOGreedy, MeZOGV
from zobench.testing.problem import Problem as Small
from zobench.zo import ZERO, Direction, Rademacher, central_difference
from zobench.zo.perturbations.first_stream import FirstStream
from zobench.zo.perturbations.low_rank import LowRank

GOLDEN = read("mezo_gv")
FIRST = "0.weight"


class Recorded:
    """The draws of a recording, for keys that are the first or the second candidate of a step.

    What was rebuilt of all tensors but the first is recorded as a difference, which is the better candidate's here.
    """

    def __init__(self, method):
        self.method = method
        self.by_shape = {slot.param.shape: slot.name for slot in method.slots}
        self.draws = {}
        for step in GOLDEN["steps"]:
            self.draws |= step["draws"]

    def seed(self, step, query):
        return GOLDEN["steps"][step]["candidates"][query]

    def __call__(self, step, query, purpose, name, shape):
        meant, now = self.by_shape[shape], GOLDEN["steps"][self.method.t]
        seed = self.seed(step, query)
        if name == meant:
            return self.draws[str(seed)][name]
        zero = torch.zeros(shape, dtype=torch.float64).tolist()
        return now["direction"][meant] if seed == now["best"] else zero


def deviations(monkeypatch, until=None, **switches):
    problem, s = Problem(GOLDEN), GOLDEN["settings"]
    method = MeZOGV(
        problem.model.named_parameters(),
        **{"variant": "official", "probes": 2, "lr": s["lr"], "eps": s["eps"], "weight_decay": s["wd"]} | switches,
    )
    feed(monkeypatch, method, Recorded(method))
    what = method.keys.what
    asked = type(method.keys).__call__

    def even(self, *args, **kwargs):
        key = asked(self, *args, **kwargs)
        what[key & ~1] = what[key]
        return key

    monkeypatch.setattr(type(method.keys), "__call__", even)
    return follow(method, problem, GOLDEN, until=until)


def test_steps_follow_the_released_code(monkeypatch):
    found = deviations(monkeypatch)
    print(max(found))
    assert max(found) < TOLERANCE


def test_the_released_direction_is_that_of_the_draws_in_the_first_tensor_alone():
    step = GOLDEN["steps"][0]
    (other,) = set(step["candidates"]) - {step["best"]}
    best, worst = (step["draws"][str(seed)] for seed in (step["best"], other))
    for name in best:
        v = torch.tensor(best[name]) - torch.tensor(worst[name])
        assert torch.allclose(v, torch.tensor(step["direction"][name]), atol=1e-6) == (name == FIRST)


@pytest.mark.parametrize("switch", [{"rebuild": "drawn"}, {"variant": "paper"}])
def test_directions_as_they_were_drawn_leave_the_released_run_at_once(monkeypatch, switch):
    assert deviations(monkeypatch, until=1, **switch)[0] > 1e3 * TOLERANCE


def test_without_history_the_second_step_compares_other_candidates():
    problem, s = Problem(GOLDEN), GOLDEN["settings"]
    settings = {"lr": s["lr"], "eps": s["eps"], "variant": "official"}
    for history in (True, False):
        method = MeZOGV(problem.model.named_parameters(), history=history, **settings)
        method.step(problem.loss)
        (best,) = method.best
        method.step(problem.loss)
        assert (best | 1 in method.applied) == history


# -- identities -------------------------------------------------------------------------------------------------------


def curved(d=12, seed=0):
    """A loss that is no quadratic, and weights at which it is measured."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(d, generator=generator, dtype=torch.float64)
    a = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return w, lambda: (a @ w).tanh().square().sum() + (0.3 * w).exp().sum()


def gradient_of(method, loss, v):
    """The central difference along a direction times it, as tensors."""
    method.oracle.begin(loss)
    slope = central_difference(method.oracle, v, method.eps)
    method.oracle.settle()
    return slope * method.perturbation.estimate(method.slots[0], v)


@pytest.mark.parametrize("seed", range(4))
def test_with_two_probes_the_guide_is_mezo_along_their_difference_whichever_is_better(seed):
    w, loss = curved(seed=seed)
    method = MeZOGV([("w", w)], lr=1e-2, eps=0.1, mode="exact", seed=seed)
    z1, z2 = method.direction(0), method.direction(1)
    here, there = (gradient_of(method, loss, v) for v in (z1 - z2, z2 - z1))
    torch.testing.assert_close(here, there, rtol=1e-12, atol=1e-12)
    before = w.clone()
    method.step(loss)
    torch.testing.assert_close(before - 1e-2 * here, w, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_greedy_with_one_probe_is_mezo_bit_for_bit(dtype, mode):
    one, two = Small(dtype), Small(dtype)
    settings = {"lr": 1e-2, "seed": 5, "mode": mode}
    one.train(MeZOGreedy(one.parameters.items(), probes=1, **settings), 4)
    two.train(MeZO(two.parameters.items(), **settings), 4)
    for name, p in one.parameters.items():
        assert torch.equal(p, two.parameters[name])


def test_greedy_steps_along_the_candidate_of_the_lowest_loss():
    w, loss = curved()
    method = MeZOGreedy([("w", w)], lr=1e-3, probes=5)
    method.step(loss)
    losses = method.oracle.seen[:5]
    assert set(method.applied) == {method.keys(0, losses.index(min(losses)))}


@pytest.mark.parametrize(("probes", "elite", "count"), [(4, 0.5, 2), (5, 0.5, 2), (4, 0.25, 1), (6, 0.9, 5)])
def test_the_guide_is_the_mean_of_the_elite_minus_that_of_the_rest(probes, elite, count):
    w, loss = curved()
    method = MeZOGV([("w", w)], lr=1e-3, probes=probes, elite=elite)
    method.step(loss)
    losses = method.oracle.seen[:probes]
    order = sorted(range(probes), key=lambda i: losses[i])
    slope = method.oracle.notes["projected_gradient"]
    for rank, i in enumerate(order):
        share = 1 / count if rank < count else -1 / (probes - count)
        assert method.applied[method.keys(0, i)] == pytest.approx(slope * share, rel=1e-12)
    # E‖v‖² = d Σ weight²
    v = method.applied * (1 / slope)
    assert sum(x * x for x in v.values()) == pytest.approx(1 / count + 1 / (probes - count), rel=1e-12)


@pytest.mark.parametrize("space", [Rademacher(), LowRank(rank=2)], ids=["signs", "low rank"])
@pytest.mark.parametrize("kind", [MeZOGV, MeZOGreedy])
def test_any_distribution_serves(space, kind):
    problem = Small()
    before = problem.mean_loss()
    problem.train(kind(problem.parameters.items(), lr=1e-2, probes=4, perturbation=space), 100)
    assert problem.mean_loss() < before


def test_equal_losses_rank_the_candidates_by_their_number():
    w = torch.ones(4, 3)
    for kind, keys in ((MeZOGV, 4), (MeZOGreedy, 1)):
        made = kind([("w", w)], lr=1.0, probes=4, mode="exact")
        made.step(lambda: w.sum() * 0 + 1.0)
        assert torch.equal(w, torch.ones(4, 3))
        assert set(made.best) == {made.keys(0, 0)}
        assert list(made.applied.values()) == [0.0] * keys


def test_history_compares_one_new_candidate_with_the_best_one():
    w, loss = curved()
    method = MeZOGV([("w", w)], lr=1e-3, history=True)
    assert method.forwards_per_step == 4
    best = None
    for step in range(6):
        new = [method.keys(step, query) for query in range(2 if best is None else 1)]
        method.step(loss)
        candidates = new if best is None else [*new, best]
        losses = method.oracle.seen[:2]
        best = candidates[losses.index(min(losses))]
        assert set(method.applied) == set(candidates)
        assert set(method.best) == {best}


def test_rebuilt_draws_are_those_of_the_key_in_the_first_tensor_alone():
    tensors = {name: torch.zeros(*shape) for name, shape in (("a", (8, 6)), ("b", (3, 4)), ("c", (5,)))}
    method = MeZOGV(tensors.items(), lr=0.0, variant="official")
    method.perturbation.begin(0, method.slots)
    z = FirstStream.own(method.direction())
    drawn, rebuilt = (
        [method.perturbation.estimate(slot, v) for slot in method.slots] for v in (z, FirstStream.shared(z))
    )
    for i, (one, other) in enumerate(zip(drawn, rebuilt, strict=True)):
        assert torch.equal(one, other) == (i == 0)
        assert torch.equal(other.flatten(), rebuilt[0].flatten()[: other.numel()])
    assert FirstStream.shared(Direction({6: 1.0, 7: 0.5})) == Direction({7: 1.5})
    assert FirstStream.own(ZERO) == ZERO


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (MeZOGreedy, {"probes": 0}, "probes=0: must be at least 1"),
        (MeZOGV, {"probes": 1}, "probes=1: must be at least 2"),
        (MeZOGV, {"elite": 1.0}, r"elite=1.0: must lie in \(0, 1\)"),
        (MeZOGV, {"elite": 0.2}, "elite=0.2: of probes=2 that is no candidate; set probes to at least 5"),
        (
            MeZOGV,
            {"probes": 4, "variant": "official"},
            "probes=4: history compares a new candidate with the best one; set probes=2",
        ),
        (MeZOGV, {"rebuild": "both"}, "rebuild=both: expected one of drawn, first_tensor"),
    ],
)
def test_bad_settings_are_named(kind, setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        kind([("w", torch.zeros(2, 2))], lr=0.0, **setting)
