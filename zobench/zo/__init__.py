"""The zeroth-order core: directions, perturbations, oracle, update rules and the base of all methods.

A library in its own right: it imports torch, numpy and numba (triton on a GPU), and nothing else of zobench.
"""

from zobench.zo.core_space import CoreSpace, LiftedAdam
from zobench.zo.direction import ZERO, Direction
from zobench.zo.estimators import central_difference, central_differences, forward_differences, leave_one_out
from zobench.zo.independent import Gaussian, Rademacher
from zobench.zo.keys import mix, tag
from zobench.zo.ledger import Diverged, Unsuited
from zobench.zo.method import FirstOrder, Method, NamedParameters
from zobench.zo.optimizer import ZOOptimizer
from zobench.zo.oracle import Oracle
from zobench.zo.perturbation import Perturbation
from zobench.zo.rules import SGD, Adam, AdaMM, ExponentialAverage, Jaguar, Momentum, Sign, UpdateRule
from zobench.zo.slot import Slot, make_slots
from zobench.zo.spectral import Muon, PowerIteration
from zobench.zo.team import Team, TeamError

__all__ = [
    "SGD",
    "ZERO",
    "AdaMM",
    "Adam",
    "CoreSpace",
    "Direction",
    "Diverged",
    "ExponentialAverage",
    "FirstOrder",
    "Gaussian",
    "Jaguar",
    "LiftedAdam",
    "Method",
    "Momentum",
    "Muon",
    "NamedParameters",
    "Oracle",
    "Perturbation",
    "PowerIteration",
    "Rademacher",
    "Sign",
    "Slot",
    "Team",
    "TeamError",
    "Unsuited",
    "UpdateRule",
    "ZOOptimizer",
    "central_difference",
    "central_differences",
    "forward_differences",
    "leave_one_out",
    "make_slots",
    "mix",
    "tag",
]
