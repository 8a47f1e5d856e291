"""KerZOO: kernel-smoothed two-point estimates (Mi et al., arXiv:2505.18886, its kernel-weighted gradient estimator).

Forward passes per step: 2 per probe (paper 2, official 6). State: none; with ``averaging``, one fp32 tensor of the size
of each trainable one. Matrices, embeddings and vectors are perturbed alike; a tied head once.

``variant`` gives the switches their values; a switch that is set by itself wins:

    switch          paper  official  what it does
    probes          1      3         perturbations per step, averaged
    kernel_scale    1      4         C: the mean step is C times MeZO's (for τ = 1)
    r_scope         step   tensor    one r per perturbation, or one per tensor, which leaves a third of MeZO's ε² bias
                                     between tensors; none: r = 1 and K = E[rK], MeZO with the kernel's mean step
    tau_start       1      1         r ~ U[−τ, τ], τ = max(tau_start − t/tau_steps, tau_end); the released README
    tau_end         1      1e-4      advises tau_start = 1/2
    rescale_kernel  true   false     K stretches with the interval; else E[r³K] returns as τ shrinks, and
                                     E[rK] = τ²(25 − 21τ²) is a hidden schedule of the learning rate
    clip            0      4e5       largest norm of the estimate of one tensor; 0: off
    averaging       0      6         horizon of primal averaging, measured at the average; 0: off
    exclude         ''     decoder.embed_tokens (OPT's token embedding and so its tied head): part of names not to train

Official follows github.com/Rainbow0427/zo_acc @a0b9f8d, very likely the authors'. That code also draws one torch stream
through all tensors from the seeds s, s − 1, s − 2, stores second weights and a gradient buffer, and un-mixes the
average in half precision. C, probes and τ of the paper's own runs are not known. Ablations: ``variant=official
r_scope=none clip=0 averaging=0 probes=1`` is MeZO with the hidden schedule; probes=3 or averaging=6 adds one part.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from zobench.methods.variants import resolve, take, without
from zobench.zo import ZERO, Direction, Method, NamedParameters, Oracle, Slot
from zobench.zo.checks import at_least
from zobench.zo.perturbations.smoothing import Kernel, KernelSchedule
from zobench.zo.perturbations.stored import Stored
from zobench.zo.perturbations.tensor_radii import TensorRadii
from zobench.zo.rules import ClipNorm, PrimalAveraging


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    probes: int = 1
    kernel_scale: float = 1.0
    r_scope: Literal["step", "tensor", "none"] = "step"
    tau_start: float = 1.0
    tau_end: float = 1.0
    rescale_kernel: bool = True
    clip: float = 0.0
    averaging: float = 0.0
    exclude: str = ""


OFFICIAL = Switches(
    probes=3, kernel_scale=4.0, r_scope="tensor", tau_end=1e-4, rescale_kernel=False, clip=4e5, averaging=6.0,
    exclude="decoder.embed_tokens",
)  # fmt: skip
VARIANTS = {"paper": Switches(), "official": OFFICIAL}


class KerZOO(Method):
    """``θ ← θ − lr · mean_q [ (L(θ+εru) − L(θ−εru)) / 2ε · K(r) u ]``, ``u ~ N(0, I)``, ``r ~ U[−τ, τ]``.

    Args:
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        settings: these switches, and the arguments of ``KernelSchedule``, which are the kernel's order and its τ, and
            of ``Method``. The divisor is 2ε, not 2εr.
    """

    takes_groups = False
    variants = VARIANTS
    parts = (KernelSchedule,)

    def __init__(self, named_parameters: NamedParameters, *, variant: str = "paper", **settings: Any):
        on = resolve(VARIANTS, variant, settings)
        at_least(1, probes=on.probes)
        self.kernel_at = KernelSchedule(**take(KernelSchedule, settings, on))
        super().__init__(without(on.exclude, named_parameters), **settings)
        self.probes, self.r_scope, self.averaging = on.probes, on.r_scope, None
        self.forwards_per_step = 2 * on.probes
        if on.r_scope == "tensor":
            self.oracle.perturbation = TensorRadii(self.perturbation, self.kernel_at)
        if on.clip:
            self.rule = ClipNorm(self.rule, on.clip)
        if on.averaging:
            self.rule = self.averaging = PrimalAveraging(self.rule, on.averaging)
            self.oracle.perturbation = Stored(self.perturbation, self.lag)

    def lag(self, slot: Slot) -> Tensor | None:
        """The way from a slot's second weights to its weights, over the learning rate; None before the first step."""
        return self._rule_state[slot.index].get("lag")

    def smoothed(self, kernel: Kernel, query: int) -> tuple[Direction, Direction]:
        """The direction that is measured, ``r u``, and the one that is applied, ``K(r) u``."""
        key = self.keys(self.t, query)
        if self.r_scope == "tensor":
            return TensorRadii.pair(key)
        u, r = Direction.ray(key), kernel.radius(key)
        return (u, kernel.moment(1) * u) if self.r_scope == "none" else (r * u, kernel(r) * u)

    def average(self) -> Direction:
        """The way from the weights to the average at which losses are measured; zero without averaging."""
        return Stored.ray * (-self.lr * self.averaging.weight(self.t)) if self.averaging else ZERO

    def update(self, oracle: Oracle) -> None:
        y, kernel, estimate = self.average(), self.kernel_at(self.t), ZERO
        for query in range(self.probes):
            ru, ku = self.smoothed(kernel, query)
            plus, minus = oracle.losses([y + self.eps * ru, y - self.eps * ru])
            oracle.notes["projected_gradient"] = projected = oracle.projected(plus, minus, self.eps)
            estimate += projected / self.probes * ku
        oracle.notes["mean_multiplier"] = kernel.moment(1)
        self.apply(estimate)
