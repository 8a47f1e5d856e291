"""Linear layers among torch's functions: which tensors of a call are inputs, weight and bias."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_PRODUCTS = (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)


class Layer(NamedTuple):
    """A call that is a linear layer.

    Attributes:
        inputs: rows × n, or with more axes for rows.
        weight: m × n; n × m if ``transposed``.
        bias: m numbers, or None.
        transposed: whether it is the product ``x W``, as in GPT-2, not ``x Wᵀ``.
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    transposed: bool


def as_layer(func: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Layer | None:
    """The linear layer that a call is: ``F.linear``, ``torch.addmm``, or a product with a matrix on the right.

    >>> as_layer(torch.matmul, (torch.ones(2, 3), torch.ones(3, 4)), {}).transposed
    True
    """
    if func is F.linear:
        inputs, weight, bias = named(args, kwargs, "input", "weight", "bias")
        return Layer(inputs, weight, bias, False)
    if kwargs or not all(isinstance(x, Tensor) for x in args):
        return None
    if func is torch.addmm and len(args) == 3:
        return Layer(args[1], args[2], args[0], True)
    return Layer(args[0], args[1], None, True) if func in _PRODUCTS and len(args) == 2 else None


def named(args: Sequence[Any], kwargs: Mapping[str, Any], *names: str) -> list[Any]:
    """Arguments by their names; None where one is not given."""
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]
