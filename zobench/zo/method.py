"""The base of all methods.

A method is the paper's Algorithm box: a few lines of control flow in ``update``, over an oracle that owns the weights.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from zobench.zo import schedule
from zobench.zo.direction import Direction
from zobench.zo.keys import Keys
from zobench.zo.oracle import Closure, Mode, Oracle
from zobench.zo.perturbation import Gaussian, Perturbation
from zobench.zo.rules import SGD, State, UpdateRule, parts_of
from zobench.zo.slot import make_slots, pick

StateDict = dict[str, Tensor | int | float]


class Method:
    """Fine-tunes the given parameters through an oracle.

    Args:
        named_parameters: (name, tensor) pairs to train; of any shape, on one or several devices.
        lr: learning rate.
        seed: names every random draw of the method.
        weight_decay: decoupled; ``θ ← (1 − lr·wd)·θ`` per step, on matrices and embeddings only.
        lr_schedule: constant, linear or cosine; the last two need ``total_steps``.
        warmup: steps of linear warm-up.
        rule: update rule; SGD if None.
        perturbation: distribution of directions; Gaussian if None.
        mode: how the oracle perturbs, ``in_place`` or ``exact``.

    Raises:
        ValueError: for an argument out of range.
    """

    #: forward passes per step (``forwards_at`` where steps differ), and backward passes (first-order references only)
    forwards_per_step: int = 2
    backwards_per_step: int = 0
    #: False for references that only evaluate
    trains: bool = True
    #: values of the argument ``variant``, where a method has one
    variants: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        *,
        lr: float,
        seed: int = 0,
        weight_decay: float = 0.0,
        lr_schedule: str = "constant",
        warmup: int = 0,
        total_steps: int | None = None,
        rule: UpdateRule | None = None,
        perturbation: Perturbation | None = None,
        mode: Mode = "in_place",
    ):
        if not lr >= 0:
            raise ValueError(f"lr={lr}: must be 0 or positive")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay={weight_decay}: must be 0 or positive")
        if warmup < 0:
            raise ValueError(f"warmup={warmup}: must be 0 or positive")
        schedule.check(lr_schedule)
        self.slots = make_slots(named_parameters)
        self.base_lr = lr
        self.keys = Keys(seed)
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.warmup = warmup
        self.total_steps = total_steps
        self.rule = rule or SGD()
        self.perturbation = perturbation or Gaussian()
        self.oracle = Oracle(self.slots, self.perturbation, mode)
        self.t = 0
        self.applied: Direction | None = None
        self._rule_state: dict[int, State] = {slot.index: {} for slot in self.slots}

    @property
    def lr(self) -> float:
        """The learning rate of the current step."""
        return self.base_lr * schedule.factor(self.lr_schedule, self.t, self.total_steps, self.warmup)

    def forwards_at(self, step: int) -> int:
        """Forward passes of one step; overridden where steps differ."""
        return self.forwards_per_step

    def direction(self, query: int = 0, purpose: str = "probe") -> Direction:
        """A fresh draw ``u(key)``; the key depends on (seed, step, query, purpose)."""
        return Direction.ray(self.keys(self.t, query, purpose))

    def update(self, oracle: Oracle) -> None:
        """One step of the algorithm."""
        raise NotImplementedError

    @torch.no_grad()
    def apply(self, estimate: Direction) -> None:
        """``θ ← (1 − lr·wd)·θ − lr·rule(estimate)``. The only writer of weights."""
        self.applied = estimate
        if self.rule.linear:
            self.oracle.descend(estimate, self.lr, self.weight_decay)
            return
        self.oracle.settle()
        for slot in self.slots:
            keep = 1.0 - self.lr * self.weight_decay if slot.kind != "vector" else 1.0
            state = self._rule_state[slot.index]
            parts = self.perturbation.parts(slot) if self.rule.elementwise else [None]
            for rows, held in parts_of(state, slot, parts):
                tensor = self.perturbation.estimate(slot, estimate, rows)
                step = self.rule(slot, tensor, held, self.t)
                param = pick(slot.param, rows)
                param.copy_(param.to(step.dtype).mul(keep).sub_(step, alpha=self.lr))

    def step(self, closure: Closure) -> float:
        """One update on the batch that ``closure`` evaluates; torch-style.

        Returns:
            The mean of the losses seen in this step, which is ``L(θ)`` up to O(ε²) for symmetric probes.

        Raises:
            Diverged: if a loss is not finite; the weights are those before the step.
        """
        self.oracle.begin(closure)
        return self._step()

    def replay(self, losses: Sequence[float], missed: Collection[str]) -> float:
        """The step that saw these losses, once more: the same bits of weights and state, without forward passes.

        Args:
            losses: what the oracle had ``seen`` in that step.
            missed: the ``missed`` of that oracle.

        Returns:
            As ``step``.

        Raises:
            ValueError: if the step asks for more or fewer losses, or for a gradient.
        """
        if self.backwards_per_step:
            raise ValueError(f"{type(self).__name__} steps by gradients, which losses do not give")
        left = iter(losses)
        self.oracle.begin(lambda: _next(left), missed)
        mean = self._step()
        if len(self.oracle.seen) != len(losses):
            raise ValueError(f"step {self.t} takes {len(self.oracle.seen)} losses, not {len(losses)}")
        return mean

    def _step(self) -> float:
        self.applied = None
        self.perturbation.begin(self.t, self.slots)
        try:
            self.update(self.oracle)
        finally:
            self.oracle.settle()
        self.perturbation.after(self.t, self.slots)
        self.t += 1
        return sum(self.oracle.seen) / max(1, len(self.oracle.seen))

    def state_dict(self) -> StateDict:
        """Everything needed to go on, beyond the weights and the constructor's arguments. Flat; tensors and numbers."""
        state: StateDict = {"t": self.t, "forwards": self.oracle.forwards, "backwards": self.oracle.backwards}
        for slot in self.slots:
            for name, tensor in self._rule_state[slot.index].items():
                state[f"rule.{name}.{slot.name}"] = tensor
        for name, value in self.perturbation.state_dict().items():
            state[f"perturbation.{name}"] = value
        return state

    def load_state_dict(self, state: StateDict) -> None:
        self.t = int(state["t"])
        self.oracle.forwards = int(state["forwards"])
        self.oracle.backwards = int(state["backwards"])
        by_name = {slot.name: slot for slot in self.slots}
        own: StateDict = {}
        for key, value in state.items():
            head, _, rest = key.partition(".")
            if head == "rule" and isinstance(value, Tensor):
                name, _, slot_name = rest.partition(".")
                slot = by_name[slot_name]
                self._rule_state[slot.index][name] = value.to(slot.param.device, copy=True)
            elif head == "perturbation":
                own[rest] = value
        self.perturbation.load_state_dict(own)

    def state_bytes(self) -> int:
        """Bytes held between steps beyond the weights: rule, perturbation and oracle state."""
        tensors = [x for state in self._rule_state.values() for x in state.values()]
        rule = sum(x.numel() * x.element_size() for x in tensors)
        return rule + self.perturbation.state_bytes() + self.oracle.state_bytes()


def _next(losses: Iterator[float]) -> float:
    try:
        return next(losses)
    except StopIteration:
        raise ValueError("the step asks for more losses than were seen in it") from None
