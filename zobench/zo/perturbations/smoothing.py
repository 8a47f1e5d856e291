"""Smoothing kernels of two-point estimates: odd polynomials K on [−τ, τ] that cancel odd Taylor terms.

With ``r ~ U[−τ, τ]`` the estimate ``(L(θ+εru) − L(θ−εru)) / 2ε · K(r) u`` has the mean ``E[rK] ∇L`` plus terms in
``E[r³K] ε²``, ``E[r⁵K] ε⁴``, ... A kernel of order p has zero moments 3 to p. The polynomials are Legendre-type
(Bach and Perchet, COLT 2016). That literature prints 195/64 before the one of order 5, which gives ``E[rK] = 13/7``;
the normalised coefficient, 105/64, is used here.
"""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from zobench.zo.checks import at_least, one_of, positive
from zobench.zo.keys import mix, tag

_RADIUS = tag("radius")
Number = TypeVar("Number", float, Tensor)

#: order → coefficients of r, r³, r⁵ with E[rK] = 1 on [−1, 1]
COEFFICIENTS = {
    1: (3.0,),
    3: (75 / 4, -105 / 4),
    5: (105 / 64 * 35, -105 / 64 * 126, 105 / 64 * 99),
}


@dataclass(frozen=True)
class Kernel:
    """A smoothing kernel ``K(r) = C·k(r)`` on [−τ, τ], where k is the normalised kernel of [−1, 1].

    >>> kernel = Kernel(order=3)
    >>> [round(kernel.moment(p), 6) for p in (1, 3, 5)]
    [1.0, 0.0, -0.238095]

    Args:
        order: 1, 3 or 5: the highest odd moment that is set, E[rK], or to zero, E[r³K] and E[r⁵K].
        scale: the factor C.
        tau: half-width τ of the interval.
        rescale: use ``C·τ·k(r/τ)``, whose moments vanish on every interval and whose E[rK] is Cτ². Without it, the
            moments are those of a polynomial made for another interval.

    Raises:
        ValueError: for another order, or a factor that is not positive.
    """

    order: int
    scale: float = 1.0
    tau: float = 1.0
    rescale: bool = True

    def __post_init__(self) -> None:
        one_of(COEFFICIENTS, order=self.order)
        positive(kernel_scale=self.scale)

    def _terms(self) -> list[tuple[int, float]]:
        stretch = self.tau if self.rescale else 1.0
        return [(2 * i + 1, self.scale * a * stretch ** (-2 * i)) for i, a in enumerate(COEFFICIENTS[self.order])]

    def __call__(self, r: Number) -> Number:
        """The kernel's value ``K(r)`` at a number, or at each entry of a tensor."""
        value = 0.0 * r
        for power, a in self._terms():
            value = value + a * r**power
        return value

    def moment(self, p: int) -> float:
        """The moment ``E[r^p K(r)]`` for ``r ~ U[−τ, τ]``, in closed form."""
        return sum(a * self.tau ** (p + q) / (p + q + 1) for q, a in self._terms() if (p + q) % 2 == 0)

    def radius(self, key: int, *parts: int) -> float:
        """A radius ``r ~ U[−τ, τ]``, a function of the key (and of the parts, where each has its own)."""
        return self.tau * (mix(key, _RADIUS, *parts) / 2**62 - 1.0)


@dataclass(frozen=True, kw_only=True)
class KernelSchedule:
    """The kernel of each step: its interval shrinks linearly, ``τ = max(tau_start − t/tau_steps, tau_end)``.

    >>> KernelSchedule(tau_end=0.5, tau_steps=100)(25)
    Kernel(order=3, scale=1.0, tau=0.75, rescale=True)

    Args:
        order: 1, 3 or 5: K = 3Cr, C(15/4)r(5−7r²) or C(105/64)r(99r⁴−126r²+35).
        kernel_scale: the factor C.
        tau_start: τ at step 0.
        tau_end: the smallest τ.
        tau_steps: steps in which τ falls by 1.
        rescale_kernel: stretch the kernel with the interval, see ``Kernel``.

    Raises:
        ValueError: for a setting out of range.
    """

    order: int = 3
    kernel_scale: float = 1.0
    tau_start: float = 1.0
    tau_end: float = 1.0
    tau_steps: int = 4000
    rescale_kernel: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.tau_end <= self.tau_start:
            raise ValueError(f"tau_end={self.tau_end}: must be positive and at most tau_start={self.tau_start}")
        at_least(1, tau_steps=self.tau_steps)
        self(0)

    def __call__(self, step: int) -> Kernel:
        """The kernel of a step."""
        tau = max(self.tau_start - step / self.tau_steps, self.tau_end)
        return Kernel(self.order, self.kernel_scale, tau, self.rescale_kernel)
