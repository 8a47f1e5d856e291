"""The contracts of design: one test each, over every method, variant and update rule found in conf/."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.contracts import (
    METHODS,
    Problem,
    check_resume,
    every,
    make,
    node_of,
    train,
)
from helpers.definition import moved

from zobench.config import instantiate
from zobench.zo import Diverged


@pytest.mark.parametrize("name", METHODS)
def test_yaml_and_signature_agree(name):
    """Every key of the YAML file is an argument, and every argument a user may set is in the YAML file."""
    node = node_of(name)
    known = instantiate.keyword_arguments(instantiate.locate(node["_target_"], name))
    given = set(node) - {"_target_"}
    assert given <= set(known)
    runner_sets = {"seed", "total_steps", "perturbation"}
    assert set(known) - runner_sets == given


@every
def test_replay(name, overrides):
    """The applied direction, redrawn from its keys, explains the change of the weights (linear rules)."""
    problem = Problem(torch.float64)
    method = make(problem, name, overrides)
    train(problem, method, 3)
    before = problem.copy()
    train(problem, method, 1)
    if method.applied is None or not method.rule.linear:
        pytest.skip("the step is not a multiple of the estimate")
    for slot in method.slots:
        start = replace(slot, param=before[slot.name])
        expected = moved(method.perturbation, start, method.applied * -1e-2)
        torch.testing.assert_close(slot.param, expected, rtol=0, atol=1e-12)


@every
def test_restore(name, overrides):
    """With a learning rate of 0 a step leaves the weights where they were."""
    if "lr" not in node_of(name):
        pytest.skip("has no learning rate")
    problem = Problem()
    before = problem.copy()
    method = make(problem, name, overrides, lr=0.0)
    train(problem, method, 5)
    for key, old in before.items():
        exact = "method.mode=exact" in overrides
        torch.testing.assert_close(problem.parameters[key].detach(), old, rtol=0, atol=0 if exact else 5e-6)


@every
def test_ledger(name, overrides):
    problem = Problem()
    method = make(problem, name, overrides)
    train(problem, method, 7)
    steps = 7 if method.trains else 0
    assert method.oracle.forwards == sum(method.forwards_at(step) for step in range(steps))
    assert method.oracle.backwards == steps * method.backwards_per_step


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_resume(name, overrides, dtype, tmp_path):
    """Stopping at a step and going on from files equals not stopping, bit for bit."""
    check_resume(lambda: Problem(dtype), name, overrides, tmp_path)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_losses_rebuild_weights_and_state(name, overrides, dtype):
    """The losses that a run saw give its weights and its method's state again, bit for bit, without the problem."""
    problem, other = Problem(dtype), Problem(dtype)
    method, again = make(problem, name, overrides), make(other, name, overrides)
    seen = []
    if method.backwards_per_step:
        with pytest.raises(ValueError, match="gradients"):
            again.replay([1.0], [])
        return
    for _ in range(6 * method.trains):
        train(problem, method, 1)
        seen.append(list(method.oracle.seen))
    for losses in seen:
        again.replay(losses, method.oracle.missed)
    for key, tensor in problem.parameters.items():
        assert torch.equal(tensor, other.parameters[key]), key
    state, rebuilt = method.state_dict(), again.state_dict()
    assert state.keys() == rebuilt.keys()
    for key, value in state.items():
        same = torch.equal(value, rebuilt[key]) if isinstance(value, torch.Tensor) else value == rebuilt[key]
        assert same, key


@every
def test_same_seed_same_path(name, overrides):
    paths = []
    for _ in range(2):
        problem = Problem()
        train(problem, make(problem, name, overrides), 4)
        paths.append(problem.copy())
    for key in paths[0]:
        assert torch.equal(paths[0][key], paths[1][key])


@every
def test_state_bytes(name, overrides):
    """``state_bytes`` equals what the method really holds: tensors of its objects, weights and duplicates aside."""
    problem = Problem()
    method = make(problem, name, overrides)
    train(problem, method, 2)
    owned = {id(p) for p in problem.parameters.values()}
    found = tensors_of(method, owned) + [s.param.grad for s in method.slots if s.param.grad is not None]
    assert method.state_bytes() == sum(t.numel() * t.element_size() for t in found)


def tensors_of(thing, seen):
    """All tensors reachable from an object, each once."""
    if id(thing) in seen or isinstance(thing, type) or (callable(thing) and not hasattr(thing, "__dict__")):
        return []
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return [thing]
    if isinstance(thing, dict):
        return [t for v in [*thing.keys(), *thing.values()] for t in tensors_of(v, seen)]
    if isinstance(thing, list | tuple | set):
        return [t for v in thing for t in tensors_of(v, seen)]
    if type(thing).__module__.startswith(("zobench", "torch.optim")) and hasattr(thing, "__dict__"):
        return [t for v in vars(thing).values() for t in tensors_of(v, seen)]
    return []


@every
def test_learns(name, overrides):
    """The loss falls, with one of three learning rates, on a problem that every method should manage."""
    if "lr" not in node_of(name):
        pytest.skip("does not train")
    start, ends = mean_loss(Problem()), [math.inf]
    for lr in (1e-2, 1e-3, 3e-4):
        if min(ends) >= 0.8 * start:
            problem = Problem()
            train(problem, make(problem, name, overrides, lr=lr), 300)
            ends.append(mean_loss(problem))
    assert min(ends) < 0.8 * start


def mean_loss(problem):
    return float(torch.stack([problem.loss(i).detach() for i in range(50)]).mean())


@every
def test_a_non_finite_loss_diverges(name, overrides):
    problem = Problem()
    method = make(problem, name, overrides)
    if not method.trains:
        pytest.skip("does not train")
    train(problem, method, 2)
    before = problem.copy()
    with pytest.raises(Diverged):
        method.step(lambda: problem.loss(0) * float("nan"))
    for key, old in before.items():
        torch.testing.assert_close(problem.parameters[key].detach(), old, rtol=0, atol=1e-5)
