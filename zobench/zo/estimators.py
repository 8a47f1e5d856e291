"""What losses at several offsets say of the gradient: the arithmetic that methods share."""

from collections.abc import Sequence

from zobench.zo.direction import ZERO, Direction
from zobench.zo.oracle import Oracle


def central_difference(oracle: Oracle, u: Direction, eps: float) -> float:
    """The projected gradient ``(L(θ+εu) − L(θ−εu)) / 2ε``, from two forward passes; a note of the step, too."""
    return central_differences(oracle, [u], eps)[0]


def central_differences(oracle: Oracle, directions: Sequence[Direction], eps: float) -> list[float]:
    """The projected gradient along each direction; the last is a note of the step, too."""
    losses = oracle.losses([u * (side * eps) for u in directions for side in (1.0, -1.0)])
    pairs = zip(losses[::2], losses[1::2], strict=True)
    found = [oracle.projected(plus, minus, eps) for plus, minus in pairs]
    oracle.notes["projected_gradient"] = found[-1]
    return found


def forward_differences(oracle: Oracle, directions: Sequence[Direction], eps: float) -> list[float]:
    """``(L(θ+εu) − L(θ)) / ε`` along each direction, from one forward pass each and one at θ, which is the first."""
    base, *ahead = oracle.losses([ZERO, *(u * eps for u in directions)])
    found = [(loss - base) / eps for loss in ahead]
    oracle.notes["projected_gradient"] = found[-1]
    return found


def leave_one_out(losses: Sequence[float]) -> list[float]:
    """Each loss against the others: ``(f_k − f̄) / (K − 1)``, which is ``(f_k − mean_{j≠k} f_j) / K``.

    Of equal losses it is 0 exactly, which the rounded mean would not always give.

    Args:
        losses: of K ≥ 2 queries.
    """
    if min(losses) == max(losses):
        return [0.0] * len(losses)
    mean = sum(losses) / len(losses)
    return [(loss - mean) / (len(losses) - 1) for loss in losses]
