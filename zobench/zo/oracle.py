"""The zeroth-order oracle: losses at ``θ + direction``.

It alone perturbs and restores the weights, and it counts forward passes. One forward pass is one evaluation of the
loss of one batch at one point, however many micro-batches it is cut into.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from zobench.zo.direction import ZERO, Direction
from zobench.zo.perturbation import Perturbation
from zobench.zo.slot import Slot

Closure = Callable[[], Tensor | float]
Mode = Literal["in_place", "exact"]


class Diverged(ArithmeticError):
    """The loss was not finite. The weights were put back to where the step began."""


class Oracle:
    """Evaluates ``closure`` at offsets from the current weights.

    Modes:
        in_place: the weights walk from offset to offset, ``add o1, evaluate, add o2 − o1, ...``, and the way back is
            fused with the update. No memory. Each move rounds; in half precision the drift is large
            (``Diverged`` and the end of a step walk back too).
        exact: every offset is added to a pristine copy of the trainable weights, which is copied back. Bit-exact, and
            costs one copy of the trainable weights, reported by ``state_bytes``.
    """

    def __init__(self, slots: Sequence[Slot], perturbation: Perturbation, mode: Mode = "in_place"):
        if mode not in ("in_place", "exact"):
            raise ValueError(f"mode={mode!r}: expected 'in_place' or 'exact'")
        self.slots = slots
        self.perturbation = perturbation
        self.mode = mode
        self.forwards = 0
        self.backwards = 0
        self.seen: list[float] = []
        self.notes: dict[str, float] = {}
        self._closure: Closure | None = None
        self._at: Direction = ZERO
        self._pristine: list[Tensor] | None = None

    def begin(self, closure: Closure) -> None:
        """Start a step on a new batch."""
        self._closure = closure
        self.seen = []
        self.notes = {}

    def loss(self, offset: Direction = ZERO) -> float:
        """The loss at ``θ + offset``, as a float64 scalar."""
        return self.losses([offset])[0]

    def losses(self, offsets: Sequence[Direction]) -> list[float]:
        """The losses at each offset, in order. The weights stand at the last one until ``settle`` or ``descend``.

        Raises:
            Diverged: if a loss is not finite; the weights are settled first.
        """
        return [self._evaluate(offset) for offset in offsets]

    def _evaluate(self, offset: Direction) -> float:
        if self._closure is None:
            raise RuntimeError("the oracle has no batch: call begin(closure) first")
        self._goto(offset)
        try:
            with torch.inference_mode():
                value = float(self._closure())
        except BaseException:
            self.settle()
            raise
        self.forwards += 1
        return self._checked(value)

    def _checked(self, value: float) -> float:
        if not math.isfinite(value):
            self.settle()
            raise Diverged(f"the loss is {value} at forward pass {self.forwards}")
        self.seen.append(value)
        return value

    def projected(self, plus: float, minus: float, eps: float) -> float:
        """The projected gradient from two losses, in float64."""
        return (plus - minus) / (2.0 * eps)

    def backward(self) -> float:
        """The loss at ``θ``, with gradients left in ``param.grad``. First-order references only."""
        if self._closure is None:
            raise RuntimeError("the oracle has no batch: call begin(closure) first")
        self.settle()
        with torch.enable_grad():
            loss = self._closure()
            if not isinstance(loss, Tensor):
                raise TypeError("a first-order method needs the loss as a tensor with a graph, not a float")
            loss.backward()
        self.forwards += 1
        self.backwards += 1
        return self._checked(float(loss.detach()))

    def settle(self) -> None:
        """Put the weights back to ``θ``."""
        self._goto(ZERO)

    def descend(self, estimate: Direction, lr: float, weight_decay: float) -> None:
        """``θ ← (1 − lr·wd)·θ − lr·estimate``, restore included; vectors are not decayed."""
        if self.mode == "exact":
            self.settle()
        for slot in self.slots:
            keep = 1.0 - lr * weight_decay if slot.kind != "vector" else 1.0
            self.perturbation.move_(slot, estimate * -lr - self._at * keep, keep)
        self._at = ZERO

    @torch.no_grad()
    def _goto(self, offset: Direction) -> None:
        if offset == self._at:
            return
        if self.mode == "exact":
            if self._pristine is None:
                self._pristine = [torch.empty_like(slot.param) for slot in self.slots]
            pairs = list(zip(self.slots, self._pristine, strict=True))
            for slot, copy in pairs:
                copy.copy_(slot.param) if self._at == ZERO else slot.param.copy_(copy)
            if offset != ZERO:
                self.perturbation.move(self.slots, offset)
        else:
            self.perturbation.move(self.slots, offset - self._at)
        self._at = offset

    def state_bytes(self) -> int:
        return sum(slot.bytes for slot in self.slots) if self.mode == "exact" else 0


def central_difference(oracle: Oracle, u: Direction, eps: float) -> float:
    """The projected gradient ``(L(θ+εu) − L(θ−εu)) / 2ε``: two forward passes."""
    plus, minus = oracle.losses([u * eps, u * -eps])
    oracle.notes["projected_gradient"] = oracle.projected(plus, minus, eps)
    return oracle.notes["projected_gradient"]
