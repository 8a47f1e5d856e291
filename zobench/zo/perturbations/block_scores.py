"""What CurvZO (arXiv:2603.21725) learns of blocks: a curvature score for each, and how many of them to sample."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from zobench.zo.checks import not_negative, one_of, positive, within

Kind = Literal["magnitude", "squared", "size"]
_FLOOR = 1e-12  # of a score; also keeps the relative gradient finite


class BlockScores:
    """A moving average per block of its share in the squared corrected noise, times the relative projected gradient.

    State: one fp64 score per block, and the running ``|Δ|``.

    Args:
        sizes: number of weights of each block.
        score: ``magnitude`` weighs with |Δ|, ``squared`` with Δ², relative to the running |Δ|; ``size`` stays at
            numel^(1/(1+2·power)), where the scores settle if Δ tells nothing about the blocks.
        score_power: π ∝ S^power.
        score_init: first score.
        score_ema: rate β of the scores' moving average.
        gradient_ema: rate of the moving average of |Δ|.
        uniform_mix: share of the probabilities spread evenly over the blocks.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        score: Kind = "magnitude",
        score_power: float = 0.5,
        score_init: float = 0.01,
        score_ema: float = 0.1,
        gradient_ema: float = 0.1,
        uniform_mix: float = 0.0,
    ):
        one_of(get_args(Kind), score=score)
        not_negative(score_power=score_power)
        positive(score_init=score_init)
        within("[0, 1]", uniform_mix=uniform_mix, score_ema=score_ema, gradient_ema=gradient_ema)
        self.kind, self.power, self.uniform_mix = score, score_power, uniform_mix
        self.ema, self.gradient_ema = score_ema, gradient_ema
        self.sizes = tuple(sizes)
        self.values = torch.full((len(self.sizes),), score_init, dtype=torch.float64)
        if score == "size":
            self.values = torch.tensor(self.sizes, dtype=torch.float64) ** (1.0 / (1.0 + 2.0 * score_power))
        self.gradient = 1e-8

    def floored(self) -> Tensor:
        """The scores, kept off 0."""
        return self.values.clamp_min(_FLOOR)

    def shares(self) -> Tensor:
        """The weights that the inclusion probabilities are proportional to; they sum to 1."""
        p = self.floored() ** self.power
        return (1.0 - self.uniform_mix) * p / p.sum() + self.uniform_mix / len(p)

    def learn(self, projected: float, energies: Mapping[int, float]) -> None:
        """Move the scores of the sampled blocks: ``S_b ← (1−β) S_b + β · a · E_b / ΣE``, ``a = |Δ| / mean|Δ|``.

        Args:
            projected: the projected gradient Δ.
            energies: ``E_b = ‖u_b‖² / π_b²`` by place of the block.
        """
        self.gradient += self.gradient_ema * (abs(projected) - self.gradient)
        if self.kind == "size":
            return
        relative = abs(projected) / (self.gradient + _FLOOR)
        weight = relative**2 if self.kind == "squared" else relative
        sampled = torch.tensor(list(energies))
        energy = torch.tensor(list(energies.values()), dtype=torch.float64)
        self.values[sampled] = (1.0 - self.ema) * self.values[sampled] + self.ema * weight * energy / energy.sum()

    def size_correlation(self) -> float:
        """Rank correlation of score and size: near 1, the scores say little beyond how large a block is."""
        return rank_correlation(self.values, torch.tensor(self.sizes))

    def state_bytes(self) -> int:
        """Bytes held between steps."""
        return self.values.numel() * self.values.element_size()


class Budget:
    """The expected share of the blocks in a sample (equation 20).

    Args:
        budget_init: the first share.
        budget_min: the lowest share.
        budget_max: the highest share.
        budget_weight: of the effective support against the sharpness.
        budget_ema: rate γ at which the share moves.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        *,
        budget_init: float = 0.4,
        budget_min: float = 0.1,
        budget_max: float = 0.8,
        budget_weight: float = 0.7,
        budget_ema: float = 0.1,
    ):
        bounds = {"budget_min": budget_min, "budget_max": budget_max}
        within("[0, 1]", **bounds, budget_init=budget_init, budget_weight=budget_weight, budget_ema=budget_ema)
        if not budget_min <= budget_init <= budget_max:
            lies = f"must lie between budget_min={budget_min} and budget_max={budget_max}"
            raise ValueError(f"budget_init={budget_init}: {lies}")
        self.share, self.low, self.high = budget_init, budget_min, budget_max
        self.weight, self.ema = budget_weight, budget_ema

    def blocks(self, n: int) -> int:
        """The expected number of sampled blocks of ``n``, at least 1."""
        return min(n, max(1, math.floor(n * self.share)))

    def adapt(self, scores: Tensor) -> None:
        """Move the share towards what the scores ask for: more blocks where many matter, or where few matter much."""
        mixture = self.weight * effective_support(scores) / len(scores) + (1.0 - self.weight) * sharpness(scores)
        raw = self.low + (self.high - self.low) * mixture
        self.share = min(self.high, max(self.low, (1.0 - self.ema) * self.share + self.ema * raw))


def effective_support(scores: Tensor) -> float:
    """The number of blocks that count, ``(Σ √S)² / Σ S``: 1 where one score holds all, n where all are equal."""
    return float(scores.sqrt().sum().square() / scores.sum())


def sharpness(scores: Tensor) -> float:
    """How unequal scores are, H: one minus their normalised entropy; 0 where all are equal, 1 where one holds all."""
    if len(scores) == 1:
        return 0.0
    entropy = float(torch.special.entr(scores / scores.sum()).sum())
    return min(1.0, max(0.0, 1.0 - entropy / math.log(len(scores))))


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's correlation, with average ranks for ties; 0 if either is constant."""
    ranks = []
    for values in (x, y):
        _, place, counts = values.unique(return_inverse=True, return_counts=True)
        rank = (counts.cumsum(0) - (counts + 1) / 2)[place].double()
        ranks.append(rank - rank.mean())
    scale = float(ranks[0].norm() * ranks[1].norm())
    return float(ranks[0] @ ranks[1]) / scale if scale else 0.0
