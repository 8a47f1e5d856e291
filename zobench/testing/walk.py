"""A recorded run of a case, which several contracts hold other runs against."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from zobench.testing.cases import Case
from zobench.testing.problem import Problem
from zobench.zo.closure import Entry
from zobench.zo.method import StateDict

#: steps of a recorded run, and the one after which it could have been stopped
END, STOP = 7, 4


@dataclass(frozen=True)
class Walk:
    """What a run left.

    Attributes:
        losses: what its oracle had seen, step by step.
        forwards: forward passes that each step took.
        backwards: backward passes that all of them took.
        missed: the ``missed`` of its oracle.
        weights: by step, copied after ``STOP`` and ``END`` steps.
        states: the method's ``state_dict`` then.
    """

    losses: list[list[Entry]]
    forwards: list[int]
    backwards: int
    missed: list[str]
    weights: Mapping[int, Mapping[str, Tensor]]
    states: Mapping[int, StateDict]


def walk(case: Case, dtype: torch.dtype) -> Walk:
    """The recorded run of a case; those of the latest case are kept, as its contracts come one after the other."""
    global _latest
    if _latest is not case:
        _latest = case
        _walks.clear()
    if dtype not in _walks:
        _walks[dtype] = _walked(case, dtype)
    return _walks[dtype]


_latest: Case | None = None
_walks: dict[torch.dtype, Walk] = {}


def _walked(case: Case, dtype: torch.dtype) -> Walk:
    problem = Problem(dtype, case.device)
    method = case.method(problem)
    oracle = method.oracle
    losses: list[list[Entry]] = []
    forwards: list[int] = []
    weights: dict[int, Mapping[str, Tensor]] = {}
    states: dict[int, StateDict] = {}
    for step in range(1, END + 1):
        before = oracle.forwards
        problem.train(method, 1)
        if method.trains:
            losses.append(list(oracle.seen))
            forwards.append(oracle.forwards - before)
        if step in (STOP, END):
            state = method.state_dict().items()
            weights[step] = problem.copy()
            states[step] = {name: x.clone() if isinstance(x, Tensor) else x for name, x in state}
    return Walk(losses, forwards, oracle.backwards, oracle.missed or [], weights, states)
