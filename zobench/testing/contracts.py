"""The contracts of a method, one function each: it returns, or says in a ``Broken`` what broke and what to do.

``unittest.SkipTest`` says that a contract has nothing to hold a method to. pytest reports both.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from zobench.record import checkpoint
from zobench.testing.cases import LR, SEED, Case
from zobench.testing.definition import moved
from zobench.testing.problem import Problem
from zobench.zo import Direction, Diverged, Method, lens
from zobench.zo.method import StateDict

DTYPES = (torch.float32, torch.bfloat16)
#: what one step in place may leave of a round trip in the weights, which are of size 1
ROUNDING = 5e-6
#: modules whose objects hold no state of a method
_FOREIGN = ("builtins", "torch", "numpy", "numba", "collections", "functools")


class Broken(AssertionError):
    """A method that does not keep a contract."""


def purity(case: Case) -> None:
    """A draw is a function of key, slot and frozen state: the same again, whatever was drawn between."""
    _, method = _trained(case, steps=2)
    _zeroth_order(method)
    mine, other = method.direction(), method.direction(1)
    first = _estimates(method, mine)
    torch.manual_seed(1)
    _estimates(method, other)
    for slot, drawn, again in zip(method.slots, first, _estimates(method, mine), strict=True):
        if not torch.equal(drawn, again):
            raise Broken(
                f"{slot.name}: the same key drew two different directions. A draw must depend on key, slot and state "
                "alone: take its numbers from zobench.zo.noise or another perturbation, not from torch's generator"
            )
    if all(map(torch.equal, first, _estimates(method, other))):
        raise Broken("two keys drew the same direction: draw(slot, key) must depend on its key")


def replay(case: Case) -> None:
    """The direction that is applied was measured; with a linear rule, it is what moves the weights."""
    problem, method = _trained(case, torch.float64, steps=3)
    _zeroth_order(method)
    before, offsets, applied = problem.copy(), _measured(method), _applied(method, problem)
    problem.train(method, 1)
    if not applied:
        raise Broken("the step ended without a call of self.apply(estimate), the only writer of weights")
    for place, slot in enumerate(method.slots):
        estimates = [estimate[place] for estimate, _ in applied]
        for estimate in estimates:
            outside = _share_outside(estimate, [offset[place] for offset in offsets])
            if outside > 1e-6:
                raise Broken(
                    f"{slot.name}: {outside:.0%} of the applied direction lies along none of the {len(offsets)} "
                    "directions at which losses were measured. Give self.apply() the directions (their keys) that "
                    "oracle.losses() was given, weighted; state that draws depend on moves in begin() or after() only"
                )
        if method.rule.linear and not method.weight_decay:
            expected = before[slot.name]
            for _, step in applied:
                expected = expected + step[place]
            off = float((slot.param - expected).abs().max())
            if off > 1e-12:
                raise Broken(
                    f"{slot.name}: the weights are {off:.1e} from where lr times the applied direction brings them, "
                    "draw by draw. Either something besides self.apply() wrote weights, or accumulate_(), write_() or "
                    "move() of the perturbation is not the sum of add_(draw()) that defines it"
                )


def restore(case: Case) -> None:
    """At a learning rate of 0 steps leave the weights as they were: to the bit in exact mode, else to rounding."""
    problem = Problem(device=case.device)
    before, method = problem.copy(), case.method(problem, lr=0.0)
    problem.train(method, 5)
    allowed = 0.0 if method.oracle.mode == "exact" else ROUNDING
    for name, old in before.items():
        off = float((problem.parameters[name].detach() - old).abs().max())
        if not off <= allowed:
            raise Broken(
                f"{name}: five steps at a learning rate of 0 moved the weights by {off:.1e} ({allowed:g} allowed). "
                "Only the oracle may move weights to measure, and only self.apply() may write them, times lr"
            )


def ledger(case: Case) -> None:
    """A step takes the forward and backward passes that the method declares."""
    problem = Problem(device=case.device)
    method = case.method(problem)
    for step in range(7 if method.trains else 0):
        before = method.oracle.forwards
        problem.train(method, 1)
        taken, declared = method.oracle.forwards - before, method.forwards_at(step)
        if taken != declared:
            raise Broken(
                f"step {step} took {taken} forward passes and {declared} are declared: set forwards_per_step, or "
                "forwards_at(step) where steps differ"
            )
    declared = method.t * method.backwards_per_step
    if method.oracle.backwards != declared:
        raise Broken(f"{method.oracle.backwards} backward passes, {declared} declared: set backwards_per_step")


def resume(case: Case) -> None:
    """Stopping at a step and going on from files equals not stopping, bit for bit."""
    for dtype in DTYPES:
        whole, first, second = (Problem(dtype, case.device) for _ in range(3))
        whole.train(uncut := case.method(whole), 9)
        first.train(half := case.method(first), 4)
        rest = case.method(second)
        with TemporaryDirectory() as folder:
            checkpoint.save_snapshot(Path(folder), half.slots, half.state_dict())
            snapshot = checkpoint.load_snapshot(Path(folder), 4)
        if snapshot is None:
            raise Broken("state_dict() lost the step: extend what super().state_dict() gives")
        checkpoint.restore(rest.slots, snapshot.weights)
        rest.load_state_dict(snapshot.method)
        _same_state(
            half.state_dict(), rest.state_dict(), f"{dtype}: loaded at step 4", "what load_state_dict() was given"
        )
        second.train(rest, 5)
        what = f"{dtype}: stopped at step 4 and gone on to 9"
        _same_weights(
            whole, second, what, "all that changes along a run belongs into state_dict() and load_state_dict()"
        )
        _same_state(uncut.state_dict(), rest.state_dict(), what, "the run that never stopped")


def rebuild(case: Case) -> None:
    """The losses that a run saw give its weights and its state again, bit for bit, without the problem."""
    for dtype in DTYPES:
        problem, other = Problem(dtype, case.device), Problem(dtype, case.device)
        method, again = case.method(problem), case.method(other)
        if method.backwards_per_step:
            raise SkipTest("steps by gradients, which losses do not give")
        seen = []
        for _ in range(6 if method.trains else 0):
            problem.train(method, 1)
            seen.append(list(method.oracle.seen))
        for losses in seen:
            again.replay(losses, method.oracle.missed or [])
        what = f"{dtype}: six steps made again from their losses"
        _same_weights(problem, other, what, "a step must be a function of its losses, its keys and the state")
        _same_state(method.state_dict(), again.state_dict(), what, "the run that measured them")


def same_seed_same_path(case: Case) -> None:
    """A run is a function of its seed: the same one walks the same path, another one walks elsewhere."""
    first, second, other = (Problem(device=case.device) for _ in range(3))
    for problem, seed in ((first, SEED), (second, SEED), (other, SEED + 1)):
        method = case.method(problem, seed=seed)
        problem.train(method, 4)
    _same_weights(first, second, "two runs of one seed", "draw from keys, self.direction() or self.keys(), alone")
    elsewhere = any(not torch.equal(p, other.parameters[name]) for name, p in first.parameters.items())
    if method.trains and not method.backwards_per_step and not elsewhere:
        raise Broken("two seeds walked the same path: pass seed on to Method, whose keys come from it")


def state_bytes(case: Case) -> None:
    """``state_bytes`` is what the method really holds: tensors of its objects, weights and duplicates aside."""
    problem, method = _trained(case, steps=2)
    held = _tensors(method, {id(p) for p in problem.parameters.values()})
    held += [slot.param.grad for slot in method.slots if slot.param.grad is not None]
    size = sum(x.numel() * x.element_size() for x in held)
    if method.state_bytes() != size:
        raise Broken(
            f"state_bytes() says {method.state_bytes()}, the method's objects hold {size} bytes in tensors besides the "
            f"weights, of shapes {[tuple(x.shape) for x in held]}: count what is held between steps, drop what is not"
        )


def learns(case: Case) -> None:
    """The loss falls by a fifth in 300 steps, with one of three learning rates."""
    start, ends = Problem(device=case.device).mean_loss(), {}
    for lr in (LR, LR / 10, 3 * LR / 100):
        problem = Problem(device=case.device)
        method = case.method(problem, lr=lr)
        if not method.trains:
            raise SkipTest("does not train")
        problem.train(method, 300)
        ends[lr] = problem.mean_loss()
        if ends[lr] < 0.8 * start:
            return
    raise Broken(f"the loss starts at {start:.3f} and ends at {ends} by learning rate: check the sign of the estimate")


def diverges(case: Case) -> None:
    """A loss that is not finite stops the run, with the weights as they were before the step."""
    problem, method = _trained(case, steps=2)
    if not method.trains:
        raise SkipTest("does not train")
    before = problem.copy()
    try:
        method.step(lambda: problem.loss(0) * math.nan)
    except Diverged:
        pass
    else:
        raise Broken("a loss of nan was stepped over: let Diverged pass, and look at every loss")
    for name, old in before.items():
        off = float((problem.parameters[name].detach() - old).abs().max())
        if not off <= 1e-5:
            raise Broken(f"{name}: a step that saw a loss of nan left the weights {off:.1e} from where it found them")


def leaves_no_trace(case: Case) -> None:
    """The lens measures a twin of the method, and no bit of the run changes by it."""
    for dtype in DTYPES:
        plain, looked = Problem(dtype, case.device), Problem(dtype, case.device)
        for p in (*plain.parameters.values(), *looked.parameters.values()):
            p.requires_grad_(True)
        unseen, seen = case.method(plain), case.method(looked)
        _zeroth_order(seen)
        for _ in range(3):
            plain.train(unseen, 2)
            looked.train(seen, 2)
            closure = partial(looked.loss, seen.t)
            first, second = (lens.look(seen, closure, draws=3) for _ in range(2))
            if first != second:
                raise Broken(f"{dtype}: two looks at one step saw {first} and {second}: state moved outside the step")
        what = f"{dtype}: with and without the lens"
        _same_weights(plain, looked, what, "a copy of the method (copy.deepcopy) must not share state with it")
        _same_state(unseen.state_dict(), seen.state_dict(), what, "the run without it")


Contract = Callable[[Case], None]
CONTRACTS: tuple[Contract, ...] = (
    purity, replay, restore, ledger, resume, rebuild, same_seed_same_path, state_bytes, diverges,
)  # fmt: skip
#: for plain cases: what takes long, and hangs on neither rule nor mode
LONG: tuple[Contract, ...] = (learns, leaves_no_trace)


def pairs(cases: Iterable[Case]) -> dict[str, tuple[Case, Contract]]:
    """What there is to prove of some cases, by name."""
    every = [(case, contract) for case in cases for contract in (*CONTRACTS, *(LONG if case.plain else ()))]
    return {f"{case.name}-{contract.__name__}": (case, contract) for case, contract in every}


def _trained(case: Case, dtype: torch.dtype = torch.float32, *, steps: int) -> tuple[Problem, Method]:
    problem = Problem(dtype, case.device)
    method = case.method(problem)
    problem.train(method, steps)
    return problem, method


def _zeroth_order(method: Method) -> None:
    if not method.trains or method.backwards_per_step:
        raise SkipTest("makes no zeroth-order estimates")


def _estimates(method: Method, direction: Direction) -> list[Tensor]:
    return [method.perturbation.estimate(slot, direction) for slot in method.slots]


def _measured(method: Method) -> list[list[Tensor]]:
    """A list that fills with the offsets at which losses are measured, as tensors by slot."""
    measured: list[list[Tensor]] = []
    losses = method.oracle.losses

    def watched(offsets: Iterable[Direction]) -> list[float]:
        offsets = list(offsets)
        measured.extend(_estimates(method, offset) for offset in offsets)
        return losses(offsets)

    method.oracle.losses = watched  # type: ignore[method-assign]
    return measured


def _applied(method: Method, problem: Problem) -> list[tuple[list[Tensor], list[Tensor]]]:
    """A list that fills with what is applied: the estimate, and ``−lr`` times it draw by draw, as tensors by slot."""
    calls: list[tuple[list[Tensor], list[Tensor]]] = []
    apply = method.apply

    def watched(estimate: Direction) -> None:
        zero = [replace(slot, param=torch.zeros_like(slot.param)) for slot in method.slots]
        steps = [moved(method.perturbation, slot, estimate * -method.lr) for slot in zero]
        calls.append((_estimates(method, estimate), steps))
        apply(estimate)

    method.apply = watched  # type: ignore[method-assign]
    return calls


def _share_outside(estimate: Tensor, offsets: list[Tensor]) -> float:
    """The share of an estimate's length that lies outside the span of the offsets."""
    size = float(estimate.norm())
    if not offsets or size == 0:
        return float(size > 0)
    span = torch.stack([offset.flatten() for offset in offsets])
    span = span[span.norm(dim=1) > 0]
    basis, lengths, _ = torch.linalg.svd((span / span.norm(dim=1, keepdim=True)).T, full_matrices=False)
    basis = basis[:, lengths > 1e-9 * lengths.max()]
    rest = estimate.flatten() - basis @ (basis.T @ estimate.flatten())
    return float(rest.norm()) / size


def _same_weights(one: Problem, other: Problem, what: str, hint: str) -> None:
    for name, p in one.parameters.items():
        if not torch.equal(p, other.parameters[name]):
            off = float((p.detach() - other.parameters[name].detach()).abs().max())
            raise Broken(f"{what}: {name} differs by up to {off:.1e}, and must not by a bit: {hint}")


def _same_state(one: StateDict, other: StateDict, what: str, whose: str) -> None:
    if one.keys() != other.keys():
        names = ", ".join(sorted(one.keys() ^ other.keys()))
        raise Broken(f"{what}: state_dict() has other keys than {whose}: {names}")
    for key, value in one.items():
        same = torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key]  # type: ignore[arg-type]
        if not same:
            raise Broken(f"{what}: {key} in state_dict() is not that of {whose}, bit for bit")


def _tensors(thing: Any, seen: set[int]) -> list[Tensor]:
    """All tensors reachable from an object, each once."""
    if id(thing) in seen or isinstance(thing, type):
        return []
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        return [thing]
    if isinstance(thing, Mapping):
        return [x for item in [*thing.keys(), *thing.values()] for x in _tensors(item, seen)]
    if isinstance(thing, list | tuple | set):
        return [x for item in thing for x in _tensors(item, seen)]
    module = type(thing).__module__
    if module.split(".")[0] not in _FOREIGN or module.startswith("torch.optim"):
        return [x for item in vars(thing).values() for x in _tensors(item, seen)] if hasattr(thing, "__dict__") else []
    return []
