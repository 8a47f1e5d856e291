"""The zeroth-order oracle: losses at ``θ + direction``.

It alone perturbs and restores the weights, and it counts forward passes. One forward pass is one evaluation of the
loss of one batch at one point, however many micro-batches it is cut into.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from zobench.zo.checks import one_of
from zobench.zo.closure import Closure, as_loss, batch_of, knows_batch
from zobench.zo.direction import ZERO, Direction
from zobench.zo.examples import ExampleRequests
from zobench.zo.perturbation import Perturbation
from zobench.zo.placement import Mode, Placement
from zobench.zo.slot import Kind, Slot
from zobench.zo.stacking import Stacking

#: rows that offsets share a forward pass up to, where nothing else is set
STACK_ROWS = 512


class Oracle(ExampleRequests):
    """Evaluates the loss of a batch at offsets from the current weights, and owns the way there and back.

    >>> from zobench.zo import Gaussian, make_slots
    >>> (slot,) = slots = make_slots([("w", torch.ones(2))])
    >>> oracle = Oracle(slots, Gaussian())
    >>> oracle.begin(lambda: slot.param.sum())
    >>> oracle.loss()
    2.0
    >>> slope = (oracle.loss(0.1 * Direction.ray(7)) - 2.0) / 0.1
    >>> abs(slope - Gaussian().draw(slot, 7).sum()) < 1e-5
    tensor(True)
    >>> oracle.settle()
    >>> oracle.forwards
    2

    Modes:
        in_place: the weights walk from offset to offset, ``add o1, evaluate, add o2 − o1, ...``, and the way back is
            fused with the update. No memory. Each move rounds; in half precision the drift is large
            (``Diverged`` and the end of a step walk back too). Large embeddings stay where they are, as in exact mode:
            a batch looks few of their rows up.
        exact: the weights stay where they are, and the functions that the closure calls see them at the offset
            (``shifted.py``). No drift, no memory beyond the largest tensor of one call, and each offset is drawn by
            itself, where a walk draws the last one again.

    A matrix whose directions have factors is evaluated by them in both modes, and then stays where it is, unless moving
    it is cheaper for the closure's number of ``rows`` (``placement.py``).

    A tensor that is to be seen but that the first evaluation does not read by torch functions of this thread is moved
    after all, and the evaluation repeated; in exact mode a copy of such tensors is kept and put back, which
    ``state_bytes`` reports.

    Args:
        slots: the trainable tensors.
        perturbation: the distribution that offsets are drawn from.
        mode: ``in_place`` or ``exact``.
        stack_rows: offsets share a forward pass, where they can, up to so many of its rows; 0 for one at a time.

    Attributes:
        team: the processes over which losses are shared out; the ledger counts those of all.
        forwards: forward passes of a batch so far; one of several batches counts as so many.
        backwards: backward passes so far.
        forwards_each: forward passes that an evaluation of a batch counts as: 1, or the calls of the model it takes.
        seen: what the evaluations of this step gave, in order: losses, or lists of the losses of the examples.
        notes: numbers of this step for the record.
        closure: the loss of this step's batch.
        further: (first, count) → the loss of so many further batches of the step, for methods that ask for some
            (``on``). Set by whoever has the data; it depends on the step and these two numbers alone.
        spared: kinds of slots that weight decay leaves alone.
        rates: slot's index → factor of the learning rate, where that is not 1.
        decays: slot's index → weight decay, where a slot has its own.
        replays: whether the closure repeats the losses of an earlier run.
        missed: names of the slots that are moved although they could stay: those that the closure does not read by
            torch functions, and matrices with factors of which moving is cheaper; None before the first look.
        evaluation: how the last offset was evaluated: ``walk``, ``exact``, ``side``, ``side and walk`` ...; empty
            before the first (``Placement.evaluation``).

    Raises:
        ValueError: for an unknown mode.
    """

    def __init__(
        self, slots: Sequence[Slot], perturbation: Perturbation, mode: Mode = "in_place", stack_rows: int = STACK_ROWS
    ):
        one_of(get_args(Mode), mode=mode)
        super().__init__(slots, perturbation)
        self.mode = mode
        self.stack_rows = stack_rows
        self.spared: tuple[Kind, ...] = ("vector",)
        self.rates: dict[int, float] = {}
        self.decays: dict[int, float] = {}
        self.notes: dict[str, float] = {}
        self._at: Direction = ZERO
        self._placement: Placement | None = None
        self._recalled = False  # whether it was made without a closure of rows
        self._copies: dict[int, Tensor] = {}  # of what exact mode has to move
        self.missed: list[str] | None = None
        self._stacking = Stacking()

    def begin(self, closure: Closure, missed: Collection[str] | None = None) -> None:
        """Start a step on a new batch.

        Args:
            closure: gives the loss of the batch, at the weights that its functions see.
            missed: as the oracle that measured the losses had it, where the closure only repeats them.
        """
        self.closure, self.replays = closure, missed is not None
        fits = self._placement is not None and self._placement.is_for(self.perturbation, self.mode)
        if missed is not None and not fits:
            self.recall(missed)
        elif missed is None and (self._recalled or not fits):
            self._place(self.missed if fits else None, getattr(closure, "rows", None))
            self._recalled = False
        self.seen, self._of_own_batch = [], []
        self.notes = {}

    def recall(self, missed: Collection[str]) -> None:
        """Move the slots that the oracle of an earlier start moved; the steps to come measure as that one would.

        Args:
            missed: as that oracle had it.
        """
        self._place(missed, None)
        self._recalled = True

    def _place(self, missed: Collection[str] | None, rows: int | None) -> None:
        self._placement = Placement(self.slots, self.perturbation, self.mode, missed, rows)
        self.missed, self._stacking = None if missed is None else list(missed), Stacking()

    def loss(self, offset: Direction = ZERO) -> float:
        """The loss at ``θ + offset``, as a float64 scalar."""
        return self.losses([offset])[0]

    def losses(self, offsets: Sequence[Direction]) -> list[float]:
        """The losses at each offset, in order.

        In place, the weights stand at the last one until ``settle`` or ``descend``.

        Raises:
            Diverged: if a loss is not finite; the weights are settled first.
        """
        stacks = self._stacks(offsets)
        found = self.team.vectors(self._evaluate, stacks, [len(stack) for stack in stacks])
        return [self._counted(value) for values in found for value in values]

    def example_losses(self, offsets: Sequence[Direction]) -> list[list[float]]:
        """The losses of the batch's examples at each offset, in order; each offset is one forward pass.

        Their mean is the loss of the batch.

        Raises:
            TypeError: for a closure that gives no losses per example.
            Diverged: as ``losses``.
        """
        size, stacks = batch_of(self.closure).size, self._stacks(offsets)
        entries: list[list[float]] = []
        found = self.team.vectors(
            partial(self._evaluate, examples=True), stacks, [size * len(stack) for stack in stacks]
        )
        for stack, values in zip(stacks, found, strict=True):
            n = len(values) // len(stack)
            entries += [self._counted(list(values[i * n : i * n + n])) for i in range(len(stack))]
        return entries

    def _stacks(self, offsets: Sequence[Direction]) -> list[Sequence[Direction]]:
        """Consecutive offsets that may share a forward pass; alike in all processes, whatever each has evaluated."""
        if self.closure is None or self._placement is None:
            raise RuntimeError("the oracle has no batch: call begin(closure) first")
        stack_rows = 0 if self._tap else self.stack_rows
        return self._stacking.stacks(self._placement, self.closure, offsets, stack_rows)

    def _evaluate(self, stack: Sequence[Direction], examples: bool = False) -> list[float]:
        """The losses at some offsets, or those of the examples at each; in one forward pass where that can be."""
        assert self.closure is not None
        assert self._placement is not None
        offsets = [offset.nonzero() for offset in stack]
        try:
            if self._at == ZERO:
                self._placement.look()
            if (losses := self._stacking.losses(self._placement, self.closure, offsets, examples)) is not None:
                factored = any(slot.param.ndim > 1 for slot in self.slots)  # all matrices, whatever would move alone
                self.evaluation = "side, stacked" if factored else "exact, stacked"
                return losses
            return [value for offset in offsets for value in self._one(self.closure, offset, examples)]
        except BaseException:
            self.settle()
            raise

    def _one(self, closure: Closure, offset: Direction, examples: bool) -> list[float]:
        """The loss at one offset, or the losses of the examples."""
        assert self._placement is not None
        found = self._look(closure, offset, examples)
        if offset != ZERO and (missed := self._placement.missed()) is not None:
            self.missed = self._placement.moved
            if missed:
                shown = self._placement.shown
                self._placement.look()
                self._move([slot for slot in self.slots if slot.index in shown - self._placement.shown], offset)
                found = self._look(closure, offset, examples)
        return found

    def _look(self, closure: Closure, offset: Direction, examples: bool) -> list[float]:
        """What the closure gives, with the moved slots moved to the offset and the shown slots seen there."""
        assert self._placement is not None
        if self._at == ZERO:
            self._placement.look()
        self._goto(offset)
        if offset != ZERO:
            self.evaluation = self._placement.evaluation
        seen = self._placement.shifted.at(offset) if offset != ZERO else self._tap or nullcontext()
        with torch.inference_mode(), seen:
            if examples and knows_batch(closure):
                return closure.losses(examples=True)[0].tolist()
            return [as_loss(closure())]

    def projected(self, plus: float, minus: float, eps: float) -> float:
        """The projected gradient from two losses, in float64."""
        return (plus - minus) / (2.0 * eps)

    def settle(self) -> None:
        """Put the weights back to ``θ``."""
        self._goto(ZERO)

    @torch.no_grad()
    def hand_over(self, theirs: Collection[int]) -> dict[int, Direction]:
        """``settle``, but for the slots of some indices, which the caller brings back itself.

        Returns:
            The way back of those that are not at ``θ``, by index.
        """
        if self.mode != "in_place" or self._at == ZERO:
            self.settle()
            return {}
        shown = self._placement.shown if self._placement else set()
        moved, way = [slot for slot in self.slots if slot.index not in shown], (ZERO - self._at).nonzero()
        self.perturbation.move([slot for slot in moved if slot.index not in theirs], way)
        self._at = ZERO
        return {slot.index: way for slot in moved if slot.index in theirs}

    def rate(self, slot: Slot, lr: float) -> float:
        """The learning rate of a slot in a step of rate ``lr``."""
        return lr * self.rates.get(slot.index, 1.0)

    def kept(self, slot: Slot, lr: float, weight_decay: float) -> float:
        """The factor of a slot's weights in a step: below 1 with weight decay, which some kinds are ``spared``."""
        own = self.decays.get(slot.index, weight_decay)
        return 1.0 if slot.kind in self.spared else 1.0 - self.rate(slot, lr) * own

    def descend(self, estimate: Direction, lr: float, weight_decay: float) -> None:
        """``θ ← (1 − lr·wd)·θ − lr·estimate``, restore included; ``spared`` slots are not decayed."""
        self._write(estimate, lambda slot: (self.rate(slot, lr), self.kept(slot, lr, weight_decay)))

    def shift(self, way: Direction) -> None:
        """``θ ← θ + way``, restore included: the same in all slots, whatever their rates and decays."""
        self._write(way, lambda slot: (-1.0, 1.0))

    def _write(self, estimate: Direction, share: Callable[[Slot], tuple[float, float]]) -> None:
        """``θ ← keep·θ − rate·estimate``, with the rate and the factor of each slot."""
        if self.mode == "exact":
            self.settle()
        shown = self._placement.shown if self._placement else set()
        groups: dict[tuple[bool, float, float], list[Slot]] = {}
        for slot in self.slots:
            groups.setdefault((slot.index in shown, *share(slot)), []).append(slot)
        for (stayed, rate, keep), slots in groups.items():
            self.perturbation.move(slots, (estimate * -rate - (ZERO if stayed else self._at * keep)).nonzero(), keep)
        self._at = ZERO

    @torch.no_grad()
    def _goto(self, offset: Direction) -> None:
        if offset == self._at:
            return
        shown = self._placement.shown if self._placement else set()
        moved = [slot for slot in self.slots if slot.index not in shown]
        if self.mode == "in_place":
            self.perturbation.move(moved, (offset - self._at).nonzero())
        else:
            for slot in moved if self._at != ZERO else ():
                slot.param.copy_(self._copies[slot.index])
            self._move(moved if offset != ZERO else [], offset)
        self._at = offset

    @torch.no_grad()
    def _move(self, slots: Sequence[Slot], offset: Direction) -> None:
        """Move slots that stand at ``θ``; copy them first in exact mode."""
        for slot in slots if self.mode == "exact" else ():
            self._copies.setdefault(slot.index, torch.empty_like(slot.param)).copy_(slot.param)
        self.perturbation.move(slots, offset)

    def state_bytes(self) -> int:
        """Bytes of the copies that exact mode holds between steps."""
        return sum(copy.numel() * copy.element_size() for copy in self._copies.values())
