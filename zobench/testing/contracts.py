"""The contracts of a method, one function each: it returns, or says in a ``Broken`` what broke and what to do.

``unittest.SkipTest`` says that a contract has nothing to hold a method to. pytest reports both.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import SkipTest

import torch
from torch import Tensor

from zobench.record import checkpoint
from zobench.testing.cases import LR, SEED, Case
from zobench.testing.evidence import Broken, Watched, estimates_of, same_state, same_weights, share_outside, tensors_of
from zobench.testing.problem import Problem, StepLoss
from zobench.testing.ties import ties
from zobench.testing.uses import cores, factors, masks
from zobench.testing.walk import END, STOP, walk
from zobench.zo import Diverged, Method, lens

DTYPES = (torch.float32, torch.bfloat16)
#: what one step in place may leave of a round trip in the weights, which are of size 1
ROUNDING = 5e-6


def purity(case: Case) -> None:
    """A draw is a function of key, slot and frozen state: the same again, whatever was drawn between."""
    _, method = _trained(case, steps=2)
    _zeroth_order(method)
    mine, other = method.direction(), method.direction(1)
    first = estimates_of(method, mine)
    torch.manual_seed(1)
    estimates_of(method, other)
    for slot, drawn, again in zip(method.slots, first, estimates_of(method, mine), strict=True):
        if not torch.equal(drawn, again):
            raise Broken(
                f"{slot.name}: the same key drew two different directions. A draw must depend on key, slot and state "
                "alone: take its numbers from zobench.zo.noise or another perturbation, not from torch's generator"
            )
    if all(map(torch.equal, first, estimates_of(method, other))):
        raise Broken("two keys drew the same direction: draw(slot, key) must depend on its key")


def replay(case: Case) -> None:
    """The direction that is applied was measured, in this step or before; a linear rule moves weights along it."""
    problem = Problem(torch.float64, case.device)
    method = case.method(problem)
    _zeroth_order(method)
    watched = Watched(method)
    problem.train(method, 3)
    before = problem.copy()
    watched.applies = True
    problem.train(method, 1)
    if not watched.steps:
        raise Broken("the step ended without a call of self.apply(estimate), the only writer of weights")
    for place, slot in enumerate(method.slots):
        offsets = [offset[place] for offset in watched.offsets]
        for estimate in watched.estimates:
            outside = share_outside(estimate[place], offsets)
            if outside > 1e-6:
                raise Broken(
                    f"{slot.name}: {outside:.0%} of the applied direction lies along none of the {len(offsets)} "
                    "directions at which losses were measured. Give self.apply() a weighted sum of the directions (the "
                    "keys) that oracle.losses() was given"
                )
        if method.rule.linear and not method.weight_decay:
            expected = before[slot.name]
            for step in watched.steps:
                expected = expected + step[place]
            off = float((slot.param - expected).abs().max())
            if off > 1e-12:
                raise Broken(
                    f"{slot.name}: the weights are {off:.1e} from where lr times the applied direction brings them, "
                    "draw by draw. Either something besides self.apply() and self.move() wrote weights, or "
                    "accumulate_(), write_() or move() of the perturbation is not the sum of add_(draw()) that defines "
                    "it"
                )


def restore(case: Case) -> None:
    """At a learning rate of 0 steps leave the weights as they were: to the bit in exact mode, else to rounding."""
    problem = Problem(device=case.device)
    before, method = problem.copy(), case.method(problem, lr=0.0)
    if method.displaces:
        raise SkipTest("leaves the weights elsewhere, as the released code does")
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
    run, method = walk(case, torch.float32), case.method(Problem(device=case.device))
    for step, taken in enumerate(run.forwards):
        if taken != (declared := method.forwards_at(step)):
            raise Broken(
                f"step {step} took {taken} forward passes and {declared} are declared: set forwards_per_step, or "
                "forwards_at(step) where steps differ"
            )
    if run.backwards != (declared := len(run.losses) * method.backwards_per_step):
        raise Broken(f"{run.backwards} backward passes, {declared} declared: set backwards_per_step")


def resume(case: Case) -> None:
    """Stopping at a step and going on from files equals not stopping, bit for bit."""
    for dtype in DTYPES:
        uncut, first, second = walk(case, dtype), Problem(dtype, case.device), Problem(dtype, case.device)
        half = case.method(first).slots
        checkpoint.restore(half, {slot.name: uncut.weights[STOP][slot.name] for slot in half})
        rest = case.method(second)
        with TemporaryDirectory() as folder:
            checkpoint.save_snapshot(Path(folder), half, uncut.states[STOP])
            snapshot = checkpoint.load_snapshot(Path(folder), STOP)
        if snapshot is None:
            raise Broken("state_dict() lost the step: extend what super().state_dict() gives")
        checkpoint.restore(rest.slots, snapshot.weights)
        rest.load_state_dict(snapshot.method)
        loaded = f"{dtype}: loaded at step {STOP}"
        same_state(uncut.states[STOP], rest.state_dict(), loaded, "what load_state_dict() was given")
        second.train(rest, END - STOP)
        what = f"{dtype}: stopped at step {STOP} and gone on to {END}"
        hint = "all that changes along a run belongs into state_dict() and load_state_dict()"
        same_weights(uncut.weights[END], second.parameters, what, hint)
        same_state(uncut.states[END], rest.state_dict(), what, "the run that never stopped")


def rebuild(case: Case) -> None:
    """The losses that a run saw give its weights and its state again, bit for bit, without the problem."""
    for dtype in DTYPES:
        problem = Problem(dtype, case.device)
        again = case.method(problem)
        if not again.replays:
            raise SkipTest("takes from the model what losses do not give: gradients, or activations")
        measured = walk(case, dtype)
        for losses in measured.losses:
            try:
                again.replay(losses, measured.missed)
            except ValueError as error:
                raise Broken(f"{dtype}: a step is not made again from its losses: {error}") from error
        what, hint = f"{dtype}: {END} steps", "a step must be a function of its losses, its keys and the state"
        same_weights(measured.weights[END], problem.parameters, f"{what} made again from their losses", hint)
        same_state(measured.states[END], again.state_dict(), f"{what} made again", "the run that measured them")


def same_seed_same_path(case: Case) -> None:
    """A run is a function of its seed: the same one walks the same path, another one walks elsewhere."""
    first, second, other = walk(case, torch.float32), Problem(device=case.device), Problem(device=case.device)
    for problem, seed, steps in ((second, SEED, END), (other, SEED + 1, STOP)):
        method = case.method(problem, seed=seed)
        problem.train(method, steps)
    same_weights(
        first.weights[END], second.parameters, "two runs of one seed", "draw from keys, self.direction() or self.keys()"
    )
    elsewhere = any(not torch.equal(p, other.parameters[name]) for name, p in first.weights[STOP].items())
    if method.trains and not method.backwards_per_step and not elsewhere:
        raise Broken("two seeds walked the same path: pass seed on to Method, whose keys come from it")


def state_bytes(case: Case) -> None:
    """``state_bytes`` is what the method really holds: tensors of its objects, weights and duplicates aside."""
    problem, method = _trained(case, steps=2)
    held = tensors_of(method, {id(x) for x in (*problem.parameters.values(), method.oracle.closure)})
    held += [slot.param.grad for slot in method.slots if slot.param.grad is not None]
    size = sum(x.numel() * x.element_size() for x in held)
    if method.state_bytes() != size:
        raise Broken(
            f"state_bytes() says {method.state_bytes()}, the method's objects hold {size} bytes in tensors besides the "
            f"weights, of shapes {[tuple(x.shape) for x in held]}: count what is held between steps, drop what is not"
        )


def learns(case: Case) -> None:
    """The loss falls by a fifth within 300 steps, at one of four rates: how long a step is, methods say."""
    start, ends = Problem(device=case.device).mean_loss(), []
    for lr in (LR, LR / 10, 3 * LR / 100, 1000 * LR):
        problem = Problem(device=case.device)
        method = case.method(problem, lr=lr)
        if not method.trains:
            raise SkipTest("does not train")
        for _ in range(6):
            problem.train(method, 50)
            if problem.mean_loss() < 0.8 * start:
                return
        ends.append(f"{problem.mean_loss():.3f} at lr={lr:g}")
    raise Broken(
        f"the loss starts at {start:.3f} and after 300 steps is {', '.join(ends)}: look at the sign and the size of "
        "the estimate, which should be close to the gradient in the mean"
    )


def diverges(case: Case) -> None:
    """A loss that is not finite stops the run, with the weights as they were before the step."""
    problem, method = _trained(case, steps=2)
    if not method.trains:
        raise SkipTest("does not train")
    before = problem.copy()
    method.oracle.further = lambda first, count: not_finite

    def not_finite() -> Tensor:
        return problem.loss(0) * math.nan

    try:
        method.step(StepLoss(problem, 0, lambda losses: losses * math.nan))
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
        for _ in range(2):
            plain.train(unseen, 2)
            looked.train(seen, 2)
            closure = StepLoss(looked, seen.t)
            first, second = (lens.look(seen, closure, draws=3) for _ in range(2))
            if first != second:
                raise Broken(f"{dtype}: two looks at one step saw {first} and {second}: state moved outside the step")
        what, hint = (
            f"{dtype}: with and without the lens",
            "a copy of the method (deepcopy) must share no state with it",
        )
        same_weights(plain.parameters, looked.parameters, what, hint)
        same_state(unseen.state_dict(), seen.state_dict(), what, "the run without it")


Contract = Callable[[Case], None]
CONTRACTS: tuple[Contract, ...] = (
    purity, replay, restore, ledger, resume, rebuild, same_seed_same_path, state_bytes, diverges, ties,
    cores, factors, masks,
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
