"""Dual weights: torch functions see the weights with a tangent, and the loss comes with its derivative along it.

Forward-mode differentiation (arXiv:2202.08587): one pass computes a loss and its slope along a direction, without ε and
without a graph. The tangent of a tensor is made when a function reads it and dropped with the call, and activations
carry tangents of their own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from zobench.zo.direction import Direction
from zobench.zo.ledger import Unsuited
from zobench.zo.perturbation import Perturbation
from zobench.zo.shifted import reads_metadata
from zobench.zo.slot import Slot


class NoDerivative(Unsuited):
    """A loss that cannot be differentiated by forward mode; the message says in a line why, and what to do instead."""


class DualWeights(TorchFunctionMode):
    """A context in which torch functions see ``slots`` with the tangent of a direction; within a dual level alone.

    Args:
        slots: the trainable tensors.
        perturbation: what the direction is drawn from.
        direction: along which the derivative is taken.

    Attributes:
        seen: indices of the slots whose values were asked for.
    """

    def __init__(self, slots: Sequence[Slot], perturbation: Perturbation, direction: Direction):
        super().__init__()
        self.perturbation, self.direction = perturbation, direction
        self.seen: set[int] = set()
        self._slots = {id(slot.param): slot for slot in slots}

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not reads_metadata(func):
            args, kwargs = tree_map_only(Tensor, self._dual, (tuple(args), kwargs))
        return func(*args, **kwargs)

    def _dual(self, tensor: Tensor) -> Tensor:
        if (slot := self._slots.get(id(tensor))) is None:
            return tensor
        self.seen.add(slot.index)
        tangent = self.perturbation.estimate(slot, self.direction).to(tensor.dtype)
        return forward_ad.make_dual(tensor.detach(), tangent)


def directional_derivative(
    closure: Callable[[], Tensor | float], slots: Sequence[Slot], perturbation: Perturbation, direction: Direction
) -> tuple[float, float]:
    """The loss at the weights and its derivative along a direction.

    Raises:
        TypeError: for a loss that is no tensor.
        NoDerivative: for an operation without a formula of forward mode, or a loss that does not read all slots by
            torch functions of this thread.
    """
    dual = DualWeights(slots, perturbation, direction)
    try:
        with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level(), dual:
            loss = closure()
            if not isinstance(loss, Tensor):
                raise TypeError("a directional derivative needs the loss as a tensor, not a float")
            value, tangent = forward_ad.unpack_dual(loss)
            found = float(value), 0.0 if tangent is None else float(tangent)
    except NotImplementedError as error:
        said = (str(error).splitlines() or ["an operation has no formula"])[0].rstrip(".")
        raise NoDerivative(
            f"the loss has no derivative by forward mode: {said}; take a central difference instead (runs: method=mezo)"
        ) from error
    if missed := [slot.name for slot in slots if slot.index not in dual.seen]:
        raise NoDerivative(
            f"{missed[0]}: the loss does not read it by torch functions, so its part of the derivative is not known; "
            "train what the loss reads, or take a central difference"
        )
    return found
