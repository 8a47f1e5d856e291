"""Factors: a direction of low rank on a matrix as two thin matrices, and products with it that never make it whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """A direction ``U Vᵀ`` on a slot of m rows and n columns.

    Attributes:
        U: m × r.
        V: n × r.

    Example:
        >>> factors = Factors(torch.ones(3, 1), torch.ones(2, 1))
        >>> factors.rank, factors.T.U.shape
        (1, torch.Size([2, 1]))
    """

    U: Tensor
    V: Tensor

    @property
    def rank(self) -> int:
        """The number r of columns of both."""
        return self.U.shape[1]

    @property
    def T(self) -> "Factors":
        """The factors of the transpose."""
        return Factors(self.V, self.U)

    def to(self, dtype: torch.dtype) -> "Factors":
        """The factors in another dtype."""
        return Factors(self.U.to(dtype), self.V.to(dtype))


def add_product_(total: Tensor, scale: float, factors: Factors, keep: float = 1.0) -> Tensor:
    """``total ← keep·total + scale·U Vᵀ``: summed in fp32 or better, rounded once to the dtype of ``total``."""
    own = factors.to(total.dtype)
    return total.addmm_(own.U, own.V.T, beta=keep, alpha=scale)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, factors: Sequence[Factors | None], shifts: Tensor | None = None
) -> Tensor:
    """``F.linear`` of a weight and a bias that are seen elsewhere: ``x (W + U Vᵀ)ᵀ + b + s``, of which W is only read.

    The thin product is made first and the product with W is added to it, in fp32 or better: what comes last is rounded
    once. Added to a result already rounded to half precision, whatever is below half a unit of its last place is lost.

    Args:
        x: rows × n; its rows are as many groups of equal length as there are ``factors``, group after group.
        weight: m × n.
        bias: m numbers, or None.
        factors: of each group; None where the weight stays.
        shifts: of the bias in each group, groups × m in fp32 or better; None where it stays.

    Returns:
        rows × m.
    """
    thin = x.new_empty(len(x), len(weight))
    for place, (own, rows, out) in enumerate(
        zip(factors, x.chunk(len(factors)), thin.chunk(len(factors)), strict=True)
    ):
        shift = None if shifts is None else shifts[place].to(x.dtype)
        if own is None:
            out.zero_() if shift is None else out.copy_(shift)
            continue
        own = own.to(x.dtype)
        if shift is None:
            torch.mm(rows @ own.V, own.U.T, out=out)
        else:
            torch.addmm(shift, rows @ own.V, own.U.T, out=out)
    return add_to_linear(x, weight, bias, thin)


def add_to_linear(x: Tensor, weight: Tensor, bias: Tensor | None, beside: Tensor) -> Tensor:
    """``F.linear`` with a tensor of its shape added to it before it is rounded; that tensor's memory may be used."""
    if _fuses(x.device, x.dtype):
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise.binary(x, beside, weight, bias, "add"))
    beside.addmm_(x, weight.T)
    return beside if bias is None else beside.add_(bias)


@cache
def _fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a linear layer with a tensor added to it before it is rounded is there: oneDNN's, on many CPUs."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    x, other, bias = torch.eye(4, dtype=dtype), torch.full((4, 4), 0.25, dtype=dtype), torch.ones(4, dtype=dtype)
    try:
        with torch.no_grad():
            found = torch.ops.mkldnn._linear_pointwise.binary(x, other, x, bias, "add")
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False
    return torch.equal(found, F.linear(x, x, bias) + other)


def add_rows_(out: Tensor, ids: Tensor, factors: Sequence[Factors | None]) -> None:
    """``out += (U Vᵀ)[ids]``, summed in fp32 or better and rounded once.

    Args:
        out: as many rows as ``ids`` × n.
        ids: as many groups of equal length as there are ``factors``, group after group.
        factors: of each group; None where the rows stay.
    """
    groups = len(factors)
    for own, asked, rows in zip(factors, ids.chunk(groups), out.chunk(groups), strict=True):
        if own is not None:
            rows.addmm_(own.U[asked].to(out.dtype), own.V.T.to(out.dtype))
