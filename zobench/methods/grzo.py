"""GRZO: group-relative zeroth-order optimization (Tan et al., arXiv:2606.02857, its two-sided estimator).

Each example j of the batch is measured at ``θ ± ε Δ_j``, ``Δ_j = U ∘ (r_j s_jᵀ)``: a normal U that the batch shares,
and random signs. So a batch gives as many directions as it has examples. Their slopes are weighed by the spread of all,
``a_j = δ_j / (std δ + 1e-8)`` of ``δ_j = (ℓ_j(θ+εΔ_j) − ℓ_j(θ−εΔ_j)) / 2``, and no mean is taken off.

Forward passes per step: 2, in each of which every example runs once. State: none. Embeddings are matrices here, a
vector one column, whose s is one sign; a tied head is perturbed once. Where all δ of a batch are equal they say nothing
of one another, and the step is 0, as it is of a batch of one example, which the last of an epoch may be; a batch size
of 1 is refused. A loss multiplied by a number gives the same step, but for the 1e-8.

``variant`` gives the switches their values; a switch that is set by itself wins:

    switch    paper       official  what it does
    spread    population  sample    std of n or n − 1: a factor √(1 − 1/n) of the step
    exclude   ''          bias      part of names not to train

Official follows github.com/LiyanTan111/GRZO-public @99643af, two_norm, as far as it is meant: biases of linear layers
stay. In that code, and in the paper as its README has it, norms and embeddings move along signs alone, without U, and
of an embedding only the rows that a batch looks up. The code also takes these signs from a hash of which one bit is
used, moves biases of norms along directions that were not measured, perturbs a tied head twice by different noise,
gives each option of an example a direction of its own with that example's weight, and leaves one example NaN; these
have no switch. A description of the paper has the whole difference as δ, which halves the weight of the 1e-8.
"""

import statistics
from dataclasses import dataclass
from typing import Any, Literal

from zobench.methods.variants import resolve, without
from zobench.zo import ZERO, Method, NamedParameters, Oracle
from zobench.zo.perturbations.sign_products import SignProducts

#: keeps the division by the spread off 0
TINY = 1e-8


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    spread: Literal["sample", "population"] = "population"
    exclude: str = ""


VARIANTS = {"paper": Switches(), "official": Switches(spread="sample", exclude="bias")}


class GRZO(Method):
    """``θ ← θ − lr/(2εB) · Σ_j a_j Δ_j``, a_j the slope of example j along its own Δ_j over the spread of all B.

    Args:
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        settings: the switches, and the arguments of ``Method``.
    """

    variants = VARIANTS
    fewest_examples = 2

    def __init__(self, named_parameters: NamedParameters, *, variant: str = "paper", **settings: Any):
        self.switches = on = resolve(VARIANTS, variant, settings)
        self.space = SignProducts()
        super().__init__(without(on.exclude, named_parameters), perturbation=self.space, **settings)

    def update(self, oracle: Oracle) -> None:
        self.space.renew(self.keys(self.t, purpose="sizes"))
        plus, minus = oracle.own_losses(
            [lambda j: self.eps * self.direction(j), lambda j: -self.eps * self.direction(j)]
        )
        weights = self.relative([(p - m) / 2 for p, m in zip(plus, minus, strict=True)])
        scale = 1 / (2 * self.eps * len(weights))
        self.apply(sum((scale * a * self.direction(j) for j, a in enumerate(weights)), ZERO))

    def relative(self, deltas: list[float]) -> list[float]:
        """Each change of loss over the spread of all; 0 where there is none."""
        if min(deltas) == max(deltas):
            return [0.0] * len(deltas)
        std = statistics.pstdev if self.switches.spread == "population" else statistics.stdev
        return [delta / (std(deltas) + TINY) for delta in deltas]
