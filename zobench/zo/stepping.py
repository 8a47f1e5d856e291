"""A step by a rule that has a memory: slot by slot, in parts where the rule is element-wise, on several threads.

The way back from the last offset, the estimate and the step of a part are made while its draws are at hand.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.core_space import core_step, descend_core, leave_core
from zobench.zo.direction import ZERO, Direction
from zobench.zo.oracle import Oracle
from zobench.zo.perturbation import Perturbation
from zobench.zo.rules import State, UpdateRule
from zobench.zo.scratch import scratch
from zobench.zo.slot import Rows, Slot, pick, sum_dtype


@dataclass(frozen=True)
class RuleStep:
    """One step, ``θ ← (1 − lr·wd)·θ − lr·rule(estimate)``; slots that the oracle spares are not decayed.

    Attributes:
        oracle: owns the slots, and knows how far they are from θ.
        rule: makes a step of the estimate, where that is not the estimate itself.
        states: of the rule, one for each slot; they change.
        estimate: of the gradient.
        lr, weight_decay: of this step.
        t: the step's number, from 0.
    """

    oracle: Oracle
    rule: UpdateRule
    states: Sequence[State]
    estimate: Direction
    lr: float
    weight_decay: float
    t: int

    @property
    def perturbation(self) -> Perturbation:
        """The distribution of directions."""
        return self.oracle.perturbation

    def take(self) -> None:
        """Move all slots; after an error, the rest of them stand at θ all the same."""
        perturbation, slots, whole = self.perturbation, self.oracle.slots, not self.rule.elementwise
        in_core = {s.index for s in slots if self.rule.space == "core" and not perturbation.dense(s)}
        for slot in slots if self.rule.space == "core" else ():
            if slot.index not in in_core:
                leave_core(self.rule, perturbation, slot, self.states[slot.index])
        shared = {
            slot.index: slot for slot in slots if not whole and slot.index not in in_core and perturbation.shares(slot)
        }
        back = self.oracle.hand_over(shared)
        ways = {(i, j): way for i, way in back.items() for j, _ in enumerate(perturbation.parts(slots[i]))}
        tasks: list[noise.Task] = []
        try:
            for slot in slots:
                names = frozenset(self.states[slot.index])
                if slot.index in in_core:
                    self._on_core(slot)
                    continue
                for j, rows in enumerate([None] if whole else perturbation.parts(slot)):
                    task = partial(self._on_part, slot, names, rows, partial(ways.pop, (slot.index, j), ZERO))
                    tasks.append(task) if slot.index in shared else task()
            noise.share(tasks)
        finally:
            if ways:  # an error stopped it: what is left goes back all the same
                for slot in shared.values():
                    for j, rows in enumerate(perturbation.parts(slot)):
                        perturbation.move_(slot, ways.get((slot.index, j), ZERO), rows=rows)

    def _on_part(self, slot: Slot, names: Collection[str], rows: Rows, way: Callable[[], Direction]) -> None:
        """Bring a part of a slot back to θ, and step from there, with the draws that the two share made once.

        Args:
            names: of the tensors in the state of the slot's rule before the step.
            way: gives the way back to θ, once.
        """
        perturbation, state = self.perturbation, self.states[slot.index]
        with noise.working(), part_of(state, names, slot, rows) as held:
            if back := way():
                perturbation.move_(slot, back, rows=rows)
            param, dtype = pick(slot.param, rows), sum_dtype(slot.param)
            # The state may keep the estimate of a whole slot; of a part it is copied (``part_of``).
            out = None if rows is None else scratch("estimate", param, dtype)
            tensor = perturbation.estimate(slot, self.estimate, rows, out)
            if perturbation.reaches(slot, self.estimate):
                step = step_within(self.rule, perturbation.support(slot, rows), slot, tensor, held, self.t)
            else:
                step = self.rule.unmeasured(slot, tensor, held, self.t)
            total = param if param.dtype == dtype else scratch("sum", param, dtype).copy_(param)
            if (keep := self.oracle.kept(slot, self.lr, self.weight_decay)) != 1.0:
                total.mul_(keep)
            total.sub_(step, alpha=self.oracle.rate(slot, self.lr))
            if total is not param:
                param.copy_(total)
            perturbation.stepped(slot, rows)

    def _on_core(self, slot: Slot) -> None:
        """Step on a slot that stands at θ by a rule that works in core space."""
        core = core_step(self.rule, self.perturbation, slot, self.estimate, self.states[slot.index], self.t)
        rate, keep = self.oracle.rate(slot, self.lr), self.oracle.kept(slot, self.lr, self.weight_decay)
        descend_core(self.perturbation, slot, core, rate, keep)


@contextmanager
def part_of(state: State, names: Collection[str], slot: Slot, rows: Rows) -> Iterator[State]:
    """A part of a slot's state, for a rule; what the rule sets in the part is set in the whole.

    Threads may work on several parts at once.

    Args:
        names: of the tensors that the state held before the first part was worked on.
        rows: which part; None for the whole.
    """
    held = {name: pick(state[name], rows) for name in names}
    yield held
    for name, tensor in held.items():
        if rows is None:
            state[name] = tensor
            continue
        with _new:
            if name not in state:
                state[name] = torch.empty(slot.param.shape, dtype=tensor.dtype, device=tensor.device)
        to = pick(state[name], rows)
        if to.data_ptr() != tensor.data_ptr():
            to.copy_(tensor)


_new = Lock()


def step_within(
    rule: UpdateRule, support: Tensor | None, slot: Slot, estimate: Tensor, state: State, step: int
) -> Tensor:
    """The step of a rule, on the part of a slot that was measured; the step of the rest is its ``unmeasured``.

    Args:
        support: where the estimate was measured, as booleans; None for everywhere.
        rule, slot, estimate, state, step: as for the call of a rule.
    """
    if support is None or not rule.elementwise or type(rule).unmeasured is UpdateRule.unmeasured:
        return rule(slot, estimate, state, step)
    out = torch.empty_like(estimate)
    held = dict(state)
    for part, make in ((support, rule), (~support, rule.unmeasured)):
        own = {name: tensor[part] for name, tensor in held.items()}
        out[part] = make(slot, estimate[part], own, step)
        for name, tensor in own.items():
            state.setdefault(name, torch.zeros_like(estimate, dtype=tensor.dtype))[part] = tensor
    return out
