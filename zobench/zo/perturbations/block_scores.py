"""What CurvZO (arXiv:2603.21725) learns about blocks: a curvature score for each, and how many of them to sample."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["magnitude", "squared", "size"]
KINDS = ("magnitude", "squared", "size")
_FLOOR = 1e-12  # of a score; also keeps the relative gradient finite


class BlockScores:
    """A moving average per block of its share in the squared corrected noise, times the relative projected gradient.

    Args:
        sizes: number of weights of each block.
        kind: ``magnitude`` weighs with |Δ|, ``squared`` with Δ², relative to the running |Δ|; ``size`` stays at
            numel^(1/(1+2·power)), where the scores settle if Δ tells nothing about the blocks.
        power: π ∝ S^power.
        uniform_mix: share of the probabilities spread evenly over the blocks.
        init: first score.
        ema: rate of the scores' moving average.
        gradient_ema: rate of the moving average of |Δ|.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        kind: Kind,
        power: float,
        uniform_mix: float,
        init: float,
        ema: float,
        gradient_ema: float,
    ):
        if kind not in KINDS:
            raise ValueError(f"score={kind}: expected one of {', '.join(KINDS)}")
        if not power >= 0:
            raise ValueError(f"score_power={power}: must be 0 or positive")
        if not init > 0:
            raise ValueError(f"score_init={init}: must be positive")
        _check_unit(uniform_mix=uniform_mix, score_ema=ema, gradient_ema=gradient_ema)
        self.kind, self.power, self.uniform_mix = kind, power, uniform_mix
        self.ema, self.gradient_ema = ema, gradient_ema
        self.sizes = tuple(sizes)
        self.values = torch.full((len(self.sizes),), init, dtype=torch.float64)
        if kind == "size":
            self.values = torch.tensor(self.sizes, dtype=torch.float64) ** (1.0 / (1.0 + 2.0 * power))
        self.gradient = 1e-8

    def floored(self) -> Tensor:
        return self.values.clamp_min(_FLOOR)

    def shares(self) -> Tensor:
        """What the inclusion probabilities are proportional to; sums to 1."""
        p = self.floored() ** self.power
        return (1.0 - self.uniform_mix) * p / p.sum() + self.uniform_mix / len(p)

    def learn(self, projected: float, energies: Mapping[int, float]) -> None:
        """``S_b ← (1−β) S_b + β · a · E_b / ΣE`` for the sampled blocks, ``a = |Δ| / mean|Δ|``.

        Args:
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
        return self.values.numel() * self.values.element_size()


class Budget:
    """The expected share of the blocks in a sample (equation 20).

    Args:
        init, low, high: first value and bounds.
        weight: of the effective support against the sharpness.
        ema: rate at which the share moves.
    """

    def __init__(self, *, init: float, low: float, high: float, weight: float, ema: float):
        _check_unit(budget_min=low, budget_max=high, budget_weight=weight, budget_ema=ema)
        if not low <= init <= high:
            raise ValueError(f"budget_init={init}: must lie between budget_min={low} and budget_max={high}")
        self.share, self.low, self.high, self.weight, self.ema = init, low, high, weight, ema

    def blocks(self, n: int) -> int:
        """The expected number of sampled blocks of ``n``, at least 1."""
        return min(n, max(1, math.floor(n * self.share)))

    def adapt(self, scores: Tensor) -> None:
        mixture = self.weight * effective_support(scores) / len(scores) + (1.0 - self.weight) * sharpness(scores)
        raw = self.low + (self.high - self.low) * mixture
        self.share = min(self.high, max(self.low, (1.0 - self.ema) * self.share + self.ema * raw))


def effective_support(scores: Tensor) -> float:
    """``d_eff = (Σ √S)² / Σ S``: from 1, where one score holds all, to n, where all are equal."""
    return float(scores.sqrt().sum().square() / scores.sum())


def sharpness(scores: Tensor) -> float:
    """``H``: one minus the normalised entropy, from 0, where all scores are equal, to 1, where one holds all."""
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


def _check_unit(**values: float) -> None:
    """Raises ValueError for a value outside [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}: must lie in [0, 1]")
