"""GRZO against a recorded trajectory, and the identities of directions of each example."""

import pytest
import torch
from helpers import released
from helpers.released import TOLERANCE, deviation, read, tensor
from helpers.tiny_runs import TINY

from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.methods import grzo
from zobench.methods.grzo import GRZO
from zobench.run.runner import run
from zobench.testing.problem import Problem, StepLoss
from zobench.zo import Direction, make_slots
from zobench.zo.perturbations.sign_products import SignProducts


class Rows:
    """The loss of some rows of a golden problem, by example."""

    rows, load, stacks = 1, 1, False

    def __init__(self, problem, rows):
        self.problem, self.chosen, self.size = problem, rows, len(rows)

    def __call__(self):
        return self.problem.loss(self.chosen)

    def losses(self, copies=1, examples=False):
        found = self.problem.losses(self.chosen)[None]
        return found if examples else found.mean(1)

    def each(self, within):
        found = []
        for row in self.chosen:
            with within(len(found)):
                found.append(self.problem.loss([row]))
        return torch.stack(found)


def deviations(monkeypatch, until=None, again=False, **settings):
    """The largest deviation of a weight from the golden run after each step; the losses are asserted.

    Args:
        again: set out from the recorded weights at each step.
    """
    golden = read("grzo")
    problem, on, steps = released.Problem(golden), golden["settings"], golden["steps"]
    monkeypatch.setattr(grzo, "TINY", on["eps_std"])
    method = GRZO(problem.model.named_parameters(), lr=on["lr"], eps=on["sigma"], **settings)
    released.feed(monkeypatch, method, lambda step, query, purpose, slot, shape: steps[step]["U"][slot])

    def drawn(slot, key):
        step, example, _ = method.keys.what[key]
        return torch.cat([tensor(steps[step][side][slot.name][example]) for side in "rs"])

    monkeypatch.setattr(method.space, "drawn", drawn)
    monkeypatch.setattr(method.space, "splits", lambda slot: False)
    found = []
    for step, recorded in enumerate(steps[:until]):
        if again:
            problem.model.load_state_dict({name: tensor(values) for name, values in golden["weights"][step].items()})
        method.step(Rows(problem, recorded["rows"]))
        assert method.oracle.forwards == 2 * (step + 1)
        for losses, side in zip(method.oracle.seen, ("plus", "minus"), strict=True):
            assert losses == pytest.approx(recorded[f"losses_{side}"], rel=1e-6, abs=1e-6)
        weights, expected = problem.weights(), golden["weights"][step + 1]
        found.append(max(deviation(weights[name], expected[name]) for name in expected))
    return found


def test_official_follows_the_recorded_trajectory(monkeypatch):
    worst = deviations(monkeypatch, variant="official", again=True)
    print(worst)
    assert max(worst) < TOLERANCE


def test_official_drifts_from_the_recorded_trajectory_by_rounding_alone(monkeypatch):
    """The run's losses grow to 100, and what their differences cancel, the next steps multiply."""
    worst = deviations(monkeypatch, variant="official")
    print(worst)
    assert max(worst) < 10 * TOLERANCE


@pytest.mark.parametrize("settings", [{"spread": "population"}])
def test_the_spread_of_official_is_needed_from_the_first_step_on(monkeypatch, settings):
    assert deviations(monkeypatch, 1, variant="official", **settings)[0] > 1e3 * TOLERANCE


def test_official_trains_no_bias():
    names = [slot.name for slot in GRZO(Problem().parameters.items(), lr=0.0, variant="official").slots]
    assert names == ["embed.weight", "layer.weight", "head.weight"]


class Scaled(StepLoss):
    """A step's loss, times 1000."""

    def __init__(self, problem, step):
        super().__init__(problem, step, lambda losses: 1000 * losses)


def test_a_loss_multiplied_by_a_number_gives_the_same_step():
    one, other = Problem(torch.float64), Problem(torch.float64)
    for problem, loss in ((one, StepLoss), (other, Scaled)):
        method = GRZO(problem.parameters.items(), lr=1e-3, seed=3)
        for step in range(3):
            method.step(loss(problem, step))
    for name, p in one.parameters.items():
        torch.testing.assert_close(p, other.parameters[name], rtol=0, atol=1e-5)


def test_each_example_is_measured_at_its_own_offset():
    problem = Problem(torch.float64)
    method = GRZO(problem.parameters.items(), lr=0.0, seed=3)
    method.step(StepLoss(problem, 0))
    plus, _ = method.oracle.seen
    keys, before = list(method.applied), problem.copy()
    for place, key in enumerate(keys):
        for slot in method.slots:
            slot.param.copy_(before[slot.name] + method.eps * method.space.estimate(slot, Direction.ray(key)))
        assert float(problem.errors(0)[place]) == pytest.approx(plus[place], rel=1e-9)


def test_directions_of_two_examples_are_uncorrelated_and_each_has_the_sizes_of_one_normal_draw():
    space, slots = SignProducts(), make_slots([("a", torch.zeros(40, 30)), ("b", torch.zeros(50))])
    for slot in slots:
        u, v = (space.estimate(slot, Direction.ray(key)) for key in (3, 4))
        assert torch.equal(u.abs(), v.abs())
        assert torch.equal(u.abs().view(-1), space.sizes(slot).abs().view(-1))
        r, s = space.signs(slot, [3])
        assert {*r.unique().tolist(), *s.unique().tolist()} <= {-1.0, 1.0}
    first = space.estimate(slots[0], Direction.ray(0))
    products = [float((first * space.estimate(slots[0], Direction.ray(k))).mean()) for k in range(1, 201)]
    spread = float(first.square().square().mean() / 1200) ** 0.5  # of one product, as its 1200 signs are uncorrelated
    assert abs(sum(products) / 200) < 4 * spread / 200**0.5


def test_equal_changes_give_a_step_of_zero_that_keeps_its_keys():
    problem = Problem()
    method, before = GRZO(problem.parameters.items(), lr=1e-2), problem.copy()
    method.step(StepLoss(problem, 0, lambda losses: losses * 0 + 1))
    assert len(method.applied) == 16
    assert set(method.applied.values()) == {0.0}
    assert all(torch.equal(p, before[name]) for name, p in problem.parameters.items())
    assert method.relative([0.5, 0.5, 0.5]) == [0.0, 0.0, 0.0]


def test_a_batch_of_one_example_gives_a_step_of_zero():
    problem = released.Problem(read("grzo"))
    method, before = GRZO(problem.model.named_parameters(), lr=1e-2), problem.weights()
    method.step(Rows(problem, [3]))
    assert list(method.applied.values()) == [0.0]
    assert all(torch.equal(after, before[name]) for name, after in problem.weights().items())


def test_a_run_goes_on_where_the_last_batch_of_an_epoch_has_one_example(tmp_path):
    settings = (*TINY, "method=grzo", "method.lr=1e-3", "steps=2", "task.splits.mini.train=5", f"runs_dir={tmp_path}")
    row = run(compose(*settings))
    assert (row["state"], row["forwards"], row["examples_seen"]) == ("finished", 4, 5)


@pytest.mark.parametrize("setting", ["batch_size=1", "task.splits.mini.train=1"])
def test_batches_that_all_have_one_example_are_refused_before_there_is_a_record(setting, tmp_path):
    words = [word for word in (*TINY, "method=grzo", "steps=2") if word.split("=")[0] != setting.split("=")[0]]
    with pytest.raises(
        ConfigError, match=r"^batch_size=., . training examples: method=grzo weighs [^\n]* needs 2 or more of both$"
    ):
        run(compose(*words, setting, f"runs_dir={tmp_path}"))
    assert not list(tmp_path.iterdir())


def test_a_closure_without_losses_per_example_is_refused():
    problem = Problem()
    with pytest.raises(TypeError, match="losses per example were asked of a closure that gives their mean alone"):
        GRZO(problem.parameters.items(), lr=1e-2).step(lambda: problem.loss(0))
