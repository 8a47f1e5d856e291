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

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from zobench.zo import ZERO, Direction, Method, Oracle
from zobench.zo.perturbations.smoothing import Kernel, KernelSchedule
from zobench.zo.perturbations.stored import Stored
from zobench.zo.perturbations.tensor_radii import TensorRadii
from zobench.zo.rules import ClipNorm, PrimalAveraging

SWITCHES = {  # name: (paper, official)
    "probes": (1, 3), "kernel_scale": (1.0, 4.0), "r_scope": ("step", "tensor"), "tau_start": (1.0, 1.0),
    "tau_end": (1.0, 1e-4), "rescale_kernel": (True, False), "clip": (0.0, 4e5), "averaging": (0.0, 6.0),
    "exclude": ("", "decoder.embed_tokens"),
}  # fmt: skip


class KerZOO(Method):
    """``θ ← θ − lr · mean_q [ (L(θ+εru) − L(θ−εru)) / 2ε · K(r) u ]``, ``u ~ N(0, I)``, ``r ~ U[−τ, τ]``.

    Args:
        eps: perturbation scale ε; the divisor is 2ε, not 2εr.
        order: 1, 3 or 5: K = 3Cr, C(15/4)r(5−7r²) (the paper's) or C(105/64)r(99r⁴−126r²+35).
        variant: paper or official.
        tau_steps: steps in which τ falls by 1.
        others: the switches of the module's table, None for the variant's value, and the arguments of ``Method``.
    """

    variants = ("paper", "official")

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        *,
        eps: float = 1e-3,
        order: int = 3,
        variant: str = "paper",
        probes: int | None = None,
        kernel_scale: float | None = None,
        r_scope: str | None = None,
        tau_start: float | None = None,
        tau_end: float | None = None,
        tau_steps: int = 4000,
        rescale_kernel: bool | None = None,
        clip: float | None = None,
        averaging: float | None = None,
        exclude: str | None = None,
        **common: Any,
    ):
        if variant not in self.variants:
            raise ValueError(f"variant={variant}: expected paper or official")
        given = locals()
        column = variant == "official"
        s = SimpleNamespace(**{k: v[column] if given[k] is None else given[k] for k, v in SWITCHES.items()})
        super().__init__([(n, p) for n, p in named_parameters if not s.exclude or s.exclude not in n], **common)
        if not eps > 0:
            raise ValueError(f"eps={eps}: must be positive")
        if s.probes < 1:
            raise ValueError(f"probes={s.probes}: must be at least 1")
        if s.r_scope not in ("step", "tensor", "none"):
            raise ValueError(f"r_scope={s.r_scope}: expected step, tensor or none")
        self.eps, self.probes, self.r_scope = eps, s.probes, s.r_scope
        self.forwards_per_step = 2 * s.probes
        self.kernel_at = KernelSchedule(order, s.kernel_scale, s.tau_start, s.tau_end, tau_steps, s.rescale_kernel)
        if s.r_scope == "tensor":
            self.perturbation = TensorRadii(self.perturbation, self.kernel_at)
        if s.clip:
            self.rule = ClipNorm(self.rule, s.clip)
        self.averaging = PrimalAveraging(self.rule, s.averaging) if s.averaging else None
        if self.averaging:
            self.rule = self.averaging
            self.perturbation = Stored(self.perturbation, lambda slot: self._rule_state[slot.index].get("lag"))
        self.oracle.perturbation = self.perturbation

    def smoothed(self, kernel: Kernel, query: int) -> tuple[Direction, Direction]:
        """``r u`` and ``K(r) u``."""
        key = self.keys(self.t, query)
        if self.r_scope == "tensor":
            return TensorRadii.pair(key)
        u, r = Direction.ray(key), kernel.radius(key)
        return (u, kernel.moment(1) * u) if self.r_scope == "none" else (r * u, kernel(r) * u)

    def average(self) -> Direction:
        """The way from the weights to the average at which losses are measured."""
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
