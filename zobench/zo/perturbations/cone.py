"""Directions on a cone about a momentum of the estimates: Gaussian ones, shifted along it."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import one_of, within
from zobench.zo.direction import ZERO, Direction
from zobench.zo.keys import mix, tag
from zobench.zo.perturbations.learned_mean import LearnedMean, square
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

NormOf = Literal["measured", "carried"]
FirstMomentum = Literal["zero", "normal"]


class Cone(LearnedMean):
    """``u(key) = cosθ √d m/‖m‖ + sinθ z(key)`` with ``z ~ N(0, I)``, over all d weights together; z where m is 0.

    m moves only in ``begin``, by what ``learn`` was given in the step before. Its norm is that over all slots.

    State: m, one fp32 copy (fp64 for fp64 weights) of the trainable weights; none where θ is π/2, the plain Gaussian.

    Args:
        theta: half the cone's opening angle θ, in radians.
        norm: ``measured``; or ``carried`` along by the recursion that holds if every z has length √d and is orthogonal
            to m.
        m0: m before the first step, ``zero``, or ``normal`` numbers.
        seed: names m before the first step.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(self, *, theta: float = 1.35, norm: NormOf = "measured", m0: FirstMomentum = "zero", seed: int = 0):
        within(f"(0, {math.pi / 2}]", theta=theta)
        one_of(get_args(NormOf), norm=norm)
        one_of(get_args(FirstMomentum), m0=m0)
        super().__init__(1.0)
        self.cos, self.sin = math.cos(theta) if theta < math.pi / 2 else 0.0, math.sin(theta)
        self.carried, self.m0, self.seed = norm == "carried", m0, seed
        self.length = 0.0
        self._pending, self._beta = ZERO, 0.0

    def learn(self, estimate: Direction, beta: float) -> None:
        """Move m when the next step begins: ``m ← βm + (1−β) estimate``."""
        if self.cos:
            self._pending, self._beta = estimate, beta

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        for slot in slots if self.cos else ():
            m = self.mean[slot.name] if slot.name in self.mean else self._initial(slot)
            self.mean[slot.name] = m.to(slot.param.device)
        if step == 0 and self.m0 == "normal":
            self.length = math.sqrt(self.size)
        if self._pending:
            self._move(slots)
        self._pending = ZERO
        self._aim()

    @property
    def size(self) -> int:
        """d, the number of weights."""
        return sum(m.numel() for m in self.mean.values())

    def _initial(self, slot: Slot) -> Tensor:
        m = torch.zeros(slot.param.shape, dtype=sum_dtype(slot.param), device=slot.param.device)
        if self.m0 == "normal":
            m.copy_(noise.gaussian(mix(self.seed, tag("momentum")), slot.id, m.shape, m.device))
        return m

    def _move(self, slots: Sequence[Slot]) -> None:
        estimate = self._pending * (1.0 - self._beta)
        keep, draws = self._beta + self.shift * sum(estimate.values()), (estimate * self.sigma).nonzero()

        def move(slot: Slot, rows: Rows) -> float:
            m = pick(self.mean[slot.name], rows).mul_(keep)
            self.add_normals_(slot, draws, m, rows)
            return 0.0 if self.carried else square(m)

        measured = math.sqrt(sum(self.over_parts(slots, move)))
        along, across = keep * self.length, math.sqrt(self.size * sum(w**2 for w in draws.values()))
        self.length = math.hypot(along, across) if self.carried else measured

    def _aim(self) -> None:
        self.shift = self.cos * math.sqrt(self.size) / self.length if self.length else 0.0
        self.sigma = self.sin if self.length or not self.cos else 1.0

    def state_dict(self) -> dict[str, Tensor | int | float]:
        state: dict[str, Tensor | int | float] = {f"m.{name}": m for name, m in self.mean.items()}
        return state | {"length": self.length, "beta": self._beta} | self._pending.as_state("pending")

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        self.mean = {key.removeprefix("m."): m.clone() for key, m in state.items() if isinstance(m, Tensor)}
        self.length, self._beta = float(state["length"]), float(state["beta"])
        self._pending = Direction.from_state("pending", state)
        self._aim()
