"""What a step can ask of an oracle beyond losses of its batch: other batches, activations, derivatives."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from zobench.zo.checks import at_least, not_negative
from zobench.zo.closure import Closure, as_loss
from zobench.zo.direction import Direction
from zobench.zo.dual import directional_derivative
from zobench.zo.ledger import Diverged, Ledger, Unsuited
from zobench.zo.perturbation import Perturbation
from zobench.zo.slot import Slot
from zobench.zo.tap import ActivationTap, Collector, add_over_team
from zobench.zo.team import Team

Watcher = TypeVar("Watcher", bound=Collector)
#: forward passes that a directional derivative counts as: of ``x W`` it makes three products, ``x W``, ``ẋ W``, ``x Ẇ``
JVP_FORWARDS = 3
#: gives the closure of further batches of a step, from the number of the first one and how many they are
Further = Callable[[int, int], Closure]


class Requests(Ledger):
    """The part of an oracle that a few methods ask for: ``on``, ``tap``, ``jvp`` and ``backward``.

    Args:
        slots: the trainable tensors.
        perturbation: the distribution that offsets are drawn from.

    Attributes:
        team, forwards, backwards, forwards_each, seen, closure, further, replays, evaluation: as ``Oracle`` has them.
    """

    def __init__(self, slots: Sequence[Slot], perturbation: Perturbation):
        super().__init__()
        self.slots = slots
        self.perturbation = perturbation
        self.team = Team()
        self.closure: Closure | None = None
        self.further: Further | None = None
        self.replays = False
        self.evaluation = ""
        self._tap: ActivationTap | None = None

    @contextmanager
    def on(self, first: int, count: int = 1) -> Iterator[None]:
        """A context in which losses are those of further batches of this step, not of its own.

        Which examples they hold is the choice of ``further``. A loss of ``count`` batches is their mean over examples,
        and counts as ``count`` forward passes.

        Example:
            >>> from zobench.zo import Gaussian, Oracle, make_slots
            >>> slots = make_slots([("w", torch.ones(2))])
            >>> oracle = Oracle(slots, Gaussian())
            >>> oracle.further = lambda first, count: lambda: 10.0 * first + count
            >>> oracle.begin(lambda: 1.0)
            >>> with oracle.on(first=0, count=8):  # an anchor's large batch
            ...     oracle.loss()
            8.0
            >>> oracle.loss(), oracle.forwards
            (1.0, 9)

        Args:
            first: number of the first of them, from 0.
            count: how many.

        Raises:
            RuntimeError: if there are none.
        """
        not_negative(first=first)
        at_least(1, count=count)
        before = self.closure, self._batches, self._on_own
        if not self.replays:
            if self.further is None:
                raise RuntimeError(
                    "the method asks for further batches of its step: set method.oracle.further to a function of "
                    "(first, count) that gives the closure of so many"
                )
            self.closure = self.further(first, count)
        self._batches, self._on_own = count, False
        try:
            yield
        finally:
            self.closure, self._batches, self._on_own = before

    @contextmanager
    def tap(self, collector: Watcher) -> Iterator[Watcher]:
        """A context in which losses at ``θ`` itself hand the inputs of layers to a collector.

        Afterwards its sums are those over all processes: over the shards of a batch, or of the one process that made
        the evaluation. They are float64 numbers that cross; keep them few.

        Raises:
            ValueError: when the step is made again from its losses, which hold no activations.
        """
        if self.replays:
            raise ValueError(
                "the step takes directions from activations, which losses do not give: set taps = True in the method's "
                "class, so that its runs keep weights"
            )
        self._tap = ActivationTap(self.slots, collector)
        try:
            yield collector
        finally:
            self._tap = None
        add_over_team(collector, self.team)

    def jvp(self, direction: Direction) -> float:
        """The derivative of the loss at ``θ`` along a direction: the limit of the projected gradient for ε → 0.

        By forward-mode differentiation; it counts as ``JVP_FORWARDS`` forward passes. The loss at ``θ`` comes with it.

        Raises:
            NoDerivative: where a part of the loss has no formula of forward mode.
            Unsuited: for a loss without a gradient.
            Diverged: if loss or derivative is not finite.
        """
        if self.closure is None:
            raise RuntimeError("the oracle has no batch: call begin(closure) first")
        check_differentiable(self.closure)
        self.settle()
        closure = self.closure
        if self.replays:
            loss, slope = float(closure()), float(closure())
        else:
            pair = cache(lambda: directional_derivative(closure, self.slots, self.perturbation, direction))
            loss, slope = self.team.scalars(lambda which: pair()[which], (0, 1))
        self._counted(loss)
        self.forwards += self._batches * (JVP_FORWARDS - 1)
        if not math.isfinite(slope):
            raise Diverged(f"the derivative is {slope} at forward pass {self.forwards}")
        self.seen.append(slope)
        return slope

    def backward(self) -> float:
        """The loss at ``θ``, with gradients left in ``param.grad``; for first-order references only.

        Raises:
            TypeError: for a loss without a graph.
            Unsuited: for a loss without a gradient.
            Diverged: if the loss is not finite.
        """
        if self.closure is None:
            raise RuntimeError("the oracle has no batch: call begin(closure) first")
        check_differentiable(self.closure)
        self.settle()
        with torch.enable_grad():
            loss = self.closure()
            value = as_loss(loss.detach() if isinstance(loss, Tensor) else loss)
            if not isinstance(loss, Tensor):
                raise TypeError("a first-order method needs the loss as a tensor with a graph, not a float")
            loss.backward()
        self.backwards += 1
        return self._counted(value)


def check_differentiable(closure: Closure) -> None:
    """Refuse a closure that says of itself that it is not ``differentiable``.

    Raises:
        Unsuited: if it is such a one.
    """
    if not getattr(closure, "differentiable", True):
        raise Unsuited(
            "the method takes a derivative of the loss, which is made of scores and has none; take differences of "
            "losses (runs: method=mezo)"
        )
