"""FZOO: steps over the standard deviation of the losses (Dang et al., arXiv:2506.09034, ICLR 2026).

N one-sided losses ``l_i = L(θ+εu_i)`` along random signs and one at the centre; their differences weigh the directions,
and their own standard deviation σ scales the step, which is normalised SGD: σ/ε is about ``‖∇L‖``, and steps are the
same under L → aL + b, a > 0. Where all l_i are equal there is no σ, and no step.

Forward passes per step: N + 1; with ``reuse``, N + 1 in the first step and N/2 + 1 afterwards. State: none; N/2 numbers
with ``reuse`` (one tensor set per moment with a stateful rule). Signs have no factors of low rank, so queries share no
forward pass, and each costs a move of all weights besides: cheap ones, as signs take a fraction of a Gaussian's time.
All trainable tensors are perturbed alike: matrices, embeddings, vectors; a tied head once.

``variant=official`` is the released code (DKmiyan/FZOO @d4f8a8b). A switch set explicitly wins over the variant:

    switch         paper      official      what it does
    spread         sample     population    σ divides by N − 1, or by N
    eps_in_step    true       false         the step is divided by ε; the official lr is the paper's over ε
    round_losses   false      true          losses are rounded to fp32 before they are subtracted

The released code evaluates the centre last, which changes rounding alone, draws signs of all tensors from one stream,
and makes the weights in fp32; where all losses are equal it divides by 0. FZOO-R is not in it: the flag is never set.

``reuse`` is FZOO-R: N/2 new losses, and σ from these and N/2 of the step before. Which of them is not certain (here the
last), nor whether they weigh directions again (here not: other weights and another batch gave them).
"""

import statistics
from dataclasses import dataclass
from typing import Any, Literal

import torch

from zobench.methods.variants import resolve
from zobench.zo import ZERO, Method, NamedParameters, Oracle, Rademacher
from zobench.zo.checks import at_least
from zobench.zo.method import StateDict


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    spread: Literal["sample", "population"] = "sample"
    eps_in_step: bool = True
    round_losses: bool = False


VARIANTS = {
    "paper": Switches(),
    "official": Switches(spread="population", eps_in_step=False, round_losses=True),
}


class FZOO(Method):
    """``θ ← θ − lr/(εNσ) · Σ_i (L(θ+εu_i) − L(θ)) u_i``, ``u_i`` random signs, σ the deviation of the ``L(θ+εu_i)``.

    Args:
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        probes: N, at least 2; even with ``reuse``.
        reuse: FZOO-R.
        settings: these switches, and the arguments of ``Method``.
    """

    variants = VARIANTS
    normalises = True

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        variant: str = "paper",
        probes: int = 8,
        reuse: bool = False,
        **settings: Any,
    ):
        self.switches = resolve(VARIANTS, variant, settings)
        at_least(2, probes=probes)
        if reuse and probes % 2:
            raise ValueError(f"probes={probes}: with reuse, half of them are new in a step; set an even number")
        super().__init__(named_parameters, **{"perturbation": Rademacher(), **settings})
        self.probes, self.reuse = probes, reuse
        self.earlier: list[float] = []

    def forwards_at(self, step: int) -> int:
        return 1 + (self.probes // 2 if self.reuse and step else self.probes)

    def update(self, oracle: Oracle) -> None:
        directions = [self.direction(query) for query in range(self.forwards_at(self.t) - 1)]
        losses = oracle.losses([ZERO, *(u * self.eps for u in directions)])
        if self.switches.round_losses:
            losses = torch.tensor(losses, dtype=torch.float32).tolist()
        base, *ahead = losses
        sigma = self.deviation(ahead + self.earlier)
        over = len(ahead) * sigma * (self.eps if self.switches.eps_in_step else 1.0)
        weights = [(loss - base) / over if over else 0.0 for loss in ahead]
        self.apply(sum((weight * u for weight, u in zip(weights, directions, strict=True)), ZERO))
        oracle.notes["loss_spread"] = sigma
        self.earlier = ahead[-(self.probes // 2) :] if self.reuse else []

    def deviation(self, losses: list[float]) -> float:
        """σ of some losses, 0 of equal ones."""
        return statistics.stdev(losses) if self.switches.spread == "sample" else statistics.pstdev(losses)

    def state_dict(self) -> StateDict:
        return super().state_dict() | {f"earlier.{i}": loss for i, loss in enumerate(self.earlier)}

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        count = sum(key.startswith("earlier.") for key in state)
        self.earlier = [float(state[f"earlier.{i}"]) for i in range(count)]
