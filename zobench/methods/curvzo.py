"""CurvZO: curvature-guided sparse zeroth-order optimisation (Wang, Chen, Tang, arXiv:2603.21725, section 3.5).

Forward passes per step: 2. State: one fp64 score per block and two scalars. A block is one parameter: matrix,
embedding, vector or LoRA factor alike; a tied head is one with its embedding. Blocks outside the sample stay untouched
but for weight decay, stateful update rules and ``mode=exact``.

The full text and the authors' code were not at hand: this file follows digests of the paper and a public port of the
code. ``variant`` switches where these differ: ``score_power`` (paper 0.5, official 1) and ``budget_cap`` (paper
waterfill, official pmax). Three readings have a switch of their own: ``score`` (the port's |Δ| or the paper's Δ², here
relative to its running size), ``uniform_mix`` (a constant of the port that nothing reads) and ``exclude_embeddings``.
No variant follows the port in four things: its scalars are fp16, here float64; its noise is one stream through the
sampled blocks; its decay skips the others; and it does not count in π that the most probable block replaces an empty
sample.
"""

from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor

from zobench.zo import Method, Oracle, central_difference
from zobench.zo.method import StateDict
from zobench.zo.perturbations.block_sampling import Cap, SampledBlocks, corrected, inclusion_probabilities
from zobench.zo.perturbations.block_scores import BlockScores, Budget, Kind
from zobench.zo.slot import kind_of

VARIANTS: dict[str, tuple[float, Cap]] = {"paper": (0.5, "waterfill"), "official": (1.0, "pmax")}


class CurvZO(Method):
    """``θ_b ← θ_b − lr · (L(θ+εm⊙u) − L(θ−εm⊙u)) / 2ε · m_b u_b / π_b``, ``m_b ~ Bernoulli(π_b)``, ``π ∝ S^power``.

    Args:
        eps: perturbation scale ε.
        variant: ``paper`` or ``official``: the values of ``score_power`` and ``budget_cap`` where they are None.
        score_power: π ∝ S^power; 0 samples uniformly.
        budget_cap: ``waterfill`` meets the budget; ``pmax`` stops where the largest π reaches 1.
        score, score_init, score_ema, gradient_ema, uniform_mix: see ``BlockScores``.
        budget_init, budget_min, budget_max, budget_weight, budget_ema: see ``Budget``.
        adapt_every: steps between moves of the budget; 0: it stays at ``budget_init``.
        exclude_embeddings: do not train embeddings.
        common: the arguments of ``Method``.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        *,
        eps: float = 1e-3,
        variant: Literal["paper", "official"] = "paper",
        score_power: float | None = None,
        budget_cap: Cap | None = None,
        score: Kind = "magnitude",
        score_init: float = 0.01,
        score_ema: float = 0.1,
        gradient_ema: float = 0.1,
        uniform_mix: float = 0.0,
        budget_init: float = 0.4,
        budget_min: float = 0.1,
        budget_max: float = 0.8,
        budget_weight: float = 0.7,
        budget_ema: float = 0.1,
        adapt_every: int = 20,
        exclude_embeddings: bool = False,
        **common: Any,
    ):
        kept = [(n, p) for n, p in named_parameters if not (exclude_embeddings and kind_of(n, p) == "embedding")]
        self.sample = SampledBlocks()
        super().__init__(kept, perturbation=self.sample, **common)
        if not eps > 0:
            raise ValueError(f"eps={eps}: must be positive")
        if variant not in self.variants:
            raise ValueError(f"variant={variant}: expected one of {', '.join(self.variants)}")
        if budget_cap not in (None, "waterfill", "pmax"):
            raise ValueError(f"budget_cap={budget_cap}: expected waterfill, pmax or null for the variant's")
        if adapt_every < 0:
            raise ValueError(f"adapt_every={adapt_every}: must be positive, or 0 for a fixed budget")
        power, cap = VARIANTS[variant]
        self.eps, self.budget_cap, self.adapt_every = eps, budget_cap or cap, adapt_every
        self.scores = BlockScores(
            [slot.param.numel() for slot in self.slots],
            kind=score,
            power=power if score_power is None else score_power,
            uniform_mix=uniform_mix,
            init=score_init,
            ema=score_ema,
            gradient_ema=gradient_ema,
        )
        self.budget = Budget(init=budget_init, low=budget_min, high=budget_max, weight=budget_weight, ema=budget_ema)

    def update(self, oracle: Oracle) -> None:
        pi = inclusion_probabilities(self.scores.shares(), self.budget.blocks(len(self.slots)), self.budget_cap)
        self.sample.redraw(self.slots, pi, self.keys(self.t, purpose="blocks"))
        u = self.direction()
        projected = central_difference(oracle, u, self.eps)
        self.scores.learn(projected, self.sample.energies(self.slots, u))
        if self.adapt_every and self.t % self.adapt_every == 0:
            self.budget.adapt(self.scores.floored())
        self.apply(projected * corrected(u))
        oracle.notes |= {
            "budget": self.budget.share,
            "expected_blocks": float(pi.sum()),
            "sampled_blocks": len(self.sample.pi),
            "sampled_weights": sum(self.scores.sizes[b] for b in self.sample.pi) / sum(self.scores.sizes),
            "score_size_correlation": self.scores.size_correlation(),
        }

    def state_dict(self) -> StateDict:
        own: StateDict = {"scores": self.scores.values, "gradient": self.scores.gradient, "budget": self.budget.share}
        return super().state_dict() | own

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        assert isinstance(state["scores"], Tensor)
        self.scores.values = state["scores"].to("cpu", copy=True)
        self.scores.gradient, self.budget.share = float(state["gradient"]), float(state["budget"])

    def state_bytes(self) -> int:
        return super().state_bytes() + self.scores.state_bytes()
