"""MeZO: memory-efficient zeroth-order fine-tuning (Malladi et al., arXiv:2305.17333, Algorithm 1).

Forward passes per step: 2 per probe. State: none (one tensor set per moment with a stateful rule).
All trainable tensors are perturbed alike: matrices, embeddings, vectors; a tied head once.

Where the released code (princeton-nlp/MeZO @552cb1b) differs from this file: it draws one noise stream through all
tensors from torch's global generator, walks back before it updates (four passes over the weights, not three), and
decays every tensor whose name lacks bias/layer_norm/layernorm. ``protocol=mezo_exact`` reproduces it bit for bit.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

from zobench.zo import (
    ZERO,
    Gaussian,
    Method,
    NamedParameters,
    Oracle,
    Perturbation,
    Rademacher,
    central_differences,
)  # fmt: skip
from zobench.zo.checks import at_least, one_of
from zobench.zo.perturbations.low_rank import LowRank

Distribution = Literal["gaussian", "rademacher", "low_rank"]


class MeZO(Method):
    """``θ ← θ − lr · mean_q [ (L(θ+εu_q) − L(θ−εu_q)) / 2ε · u_q ]``, with ``u_q ~ N(0, I)`` replayed from its key.

    Args:
        probes: directions per step, averaged (the paper's n-SPSA).
        distribution: of ``u``: ``gaussian``; ``rademacher``, entries of −1 and 1 (Spall's SPSA); or ``low_rank``, on
            matrices ``U Vᵀ / √r`` with Gaussian factors, as in LOZO (arXiv:2410.07698).
        rank: r of ``low_rank``.
        common: the arguments of ``Method``.
    """

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        probes: int = 1,
        distribution: Distribution = "gaussian",
        rank: int = 8,
        **common: Any,
    ):
        at_least(1, probes=probes, rank=rank)
        one_of(get_args(Distribution), distribution=distribution)
        makers: dict[str, Callable[[], Perturbation]] = {"gaussian": Gaussian, "rademacher": Rademacher}
        made = makers.get(distribution, lambda: LowRank(rank=rank))()
        super().__init__(named_parameters, **{"perturbation": made, **common})
        self.probes = probes
        self.forwards_per_step = 2 * probes

    def update(self, oracle: Oracle) -> None:
        directions = [self.direction(query) for query in range(self.probes)]
        slopes = central_differences(oracle, directions, self.eps)
        self.apply(sum((slope / self.probes * u for slope, u in zip(slopes, directions, strict=True)), ZERO))
