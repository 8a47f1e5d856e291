"""The base of all methods: what an Algorithm box needs around it.

A method is the paper's Algorithm box, a few lines of control flow in ``update``, over an oracle that owns the weights.
"""

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from zobench.zo import noise, schedule
from zobench.zo.checks import not_negative, one_of, positive
from zobench.zo.closure import Closure, Entry, Recorded
from zobench.zo.direction import Direction
from zobench.zo.independent import Gaussian
from zobench.zo.keys import Keys
from zobench.zo.ledger import Diverged
from zobench.zo.oracle import STACK_ROWS, Mode, Oracle
from zobench.zo.perturbation import Perturbation
from zobench.zo.rules import SGD, State, UpdateRule
from zobench.zo.slot import make_slots, noise_share
from zobench.zo.stepping import RuleStep
from zobench.zo.team import Team

NamedParameters = Iterable[tuple[str, Tensor]]
StateDict = dict[str, Tensor | int | float]


class Method:
    """Fine-tunes the given parameters through an oracle; a subclass writes its Algorithm box in ``update``.

    >>> class MeZO(Method):
    ...     def update(self, oracle):
    ...         u = self.direction()
    ...         plus, minus = oracle.losses([u * self.eps, u * -self.eps])
    ...         self.apply((plus - minus) / (2 * self.eps) * u)
    >>> weight = torch.ones(3)
    >>> method = MeZO([("weight", weight)], lr=0.1)
    >>> losses = [method.step(lambda: weight.square().sum()) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True

    Args:
        named_parameters: (name, tensor) pairs to train; of any shape, on one or several devices.
        lr: learning rate.
        eps: perturbation scale ε.
        seed: names every random draw of the method.
        weight_decay: decoupled; ``θ ← (1 − lr·wd)·θ`` per step, on matrices and embeddings only.
        lr_schedule: constant, linear or cosine; the last two need ``total_steps``.
        warmup: steps of linear warm-up.
        total_steps: the length of the run, where it is known.
        rule: update rule; SGD if None.
        perturbation: distribution of directions; Gaussian if None.
        mode: how the oracle perturbs, ``in_place`` or ``exact``.
        noise_cache: bytes of a step's draws that are held on a CPU, so that they are made once; the same numbers come
            out whatever it is. None: an eighth of the model's bytes where one draw of all slots fits into it, else 0.
        stack_rows: offsets of low rank share a forward pass up to so many rows; 0 for one offset at a time.

    Raises:
        ValueError: for an argument out of range.
    """

    #: forward passes per step (``forwards_at`` where steps differ), and backward passes (first-order references only)
    forwards_per_step: int = 2
    backwards_per_step: int = 0
    #: whether steps take derivatives of the loss, by backpropagation or ``oracle.jvp``: scores have none
    differentiates: bool = False
    #: whether directions hang on activations (``oracle.tap``), so that losses alone do not give a step again
    taps: bool = False
    #: whether measuring leaves the weights elsewhere, as in released code that walks back another way
    displaces: bool = False
    #: examples of a batch from which on steps learn something
    fewest_examples: int = 1
    #: whether steps keep their length however little losses differ, so that they jump where all losses tie
    normalises: bool = False
    #: False for references that only evaluate
    trains: bool = True
    #: value of the argument ``variant`` → its switches, where a method has one: frozen dataclasses of the same class,
    #: whose fields are settings of the method too (zobench/methods/variants.py)
    variants: ClassVar[Mapping[str, Any]] = {}
    #: classes of which the method makes its parts; their keyword-only arguments are settings of the method too
    parts: ClassVar[tuple[type, ...]] = ()
    #: whether groups of parameters may have rates of their own: not where ``update`` reckons with ``lr`` itself
    takes_groups: bool = True
    #: names of ``Method``'s arguments that are no settings of this one, as its algorithm says what they are
    decides: ClassVar[tuple[str, ...]] = ()
    #: what the last ``apply`` was given
    applied: Direction | None

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        lr: float,
        eps: float = 1e-3,
        seed: int = 0,
        weight_decay: float = 0.0,
        lr_schedule: str = "constant",
        warmup: int = 0,
        total_steps: int | None = None,
        rule: UpdateRule | None = None,
        perturbation: Perturbation | None = None,
        mode: Mode = "in_place",
        noise_cache: int | None = None,
        stack_rows: int = STACK_ROWS,
    ):
        counts = {"noise_cache": noise_cache or 0, "stack_rows": stack_rows}
        not_negative(lr=lr, weight_decay=weight_decay, warmup=warmup, **counts)
        positive(eps=eps)
        one_of(schedule.SCHEDULES, lr_schedule=lr_schedule)
        named_parameters = list(named_parameters)
        self.slots = make_slots(named_parameters)
        self.held = noise.HeldDraws(noise_share(named_parameters, self.slots) if noise_cache is None else noise_cache)
        self.oracle = Oracle(self.slots, perturbation or Gaussian(), mode, stack_rows)
        self.rule, self.keys = rule or SGD(), Keys(seed)
        self.perturbation.keep_lifts(self.rule.space == "core" and bool(self.rule.linear_state))
        self.base_lr, self.eps, self.weight_decay = lr, eps, weight_decay
        self.lr_schedule, self.warmup, self.total_steps = lr_schedule, warmup, total_steps
        self.t, self.applied = 0, None
        self._rule_state: dict[int, State] = {slot.index: {} for slot in self.slots}

    @property
    def perturbation(self) -> Perturbation:
        """The distribution of directions; the oracle's, which owns it."""
        return self.oracle.perturbation

    @property
    def replays(self) -> bool:
        """Whether the losses of its steps give its weights again."""
        return not (self.backwards_per_step or self.taps)

    @property
    def lr(self) -> float:
        """The learning rate of the current step."""
        return self.base_lr * schedule.factor(self.lr_schedule, self.t, self.total_steps, self.warmup)

    def forwards_at(self, step: int) -> int:
        """The forward passes that one step takes; overridden where steps differ."""
        return self.forwards_per_step

    def direction(self, query: int = 0, purpose: str = "probe") -> Direction:
        """A fresh draw ``u(key)``; the key depends on (seed, step, query, purpose)."""
        return Direction.ray(self.keys(self.t, query, purpose))

    def update(self, oracle: Oracle) -> None:
        """Take one step of the algorithm: measure losses, and hand an estimate of the gradient to ``apply``."""
        raise NotImplementedError(f"{type(self).__name__} has no update(self, oracle): the steps of its algorithm")

    @torch.no_grad()
    def apply(self, estimate: Direction) -> None:
        """``θ ← (1 − lr·wd)·θ − lr·rule(estimate)``. The only writer of weights, but for ``move``."""
        if not isinstance(estimate, Direction):
            raise TypeError(
                f"apply was given a {type(estimate).__name__}; it takes a Direction, such as slope * self.direction()"
            )
        self.applied = estimate
        if self.rule.linear:
            self.oracle.descend(estimate, self.lr, self.weight_decay)
            return
        states = [self._rule_state[slot.index] for slot in self.slots]
        RuleStep(self.oracle, self.rule, states, estimate, self.lr, self.weight_decay, self.t).take()

    @torch.no_grad()
    def move(self, way: Direction) -> None:
        """``θ ← θ + way``, without rate, rule and decay: a measured move that is no step (DiZO's projection)."""
        self.oracle.shift(way)

    def step(self, closure: Closure) -> float:
        """Take one step on the batch that ``closure`` evaluates; torch-style.

        Returns:
            The mean of the batch's losses seen in this step, which is ``L(θ)`` up to O(ε²) for symmetric probes.

        Raises:
            Diverged: if a loss is not finite; the weights are those before the step, or those that its last ``apply``
                made where it applies more than once.
        """
        self.oracle.begin(closure)
        return self._step()

    def replay(self, losses: Sequence[Entry], missed: Collection[str]) -> float:
        """Take again the step that saw these losses: the same bits of weights and state, without forward passes.

        Args:
            losses: what the oracle had ``seen`` in that step.
            missed: the ``missed`` of that oracle.

        Returns:
            The mean of the losses.

        Raises:
            ValueError: if the step asks for more or fewer losses, for others (of the batch, per example), or for a
                gradient.
        """
        if not self.replays:
            by = "takes directions from activations" if self.taps else "steps by gradients"
            raise ValueError(f"{type(self).__name__} {by}, which losses do not give")
        self.oracle.begin(Recorded(losses), missed)
        mean = self._step()
        if len(self.oracle.seen) != len(losses):
            raise ValueError(f"step {self.t} takes {len(self.oracle.seen)} losses, not {len(losses)}")
        return mean

    def _step(self) -> float:
        self.applied = None
        held = self.held if self.held.size else None
        try:
            with noise.holding(held):
                self.perturbation.begin(self.t, self.slots)
                self.held.clear()  # the last step's draws: what hangs on them, begin has made
                self.update(self.oracle)
                self.oracle.settle()
                self.perturbation.after(self.t, self.slots)
        except RuntimeError as error:
            if "without overflow" in str(error):  # torch's word for a factor beyond the weights' dtype
                raise Diverged("a number of the update is beyond the weights' dtype") from None
            raise
        finally:
            self.oracle.settle()
        self.t += 1
        return self.oracle.mean_loss

    def twin(self, keys: Keys) -> Self:
        """A method beside this one on the same weights, with a copy of its state, which draws from other keys.

        It is alone in its team and perturbs in exact mode: what it measures leaves no trace in the weights.

        Args:
            keys: what the twin draws from.
        """
        instead: dict[int, Any] = {id(slot.param): slot.param for slot in self.slots}
        held = self.oracle.closure, self.oracle.further  # they hold a model, which is not to be copied
        instead |= {id(self.keys): keys, id(self.oracle.team): Team()} | {id(x): x for x in held}
        twin = copy.deepcopy(self, instead)
        twin.oracle.closure, twin.oracle.mode = None, "exact"
        twin.held = noise.HeldDraws(0)
        return twin

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
        """Go on from what ``state_dict`` gave; tensors go to their slots' devices."""
        self.t = int(state["t"])
        self.oracle.forwards = int(state["forwards"])
        self.oracle.backwards = int(state["backwards"])
        by_name = {slot.name: slot for slot in self.slots}
        self._rule_state = {slot.index: {} for slot in self.slots}
        own: StateDict = {}
        for key, value in state.items():
            head, _, rest = key.partition(".")
            if head == "rule" and isinstance(value, Tensor):
                name, _, slot_name = rest.partition(".")
                slot = by_name[slot_name]
                self._rule_state[slot.index][name] = value.to(slot.param.device, copy=True)
            elif head == "perturbation":  # in memory of its own: bits of torch's products hang on how it is aligned
                own[rest] = value.clone() if isinstance(value, Tensor) else value
        self.perturbation.load_state_dict(own)

    def state_bytes(self) -> int:
        """Bytes of rule, perturbation and oracle state, held between steps beyond the weights; ``held`` draws apart."""
        tensors = [x for state in self._rule_state.values() for x in state.values()]
        rule = sum(x.numel() * x.element_size() for x in tensors)
        return rule + self.perturbation.state_bytes() + self.oracle.state_bytes()


class FirstOrder(Method):
    """Steps by gradients of backpropagation; without directions there is no ε, rule, perturbation or mode to set.

    Args:
        lr, seed, weight_decay, lr_schedule, warmup, total_steps: as for ``Method``.
    """

    forwards_per_step = 1
    backwards_per_step = 1
    differentiates = True
    takes_groups = False

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        lr: float,
        seed: int = 0,
        weight_decay: float = 0.0,
        lr_schedule: str = "constant",
        warmup: int = 0,
        total_steps: int | None = None,
    ):
        shape: dict[str, Any] = {"lr_schedule": lr_schedule, "warmup": warmup, "total_steps": total_steps}
        super().__init__(named_parameters, lr=lr, seed=seed, weight_decay=weight_decay, **shape)
