"""The lens: how good a method's estimates of the gradient are, measured against backpropagation.

At one point and on one batch a method makes several estimates ``ĝ_i`` that differ in their keys alone. They are
compared with the gradient ``g`` of the loss on that batch. All numbers follow from the inner products of the estimates
with each other and with ``g``; expectations are estimated without bias (U-statistics), errors by the jackknife.

Measuring leaves no trace: it works on twins of the method that share the weights and put them back to the bit.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from zobench.zo.closure import Closure
from zobench.zo.independent import Gaussian
from zobench.zo.keys import Keys, mix, tag
from zobench.zo.method import Method
from zobench.zo.slot import sum_dtype

Readings = dict[str, float | None]
_TINY = 1e-300  # in half precision an estimate can be 0


def look(method: Method, closure: Closure, *, draws: int = 16) -> Readings:
    """Measure the estimates that a method would make at its next step.

    Args:
        method: it is not changed; its twins measure.
        closure: the loss of one batch, with a graph when gradients are enabled.
        draws: number of estimates, at least 3. They are held together: ``draws`` fp32 copies of the trainable weights.

    Returns:
        ``weights``, ``draws`` and ``gradient_norm``, which stand alone where the gradient is 0 or, None then, not
        finite; with ``_stderr`` columns beside them:
        ``cosine``: of the angle between an estimate and the gradient.
        ``gain``: length of the mean estimate along the gradient, in gradients; 1 without bias along it.
        ``relative_error``: ``‖ĝ − g‖ / ‖g‖``, root mean square, of the estimate as it is.
        ``variance_per_forward``: ``F · tr Cov(ĝ) / (gain² ‖g‖²)``, F the forward passes per estimate: the relative
        variance that one forward pass buys, whatever the estimate's scale. ``2(d + 1)`` for MeZO.
        ``efficiency``: ``2 (d + 2) / F · ⟨Eĝ, g⟩² / (‖g‖² E‖ĝ‖²)``, the largest expected decrease per forward pass that
        a fixed step size can reach, in units of MeZO's, where the curvature is the same in all directions. 1 for MeZO.
        ``bias``: length of the mean estimate across the gradient, relative to that along it; negative, as a signed
        root, where it cannot be told from 0. ``bias_floor``: what one standard error of its square comes to.
        The numbers of ``precision`` are added.

    Raises:
        TypeError: for a first-order method, or a loss without a graph.
        ValueError: for fewer than 3 draws.
    """
    if draws < 3:
        raise ValueError(f"draws={draws}: at least 3 are needed to tell bias from variance")
    if method.backwards_per_step or not method.trains:
        raise TypeError(f"{type(method).__name__} makes no zeroth-order estimates to look at")
    gradient = _gradient(method, closure)
    estimates = [_estimate(method, closure, draw) for draw in range(draws)]
    return readings(estimates, gradient, _forwards(method)) | precision(method, closure)


def precision(method: Method, closure: Closure, *, directions: int = 8) -> Readings:
    """Measure whether the projected gradient at the method's ε is more than rounding, from forward passes only.

    Truncation makes ``p(ε)`` and ``p(2ε)`` differ by O(ε²), rounding by O(1/ε); in bf16 the second can be as large as
    the value itself.

    Returns:
        ``precision_error``: rms of ``p(ε) − p(2ε)`` over that of ``p(2ε)``; ``precision_sign``: share of equal signs.
    """
    eps = method.eps
    twin = _twin(method, directions)
    twin.oracle.perturbation = Gaussian()
    twin.oracle.begin(closure)
    near, far = [], []
    for query in range(directions):
        u = twin.direction(query, "precision")
        losses = twin.oracle.losses([u * (side * eps) for side in (1, -1, 2, -2)])
        near.append((losses[0] - losses[1]) / (2 * eps))
        far.append((losses[2] - losses[3]) / (4 * eps))
    twin.oracle.settle()
    size = math.sqrt(sum(f * f for f in far))
    error = math.sqrt(sum((n - f) ** 2 for n, f in zip(near, far, strict=True)))
    same = sum((n > 0) == (f > 0) for n, f in zip(near, far, strict=True)) / directions
    return {"precision_error": error / size if size else None, "precision_sign": same}


def _twin(method: Method, draw: int) -> Method:
    """The method beside it that makes the estimate of a draw."""
    return method.twin(Keys(mix(method.keys.seed, tag("lens"), draw)))


def _gradient(method: Method, closure: Closure) -> list[Tensor]:
    """The gradient on every slot, fp32 (fp64 for fp64 weights)."""
    twin = _twin(method, 0)
    twin.oracle.begin(closure)
    twin.oracle.backward()
    gradient = []
    for slot in method.slots:
        grad = torch.zeros_like(slot.param) if slot.param.grad is None else slot.param.grad
        gradient.append(grad.to(sum_dtype(slot.param)))
        slot.param.grad = None
    return gradient


def _estimate(method: Method, closure: Closure, draw: int) -> list[Tensor]:
    """What one ``update`` hands to ``apply``, on every slot; a method that applies in parts hands over their sum.

    A ``move`` is no estimate, and is left out.
    """
    twin = _twin(method, draw)
    total: list[Tensor] = []

    @torch.no_grad()
    def keep(estimate: object) -> None:
        parts = [twin.perturbation.estimate(slot, estimate) for slot in twin.slots]  # type: ignore[arg-type]
        total[:] = [a + b for a, b in zip(total, parts, strict=True)] if total else parts

    twin.apply = keep  # type: ignore[method-assign]
    twin.move = lambda way: None  # type: ignore[method-assign]
    twin.oracle.begin(closure)
    twin.perturbation.begin(twin.t, twin.slots)
    try:
        twin.update(twin.oracle)
    finally:
        twin.oracle.settle()
    return total


def _forwards(method: Method) -> float:
    """Forward passes per step, averaged over the run where steps differ."""
    if not method.total_steps:
        return method.forwards_per_step
    return sum(method.forwards_at(step) for step in range(method.total_steps)) / method.total_steps


def readings(estimates: list[list[Tensor]], gradient: list[Tensor], forwards: float) -> Readings:
    """The numbers that ``look`` describes, from N estimates and the gradient, each a list of tensors."""
    n, weights = len(estimates), sum(g.numel() for g in gradient)
    gram = torch.zeros(n, n, dtype=torch.float64)
    along = torch.zeros(n, dtype=torch.float64)
    for index, g in enumerate(gradient):
        rows = torch.stack([estimate[index].reshape(-1) for estimate in estimates]).double()
        gram += (rows @ rows.T).cpu()
        along += (rows @ g.reshape(-1).double()).cpu()
    square = sum(float(g.double().square().sum()) for g in gradient)
    finite = math.isfinite(square)
    numbers: Readings = {"draws": n, "weights": weights, "gradient_norm": math.sqrt(square) if finite else None}
    if square == 0 or not finite:
        return numbers
    along = along / math.sqrt(square)
    statistics: dict[str, Callable[[Tensor, Tensor], float]] = {
        "cosine": lambda gram, along: float((along / gram.diagonal().sqrt().clamp(min=_TINY)).mean()),
        "gain": lambda gram, along: float(along.mean()) / math.sqrt(square),
        "relative_error": lambda gram, along: math.sqrt(
            max(0.0, float(gram.diagonal().mean() - 2 * math.sqrt(square) * along.mean() + square)) / square
        ),
        "variance_per_forward": lambda gram, along: (
            forwards * float(gram.diagonal().mean() - _pairs(gram)) / max(float(along.mean()) ** 2, _TINY)
        ),
        "efficiency": lambda gram, along: (
            2 * (weights + 2) / forwards * _mean_square(along) / max(float(gram.diagonal().mean()), _TINY)
        ),
    }
    for name, statistic in statistics.items():
        numbers[name], numbers[f"{name}_stderr"] = _jackknife(statistic, gram, along)
    across, error = _jackknife(_bias_square, gram, along)
    numbers["bias"], numbers["bias_floor"] = math.copysign(math.sqrt(abs(across)), across), math.sqrt(error)
    return numbers


def _pairs(gram: Tensor) -> Tensor:
    """Mean over pairs of different draws: an unbiased estimate of the squared mean."""
    n = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1))


def _mean_square(along: Tensor) -> float:
    """The squared mean of numbers, estimated without bias."""
    return float(_pairs(torch.outer(along, along)))


def _bias_square(gram: Tensor, along: Tensor) -> float:
    """Squared length of the mean across the gradient over that along it."""
    return (float(_pairs(gram)) - _mean_square(along)) / max(float(along.mean()) ** 2, _TINY)


def _jackknife(statistic: Callable[[Tensor, Tensor], float], gram: Tensor, along: Tensor) -> tuple[float, float]:
    """A statistic of all draws, and its standard error from leaving out one at a time."""
    n = len(gram)
    values = []
    for left_out in range(n):
        keep = [i for i in range(n) if i != left_out]
        values.append(statistic(gram[keep][:, keep], along[keep]))
    mean = sum(values) / n
    return statistic(gram, along), math.sqrt((n - 1) / n * sum((v - mean) ** 2 for v in values))
