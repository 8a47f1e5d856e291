"""Update rules: per-slot maps from a gradient estimate to a step.

A method multiplies the step by the learning rate and subtracts it. A *linear, stateless* rule may be applied as a
direction in one fused pass; the others see the estimate of one slot, or of some of its rows, as a tensor.
"""

from typing import Literal

import torch
from torch import Tensor

from zobench.zo.checks import one_of, positive, within
from zobench.zo.slot import Slot

State = dict[str, Tensor]


class UpdateRule:
    """The base of all rules; a subclass says what step it makes of an estimate.

    >>> class Halved(UpdateRule):
    ...     def __call__(self, slot, estimate, state, step):
    ...         return estimate / 2
    """

    #: whether the step is the estimate itself
    linear = False
    #: whether each number of the step hangs on the same number of estimate and state alone
    elementwise = True
    #: what it is given: estimates of the weights' shape, or their cores (``CoreSpace``)
    space: Literal["weights", "core"] = "weights"
    #: in core space: whether its steps have the weights' shape all the same
    lifts = False
    #: names of the state that is linear in the estimates: at a refresh, core space carries it to the new lift
    linear_state: tuple[str, ...] = ()
    #: names of the state that means nothing under another lift: at a refresh, core space drops it
    lift_state: tuple[str, ...] = ()

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        """The step that an estimate of the gradient leads to, before it is multiplied by the learning rate.

        Args:
            slot: the trainable tensor.
            estimate: for this slot, in fp32 (fp64 for fp64 weights); for some rows of it where the rule is elementwise.
            state: the slot's own tensors, of the estimate's shape; the rule may fill and change it.
            step: from 0.
        """
        raise NotImplementedError

    def unmeasured(self, slot: Slot, nothing: Tensor, state: State, step: int) -> Tensor:
        """The step on a slot that no draw of the estimate reaches; that of an estimate of 0, unless a rule says else.

        An estimate of 0 that was measured, as where losses tie, goes to the rule itself.

        Args:
            nothing: zeros, of the shape that an estimate has.
            slot, state, step: as for the rule itself.
        """
        return self(slot, nothing, state, step)


def _memory(state: State, name: str, like: Tensor) -> Tensor:
    """A tensor of a state; zeros of another's shape at first."""
    if name not in state:
        state[name] = torch.zeros_like(like)
    return state[name]


class SGD(UpdateRule):
    """Gradient descent: the step is the estimate. State: none."""

    linear = True

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        return estimate


class Momentum(UpdateRule):
    """Heavy ball: ``m ← β m + g``, step ``m``. State: one fp32 tensor per slot.

    Args:
        beta: decay β of the memory.

    Raises:
        ValueError: for a decay outside [0, 1).
    """

    linear_state = ("m",)

    def __init__(self, *, beta: float = 0.9):
        within("[0, 1)", beta=beta)
        self.beta = beta

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        m = _memory(state, "m", estimate)
        return m.mul_(self.beta).add_(estimate)


class ExponentialAverage(Momentum):
    """Mean of the estimates: ``m ← β m + (1−β) g``, step ``m``. State: one fp32 tensor per slot.

    Args:
        beta: decay β of the memory.
        start: the first ``m`` is the ``estimate``, or, from a memory of ``zero``, (1−β) times it.

    Raises:
        ValueError: for a decay outside [0, 1), or another start.
    """

    def __init__(self, *, beta: float = 0.9, start: Literal["estimate", "zero"] = "estimate"):
        super().__init__(beta=beta)
        one_of(("estimate", "zero"), start=start)
        self.start = start

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        if self.start == "estimate" and "m" not in state:
            state["m"] = estimate.clone()
            return state["m"]
        m = _memory(state, "m", estimate)
        return m.mul_(self.beta).add_(estimate, alpha=1 - self.beta)


class Adam(UpdateRule):
    """Adam (arXiv:1412.6980, Algorithm 1) on the estimate. State: two fp32 tensors per slot.

    Args:
        beta1: decay of the mean of the estimates.
        beta2: decay of the mean of their squares.
        eps: keeps the divisor off 0.

    Raises:
        ValueError: for an argument out of range.
    """

    linear_state = ("m",)

    def __init__(self, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        within("[0, 1)", beta1=beta1, beta2=beta2)
        positive(eps=eps)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def moments(self, estimate: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """The mean of the estimates and that of their squares, moved by one more; they are the state's own."""
        m, v = (_memory(state, name, estimate) for name in ("m", "v"))
        m.mul_(self.beta1).add_(estimate, alpha=1 - self.beta1)
        v.mul_(self.beta2).addcmul_(estimate, estimate, value=1 - self.beta2)
        return m, v

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        (m, v), t = self.moments(estimate, state), step + 1
        return (m / (1 - self.beta1**t)).div_((v / (1 - self.beta2**t)).sqrt_().add_(self.eps))


class AdaMM(Adam):
    """ZO-AdaMM (arXiv:1910.06513, Algorithm 1): AMSGrad on the estimate, without bias correction or projection.

    ``m ← β₁m + (1−β₁)g``, ``v ← β₂v + (1−β₂)g²``, ``v̂ ← max(v̂, v)``, step ``m/(√v̂ + eps)``. State: three fp32 tensors
    per slot.

    Args:
        beta1: decay of the mean of the estimates.
        beta2: decay of the mean of their squares.
        eps: keeps the divisor off 0.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(self, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-10):
        super().__init__(beta1=beta1, beta2=beta2, eps=eps)

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        (m, v), v_max = self.moments(estimate, state), _memory(state, "v_max", estimate)
        torch.maximum(v_max, v, out=v_max)
        return m / v_max.sqrt().add_(self.eps)


class Jaguar(UpdateRule):
    """JAGUAR SignSGD (arXiv:2506.04430): ``m ← βm + (1−β)g`` where g was measured only, step ``sign(m)`` everywhere.

    A slot that a sparse direction left alone keeps its memory, and keeps moving. State: one fp32 tensor per slot.

    Args:
        beta: decay β of the memory.

    Raises:
        ValueError: for a decay outside [0, 1).
    """

    linear_state = ("m",)

    def __init__(self, *, beta: float = 0.9):
        within("[0, 1)", beta=beta)
        self.beta = beta

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        m = _memory(state, "m", estimate)
        m.lerp_(estimate, torch.full_like(estimate, 1 - self.beta))  # a number as the weight rounds otherwise
        return m.sign()

    def unmeasured(self, slot: Slot, nothing: Tensor, state: State, step: int) -> Tensor:
        return state.setdefault("m", nothing).sign()


class Sign(UpdateRule):
    """The element-wise sign of the estimate (ZO-SignSGD, Liu et al., ICLR 2019). State: none."""

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        return estimate.sign()


class ClipNorm(UpdateRule):
    """Bounds the norm of each tensor's estimate, ``g_l · min(1, clip / ‖g_l‖)``, for another rule. State: the rule's.

    Args:
        rule: what steps by the bounded estimate.
        clip: the largest norm.

    Raises:
        ValueError: for a norm that is not positive.
    """

    elementwise = False

    def __init__(self, rule: UpdateRule, clip: float):
        positive(clip=clip)
        self.rule, self.clip = rule, clip
        self.linear_state = rule.linear_state

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        factor = (self.clip / torch.linalg.vector_norm(estimate)).clamp(max=1.0)
        return self.rule(slot, estimate * factor, state, step)

    def unmeasured(self, slot: Slot, nothing: Tensor, state: State, step: int) -> Tensor:
        return self.rule.unmeasured(slot, nothing, state, step)


class PrimalAveraging(UpdateRule):
    """``c ← c − lr·rule(g)``, ``x ← c/β + (1 − 1/β) x`` with ``β = 1 + t/averaging``: the weights x are averages of c.

    The gradient is to be measured at ``y = c/β + (1 − 1/β) x``, which is the weights minus ``lr · weight(t) · lag``.
    Instead of c the rule holds ``lag = (x − c) / lr``: one tensor per slot, small where c and x are close, so that
    half-precision weights do not lose it. At a constant learning rate the two forms are the same; otherwise, this
    one moves c with the rate.

    Args:
        rule: what moves c.
        averaging: the horizon in steps.

    Raises:
        ValueError: for a horizon that is not positive.
    """

    def __init__(self, rule: UpdateRule, averaging: float):
        positive(averaging=averaging)
        self.rule, self.averaging = rule, averaging
        self.elementwise = rule.elementwise
        self.linear_state = ("lag", *rule.linear_state)

    def weight(self, step: int) -> float:
        """The weight ``1/β`` of a step's c in the average."""
        return self.averaging / (self.averaging + step)

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        return self._averaged(self.rule(slot, estimate, state, step), state, step)

    def unmeasured(self, slot: Slot, nothing: Tensor, state: State, step: int) -> Tensor:
        return self._averaged(self.rule.unmeasured(slot, nothing, state, step), state, step)

    def _averaged(self, moved: Tensor, state: State, step: int) -> Tensor:
        if "lag" in state:
            moved = moved + state["lag"]
        state["lag"] = moved * (1.0 - self.weight(step))
        return moved * self.weight(step)
