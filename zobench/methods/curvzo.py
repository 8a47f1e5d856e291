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

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zobench.methods.variants import resolve, take
from zobench.zo import Method, NamedParameters, Oracle, central_difference
from zobench.zo.checks import not_negative
from zobench.zo.method import StateDict
from zobench.zo.perturbations.block_sampling import Cap, SampledBlocks, corrected, inclusion_probabilities
from zobench.zo.perturbations.block_scores import BlockScores, Budget
from zobench.zo.slot import kind_of


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    score_power: float = 0.5
    budget_cap: Cap = "waterfill"


VARIANTS = {"paper": Switches(), "official": Switches(score_power=1.0, budget_cap="pmax")}


class CurvZO(Method):
    """``θ_b ← θ_b − lr · (L(θ+εm⊙u) − L(θ−εm⊙u)) / 2ε · m_b u_b / π_b``, ``m_b ~ Bernoulli(π_b)``, ``π ∝ S^power``.

    Args:
        variant: ``paper`` or ``official``: the values of ``score_power`` and ``budget_cap`` where they are None.
        adapt_every: steps between moves of the budget; 0: it stays at ``budget_init``.
        exclude_embeddings: do not train embeddings.
        settings: ``score_power``: π ∝ S^power, 0 samples uniformly; ``budget_cap``: ``waterfill`` meets the budget,
            ``pmax`` stops where the largest π reaches 1; the arguments of ``BlockScores``, ``Budget`` and ``Method``.
    """

    variants = VARIANTS
    parts = (BlockScores, Budget)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        variant: str = "paper",
        adapt_every: int = 20,
        exclude_embeddings: bool = False,
        **settings: Any,
    ):
        on = resolve(VARIANTS, variant, settings)
        not_negative(adapt_every=adapt_every)
        scores, budget = take(BlockScores, settings, on), take(Budget, settings)
        kept = [(n, p) for n, p in named_parameters if not (exclude_embeddings and kind_of(n, p) == "embedding")]
        self.sample = SampledBlocks()
        super().__init__(kept, perturbation=self.sample, **settings)
        self.budget_cap, self.adapt_every = on.budget_cap, adapt_every
        self.scores = BlockScores([slot.param.numel() for slot in self.slots], **scores)
        self.budget = Budget(**budget)

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
