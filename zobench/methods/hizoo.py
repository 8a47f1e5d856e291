"""HiZOO: Hessian-informed zeroth-order optimisation (Zhao et al., arXiv:2402.15173, Algorithm 1).

Forward passes per step: 3; 4 with ``log_loss``. State: H, one fp32 copy of the trainable weights (none with ``alpha``
0), and the rule's. Matrices, embeddings and vectors are treated alike, a tied head once; LoRA factors have their own H.

H is a running estimate of the diagonal of the Hessian, 1 at first. Losses are measured along ``z/√H`` with the old H,
and the step goes along ``z/√H`` with the new one. H is kept in fp32: there, with the usual ``alpha`` of 1e-8, a step
moves an entry near 1 only where its sample of the curvature is above about 7; in fp16, as released, above 5e4.

Where the released code (Yanjun-Zhao/HiZOO @4f99055) differs. ``variant=official`` sets these switches; one that is
given overrides its variant:

    switch          paper   official  what it does
    centred         true    false     samples of the curvature have the factor |z² − 1|, whose mean is the diagonal; z²
                                      adds half the trace of H^(−1/2) ∇²L H^(−1/2), times H: a decay of the step
    decay_vectors   false   true      weight decay acts on biases and norms, too
    log_loss        false   true      the loss is evaluated once more after the step, for the record alone

That code also keeps H in the weights' dtype and takes ``alpha`` and the learning rate from schedules of its own.
"""

from dataclasses import dataclass
from typing import Any

from zobench.methods.variants import resolve
from zobench.zo import ZERO, Method, NamedParameters, Oracle
from zobench.zo.checks import within
from zobench.zo.perturbations.diagonal_metric import DiagonalMetric


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    centred: bool = True
    decay_vectors: bool = False
    log_loss: bool = False


VARIANTS = {"paper": Switches(), "official": Switches(centred=False, decay_vectors=True, log_loss=True)}


class HiZOO(Method):
    """``H ← (1−α)H + α |c/2 · H (z²−1)|``, then ``θ ← θ − lr · (L(θ+εu) − L(θ−εu)) / 2ε · z/√H`` with the new H.

    ``z ~ N(0, I)``, ``u = z/√H`` with the old H, and ``c = (L(θ+εu) + L(θ−εu) − 2L(θ)) / ε²``, the curvature along u.

    Args:
        alpha: rate α of H; 0 is MeZO.
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        settings: these switches, and the arguments of ``Method``.
    """

    variants = VARIANTS

    def __init__(
        self, named_parameters: NamedParameters, *, alpha: float = 1e-8, variant: str = "paper", **settings: Any
    ):
        self.switches = resolve(VARIANTS, variant, settings)
        within("[0, 1)", alpha=alpha)
        self.metric = DiagonalMetric(alpha, self.switches.centred)
        super().__init__(named_parameters, perturbation=self.metric, **settings)
        self.forwards_per_step = 4 if self.switches.log_loss else 3
        if self.switches.decay_vectors:
            self.oracle.spared = ()

    def update(self, oracle: Oracle) -> None:
        u = self.direction()
        base, plus, minus = oracle.losses([ZERO, u * self.eps, u * -self.eps])
        oracle.notes["projected_gradient"] = projected = oracle.projected(plus, minus, self.eps)
        oracle.notes["curvature"] = curvature = (plus + minus - 2 * base) / self.eps**2
        if self.metric.alpha:
            oracle.settle()  # from now on u is another tensor
            self.metric.learn(self.slots, u, curvature)
        self.apply(projected * u)
        if self.switches.log_loss:
            oracle.loss()
