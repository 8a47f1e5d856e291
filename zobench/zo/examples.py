"""Losses of a batch's examples, each at an offset of its own: as many directions as there are examples."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch

from zobench.zo.closure import BatchLoss, batch_of
from zobench.zo.direction import Direction
from zobench.zo.ledger import Unsuited
from zobench.zo.perturbation import Perturbation
from zobench.zo.requests import Requests
from zobench.zo.shifted import ShiftedWeights
from zobench.zo.side import NotStackable
from zobench.zo.slot import Slot
from zobench.zo.stacking import agree

#: gives the offset of an example, from its number in the batch
Offsets = Callable[[int], Direction]
Evaluate = Callable[[ShiftedWeights, BatchLoss, Sequence[Direction]], list[float]]


class ExampleRequests(Requests):
    """The part of an oracle that gives each example of the batch an offset of its own: ``own_losses``."""

    def __init__(self, slots: Sequence[Slot], perturbation: Perturbation):
        super().__init__(slots, perturbation)
        self._rows_apart: bool | None = None  # in the model, as far as is known

    def own_losses(self, passes: Sequence[Offsets]) -> list[list[float]]:
        """The losses of the batch's examples, each at its own offset, once for each of ``passes``.

        A pass counts as one forward pass, as each example runs once in it. The weights stay where they are, in every
        mode: functions see them at the offset of the example that they work on.

        Example:
            >>> from zobench.testing.problem import Problem, StepLoss
            >>> from zobench.zo import Gaussian, Oracle, make_slots
            >>> problem = Problem()
            >>> oracle = Oracle(make_slots(problem.parameters.items()), Gaussian())
            >>> oracle.begin(StepLoss(problem, step=0))
            >>> own, = oracle.own_losses([lambda j: 0.1 * Direction.ray(7 + j)])
            >>> third, = oracle.example_losses([0.1 * Direction.ray(9)])
            >>> abs(own[2] - third[2]) < 1e-6, oracle.forwards
            (True, 2)

        Args:
            passes: give the offset of the example of a number, from 0.

        Raises:
            TypeError: for a closure that gives no losses per example.
            Unsuited: for a loss that reads weights by other means than torch's functions.
            Diverged: if a loss is not finite.
        """
        closure = batch_of(self.closure)
        self.settle()
        found = self.team.vectors(partial(self._own, closure), passes, [closure.size] * len(passes))
        return [self._counted(list(values)) for values in found]

    @torch.inference_mode()
    def _own(self, closure: BatchLoss, offsets: Offsets) -> Sequence[float]:
        """The losses of one pass."""
        if self.replays:
            return closure.losses(examples=True)[0].tolist()
        context = ShiftedWeights(self.slots, self.perturbation, thin=())
        every = [offsets(place).nonzero() for place in range(closure.size)]
        if self._rows_apart is None:
            self._rows_apart = closure.stacks and self._keeps_rows(context, closure, every)
        if self._rows_apart:
            with suppress(NotStackable):
                found = self._at_once(context, closure, every)
                self.evaluation = "exact, by row"
                return found
        found = self._one_by_one(context, closure, every)
        self.evaluation = "exact, by example"
        return found

    def _at_once(self, context: ShiftedWeights, closure: BatchLoss, offsets: Sequence[Direction]) -> list[float]:
        """The losses of a pass, from one run of the batch in which each row sees the offset of its example."""
        with context.at_each(offsets):
            found: list[float] = closure.losses(examples=True)[0].tolist()
        return found

    def _one_by_one(self, context: ShiftedWeights, closure: BatchLoss, offsets: Sequence[Direction]) -> list[float]:
        """The losses of a pass, from a run of each example."""
        found: list[float] = closure.each(lambda place: context.at(offsets[place])).tolist()
        if context.seen and (missed := [slot.name for slot in self.slots if slot.index not in context.seen]):
            raise Unsuited(
                f"{missed[0]}: the loss does not read it by torch's functions, and so examples cannot each see other "
                "values of it: do not train it"
            )
        return found

    def _keeps_rows(self, context: ShiftedWeights, closure: BatchLoss, offsets: Sequence[Direction]) -> bool:
        """Whether a run of the batch gives what runs of each example give; tried once, and nobody's measurement."""
        still: list[float] = closure.losses(examples=True)[0].tolist()

        def far(evaluate: Evaluate, scale: float) -> list[float]:
            return evaluate(context, closure, [offset * scale for offset in offsets])

        return agree(self.slots, partial(far, self._at_once), partial(far, self._one_by_one), still)
