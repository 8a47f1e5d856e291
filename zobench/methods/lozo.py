"""LOZO: zeroth-order fine-tuning with low-rank gradient estimates (Chen et al., arXiv:2410.07698, Algorithm 1).

LOZO-M (Algorithm 2) is LOZO with a running mean of the cores, ``N ← βN + (1−β) c U / r`` and ``W ← W − lr·N Vᵀ``, which
``N ← N V_oldᵀ V / n`` carries over to a new V; the first N is the first estimate. It is ``method=lozo_m``, the rule
``CoreSpace(rule=ExponentialAverage())``.

Forward passes per step: 2. State: V, n r fp32 numbers per m × n matrix; LOZO-M: N, m r more, and a vector's own size.
Every 2-D tensor is perturbed by its own ``U Vᵀ``: matrices, embeddings, LoRA factors; a tied head once. All other
tensors (biases, norms) by a plain Gaussian, which is not divided by r. The rank is cut to the short side.

Where the released code (optsuite/LOZO @5d1ade5) differs. ``variant=official`` sets these switches; one that is given
overrides its variant:

    switch            paper     official
    divide_by_rank    true      false
    refresh_update    measured  fresh

    divide_by_rank: the estimate on a matrix is ``c U Vᵀ / r``, whose mean is the gradient; else ``c U Vᵀ``, so that the
        official learning rate is the paper's over r.
    refresh_update: what a step that draws a new V moves along: what was measured, or fresh draws. The released update
        draws U from a generator that stands where the probe drew V, so that one step of ν is noise, vectors included.
The released code also draws one stream through all tensors, keeps V and N in the weights' dtype, spares tensors from
weight decay by their names, and forgets the momentum at each step where ν = 1 (it stores V_old at the last step of an
interval, which is then its first); these have no switch.
"""

from dataclasses import dataclass
from typing import Any, Literal

from zobench.methods.variants import resolve, take
from zobench.zo import Method, NamedParameters, Oracle, central_difference
from zobench.zo.checks import at_least
from zobench.zo.perturbations.lazy_low_rank import LazyLowRank


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    divide_by_rank: bool = True
    refresh_update: Literal["measured", "fresh"] = "measured"


VARIANTS = {"paper": Switches(), "official": Switches(divide_by_rank=False, refresh_update="fresh")}


class LOZO(Method):
    """``W ← W − lr · (L(W+εu) − L(W−εu)) / 2ε · u / r`` with ``u = U Vᵀ``, U new in each step, V in every ν-th.

    Args:
        interval: ν, steps from one V to the next.
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        settings: these switches, and the arguments of ``LazyLowRank``, which are the rank r and what becomes of
            embeddings, and of ``Method``.
    """

    variants = VARIANTS
    parts = (LazyLowRank,)

    def __init__(
        self, named_parameters: NamedParameters, *, interval: int = 50, variant: str = "paper", **settings: Any
    ):
        self.switches = resolve(VARIANTS, variant, settings)
        at_least(1, interval=interval)
        self.space = LazyLowRank(**take(LazyLowRank, settings))
        super().__init__(named_parameters, perturbation=self.space, **settings)
        self.interval = interval

    def update(self, oracle: Oracle) -> None:
        refreshes = self.t % self.interval == 0
        if refreshes:
            self.space.refresh(self.slots, self.keys(self.t, purpose="basis"))
        u = self.direction()
        projected = central_difference(oracle, u, self.eps)
        if refreshes and self.switches.refresh_update == "fresh":
            u = self.direction(purpose="fresh")
        self.apply(projected * (self.space.divided(u) if self.switches.divide_by_rank else u))
