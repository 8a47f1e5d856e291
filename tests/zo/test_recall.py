"""An oracle that goes on where another one stopped moves the slots that the other one moved."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from zobench.methods.mezo import MeZO
from zobench.methods.pgap import PGAP
from zobench.record.trajectory import Trajectory
from zobench.zo.placement import walked_matrices

ROWS = 64


class Loss:
    """A loss of two matrices, of which one is cheaper to move with so many rows."""

    rows = ROWS

    def __init__(self, params):
        self.params = params

    def __call__(self):
        small, large = self.params
        torch.manual_seed(0)
        hidden = torch.tanh(F.linear(torch.randn(ROWS, 6), small))
        return F.linear(hidden, large).square().mean()


def weights():
    torch.manual_seed(1)
    return [torch.randn(32, 6), torch.randn(400, 32)]


def made(kind=MeZO, **settings):
    params = weights()
    settings = {"distribution": "low_rank", "rank": 2} | settings if kind is MeZO else settings
    method = kind(list(zip(["small", "large"], params, strict=True)), lr=1e-2, seed=3, **settings)
    return method, Loss(params)


def steps(method, loss, count):
    return [(method.step(loss), list(method.oracle.seen))[1] for _ in range(count)]


def same(one, other):
    return all(torch.equal(a.param, b.param) for a, b in zip(one.slots, other.slots, strict=True))


@pytest.mark.parametrize("mode", ["exact", "in_place"])
def test_steps_after_a_replay_measure_as_those_of_an_undisturbed_run(mode):
    method, loss = made(mode=mode)
    seen = steps(method, loss, 5)
    resumed, loss = made(mode=mode)
    for losses in seen[:2]:
        resumed.replay(losses, method.oracle.missed)
    assert steps(resumed, loss, 3) == seen[2:]
    assert resumed.oracle.evaluation == method.oracle.evaluation == f"side and {mode.replace('in_place', 'walk')}"
    assert same(method, resumed)


@pytest.mark.parametrize(("kind", "settings"), [(MeZO, {}), (PGAP, {"rank": 3, "refresh": 2, "total_steps": 6})])
def test_losses_of_a_version_that_moved_all_matrices_are_followed_by_moving_them(kind, settings):
    method, loss = made(kind, **settings)
    method.oracle.recall(walked_matrices(method.slots, method.perturbation))
    seen = steps(method, loss, 6)
    assert method.oracle.evaluation == "walk"
    for side in (False, True):
        again, loss = made(kind, **settings)
        Trajectory(Path("trajectory.jsonl"), steps=seen[:4], side=side).follow(again, 4)
        steps(again, loss, 2)
        assert same(again, method) == (not side)
        assert ("side" in again.oracle.evaluation) == side
