"""AIM-ZO: activation-informed subspace maintenance (Xie et al., arXiv:2609.35257; EkkoXy/AIM-ZO @f41eac2).

Per linear layer a basis Q (n × 128) follows the leading directions of its inputs, moved each step by Oja's rule from
the inputs in ``L(θ)``. N one-sided losses along rank-one directions in it, of which each uses 48 shared and 16 sampled
columns, are weighed leave-one-out: ``θ ← θ − lr · Σ (f_k − f̄) / (ε (N − 1)) · u_k``. ε falls along a cosine.

Forward passes per step: N + 1; N where the bases rest (``interval`` above 1), where the released code spends one more
whose loss it does not use. State: Q, 128 n fp32 numbers per m × n matrix; beside it as many again within a step.
Vectors, embeddings and tied heads, layers that never ran, and a head of which a loss over options of one token reads
some rows alone, move along a Gaussian. A LoRA pair has two inputs of its
own, x and Ax; the second is shorter than 64, and its basis spans it whole. Several processes hand each other a sketch
of the size of all Q at each refresh, much for large models: take ``interval: 10`` there.

``variant=official`` follows the released code; the switch set explicitly wins over the variant:
    divisor: first_eps. The weights are ``(f_k − f̄) / (N − 1)`` there, for any ε, so that steps shrink as ε falls. Here
        they are divided by the first ε, which leaves rates in the units of all methods: the released 1e-3 is
        1e-3 · 8e-5. ``eps``, the paper's by an account of it, divides by that of the step.
Without a switch: the released code looks at the first 128 rows of a layer's first micro-batch, padding included, and
here all real rows count; of a Q with fewer than 64 columns it samples once a step, not for each direction; and it keeps
Q in fp32 always.

Steps take their directions from activations, which losses do not give: a run cannot be replayed and keeps its weights.
"""

from dataclasses import dataclass
from typing import Any, Literal

from zobench.methods.variants import resolve, take
from zobench.zo import ZERO, Method, NamedParameters, Oracle, leave_one_out, schedule
from zobench.zo.checks import at_least, within
from zobench.zo.perturbations.input_sketch import BasisSketch
from zobench.zo.perturbations.oja import OjaSubspace


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    divisor: Literal["eps", "first_eps"] = "eps"


VARIANTS = {"paper": Switches(), "official": Switches(divisor="first_eps")}


class AIMZO(Method):
    """N one-sided losses along rank-one directions in the span of layers' inputs; the module's docstring has the rule.

    Args:
        variant: ``paper`` or ``official``: the values of the switches where they are None.
        probes: N, directions per step.
        interval: steps from one move of the bases to the next, counted from 1; the first step moves them, too.
        eps: perturbation scale ε at the first step.
        eps_end: ε at the last step as a fraction of ``eps``; between them a cosine. 1 for a constant ε.
        settings: the switches, and the arguments of ``OjaSubspace``, the distribution of directions, and of ``Method``.
    """

    taps = True
    variants = VARIANTS
    parts = (OjaSubspace,)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        variant: str = "paper",
        probes: int = 15,
        interval: int = 1,
        eps: float = 8e-5,
        eps_end: float = 0.25,
        **settings: Any,
    ):
        self.switches = resolve(VARIANTS, variant, settings)
        at_least(2, probes=probes)
        at_least(1, interval=interval)
        within("(0, 1]", eps_end=eps_end)
        self.space = OjaSubspace(**take(OjaSubspace, settings))
        super().__init__(named_parameters, eps=eps, perturbation=self.space, **settings)
        self.probes, self.interval, self.eps_end = probes, interval, eps_end

    @property
    def eps_now(self) -> float:
        """ε of the current step."""
        if self.eps_end == 1.0:
            return self.eps
        if self.total_steps is None:
            raise ValueError(f"eps_end={self.eps_end}: ε falls over the run, so AIM-ZO needs total_steps")
        left = schedule.factor("cosine", self.t, self.total_steps - 1)
        return self.eps * (self.eps_end + (1.0 - self.eps_end) * left)

    def refreshes_at(self, step: int) -> bool:
        """Whether a step moves the bases."""
        return step == 0 or (step + 1) % self.interval == 0

    def forwards_at(self, step: int) -> int:
        return self.probes + self.refreshes_at(step)

    def update(self, oracle: Oracle) -> None:
        eps = oracle.notes["eps"] = self.eps_now
        if self.refreshes_at(self.t):
            slots, key = self.space.taken(self.slots), self.keys(self.t, purpose="basis")
            with oracle.tap(BasisSketch(slots, self.space.r, key, self.space.bases)) as sketch:
                oracle.loss()
            self.space.follow(sketch)
        directions = [self.direction(query) for query in range(self.probes)]
        excess = leave_one_out(oracle.losses([u * eps for u in directions]))
        divisor = eps if self.switches.divisor == "eps" else self.eps
        self.apply(sum((e / divisor * u for e, u in zip(excess, directions, strict=True)), ZERO))
