"""The matrix of families: their losses at offsets, by factors and stacked, beside those of weights that were moved."""

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.overrides import TorchFunctionMode

from helpers import matrix
from zobench.errors import UserError
from zobench.models.adapters import named_parameters
from zobench.objective import MeanLoss, Objective, check
from zobench.testing.definition import moved
from zobench.zo import ZERO, Direction, Oracle, Perturbation, make_slots
from zobench.zo.perturbations.aligned_subspace import AlignedSubspace
from zobench.zo.perturbations.low_rank import LowRank

U, V = Direction.ray(3), Direction.ray(11)
#: both signs of a direction, none, a sum of two, and one of them again
OFFSETS = [0.02 * U, -0.02 * U, ZERO, 0.03 * V - 0.01 * U, 0.02 * U]
#: how far losses may be from those of moved weights, as a share
ALLOWED = {torch.float64: 1e-12, torch.float32: 1e-5}
#: a family of which rounding grows some hundred times along the way, in fp64 as in fp32: how much wider its bounds are
WIDER = {"mamba": 4.0}
#: ways to run a batch
WAYS = {
    "packed": {},
    "padded": {"length_buckets": 1},
    "two parts": {"length_buckets": 2},
    "micro-batches": {"micro": 3},
    "padded micro-batches": {"micro": 3, "length_buckets": 1},
    "all positions": {"trim_last_layer": False, "shared_prompt": False},
}


class AllDouble(TorchFunctionMode):
    """Has models that compute in fp32, whatever their dtype, compute in fp64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        func = torch.Tensor.double if func is torch.Tensor.float else func
        args = [torch.float64 if arg is torch.float32 else arg for arg in args]
        kwargs = {name: torch.float64 if arg is torch.float32 else arg for name, arg in (kwargs or {}).items()}
        return func(*args, **kwargs)


class Doubled(MeanLoss):
    """A mean loss in fp64, whatever a model casts to."""

    def __call__(self):
        with AllDouble():
            return super().__call__()

    def losses(self, copies=1, examples=False):
        with AllDouble():
            return super().losses(copies, examples)


@dataclass(frozen=True)
class Cell:
    """What was found of a family under a tuning, run in one way.

    Attributes:
        path: of the forward passes.
        ways: how one offset was evaluated, and how several were.
        alone: the largest difference of losses at one offset at a time to those of moved weights, as a share.
        together: that of several in one forward pass.
        shift: the largest change of a loss that an offset makes, as a share.
        refusal: why the family is not run.
    """

    path: str
    ways: tuple[str, str] = ("", "")
    alone: float = math.nan
    together: float = math.nan
    shift: float = math.nan
    refusal: str = ""

    @property
    def stacked(self) -> bool:
        return self.ways[1].endswith("stacked")


def low_rank(slots):
    return LowRank(rank=2)


def aligned(slots):
    subspace = AlignedSubspace(rank=3)
    subspace.randomise(slots, 3)
    return subspace


@contextmanager
def moved_to(slots, perturbation: Perturbation, offset: Direction):
    """A context in which weights are at an offset, by the definition of directions."""
    before = [slot.param.detach().clone() for slot in slots]
    there = [moved(perturbation, slot, offset).detach() for slot in slots]
    with torch.no_grad():
        for slot, value in zip(slots, there, strict=True):
            slot.param.copy_(value)
        yield
        for slot, old in zip(slots, before, strict=True):
            slot.param.copy_(old)


def tuned(name, tuning, dtype=torch.float32):
    """A family's model under a tuning in a dtype, and its slots."""
    model, named = matrix.tune(name, tuning)
    names = [n for n, _ in named]
    model = model.to(dtype)
    if dtype == torch.float64 and hasattr(model.config, "_experts_implementation"):
        model.config._experts_implementation = "eager"  # torch multiplies experts together in fp32 and below alone
    by_name = dict(named_parameters(model))
    return model, make_slots((n, by_name[n]) for n in names)


def loss_of(model, batch, task=matrix.CLASSIFICATION, cache_gib=0.0, micro=None, **how):
    """The mean loss of a batch on a model's fastest path that fits."""
    objective = Objective(model, None, task, cache_gib=cache_gib, **how)
    check.settle(objective, batch)
    with torch.no_grad():
        objective.prepare(batch)
    kind = Doubled if next(model.parameters()).dtype == torch.float64 else MeanLoss
    return kind(objective, batch, rows=1, micro=micro)  # so few rows that the side path pays everywhere


def losses_at(slots, perturbation, loss, offsets=OFFSETS, mode="in_place", stack_rows=10**6):
    """(losses at the offsets, how they were evaluated); the weights are as before."""
    oracle = Oracle(slots, perturbation, mode, stack_rows)
    oracle.begin(loss)
    found = oracle.losses(offsets)
    way = oracle.evaluation
    oracle.settle()
    return found, way


def measure(name, case=("full", 0.0), dtype=torch.float32, ways=tuple(WAYS), turn=0):
    """The cells of a family under a tuning, by way to run a batch; batches and distributions take turns from one on."""
    cells = {}
    try:
        model, slots = tuned(name, case[0], dtype)
    except UserError as error:
        return dict.fromkeys(ways, Cell("", refusal=str(error)))
    perturbations = [low_rank(slots), aligned(slots)]
    for place, way in enumerate(ways, turn):
        try:
            loss = loss_of(model, matrix.BATCHES[place % 2], cache_gib=case[1], **WAYS[way])
        except UserError as error:
            cells[way] = Cell("", refusal=str(error))
            continue
        mode = "exact" if place == 1 else "in_place"
        cells[way] = compare(slots, loss, perturbations[place // 2 % 2], mode)
    return cells


def compare(slots, loss, perturbation, mode="in_place", offsets: Sequence[Direction] = OFFSETS):
    """The cell of a loss and a distribution."""
    alone, way = losses_at(slots, perturbation, loss, offsets, mode, stack_rows=0)
    together, its = losses_at(slots, perturbation, loss, offsets, mode)
    expected = []
    for offset in offsets:
        with moved_to(slots, perturbation, offset):
            expected.append(float(loss()))
    still = expected[offsets.index(ZERO)]

    def share(found):
        return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))

    shift = max(abs(x - still) / abs(still) for x in expected)
    return Cell(loss.objective.forward_path, (way, its), share(alone), share(together), shift)
