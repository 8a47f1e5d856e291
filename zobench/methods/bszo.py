"""BSZO: adaptive Bayesian subspace zeroth-order optimizer (Feng & Huang, arXiv:2601.01452, its Kalman filter).

The slopes g along k directions are taken for normal, ``N(0, σ_prior² I)``. A difference of losses along ``d`` in R^k
observes ``d·g`` with noise of variance ``σ² |d|²``, and a Kalman filter turns k and a few more of them into the
posterior ``N(m, Σ)``; the step is along ``Σ_i m_i z_i``, a sum and no mean. The noise is estimated as the run goes,
from what an observation differs by from its prediction.

Forward passes per step: k + 1; the release's later version: samples + 1. State: one number, the variance of the noise.
Matrices, embeddings and vectors are perturbed alike; a tied head once.

``variant`` gives the switch its value; where it is set by itself, that wins:

    switch    paper  official     what it does
    repeat    axis   eigenvector  an observation after the first k is of the direction in which Σ is widest: the
                                  observation of the axis next to it once more, or a new loss along the direction itself

Official follows github.com/AeonianQuill/BSZO @63d87bf, v4; v3, which its README runs, has the paper's count of forward
passes. Both let an observation move the noise's variance before it is taken in, take that for a
hundredth of the first one at least, and keep Σ off 0 by 1e-10, as this file does; the paper's text was not at hand.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zobench.methods.variants import resolve
from zobench.zo import ZERO, Method, NamedParameters, Oracle
from zobench.zo.checks import at_least, not_negative, positive, within
from zobench.zo.method import StateDict

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the default is the paper's."""

    repeat: Literal["axis", "eigenvector"] = "axis"


VARIANTS = {"paper": Switches(), "official": Switches(repeat="eigenvector")}


class Posterior:
    """The slopes along k directions, as far as they are known: ``N(mean, covariance)``.

    Args:
        k: how many.
        sigma: standard deviation of each before the first observation.

    Example:
        >>> slopes = Posterior(2, sigma=1.0)
        >>> slopes.observe(np.array([1.0, 0.0]), 3.0, noise=1.0)
        >>> slopes.mean.tolist(), slopes.widest().tolist()
        ([1.5, 0.0], [0.0, 1.0])
    """

    def __init__(self, k: int, sigma: float):
        self.mean: Vector = np.zeros(k)
        self.covariance: Vector = sigma**2 * np.eye(k)

    def observe(self, d: Vector, y: float, noise: float) -> None:
        """Take in that the slope along ``Σ d_i z_i`` was ``y``, with noise of this variance per unit of ``|d|²``."""
        along = self.covariance @ d
        gain = along / (d @ along + noise * (d @ d))
        self.mean = self.mean + gain * (y - d @ self.mean)
        left = self.covariance - np.outer(gain, along)
        self.covariance = (left + left.T) / 2 + 1e-10 * np.eye(len(d))

    def widest(self) -> Vector:
        """The unit vector along which least is known."""
        return np.linalg.eigh(self.covariance).eigenvectors[:, -1]


class BSZO(Method):
    """``θ ← θ − lr · Σ_i m_i z_i``, m the posterior mean of the slopes along the directions z_i of the step.

    Args:
        variant: ``paper`` or ``official``: the value of the switch of the module's table where it is None.
        eps: perturbation scale ε.
        probes: k, directions per step.
        samples: observations per step, at least k: of each axis one, then of where least is known.
        sigma_prior: standard deviation of a slope; √(d / 10⁶) of d trainable numbers if None.
        sigma_noise: that of the noise at first; the same if None.
        noise_rate: of the moving average of the noise's variance; 0 to keep it.
        settings: the switch, and the arguments of ``Method``.
    """

    variants = VARIANTS

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        variant: str = "paper",
        eps: float = 1e-4,
        probes: int = 2,
        samples: int = 3,
        sigma_prior: float | None = None,
        sigma_noise: float | None = None,
        noise_rate: float = 0.1,
        **settings: Any,
    ):
        self.switches = resolve(VARIANTS, variant, settings)
        at_least(1, probes=probes, samples=samples)
        if samples < probes:
            raise ValueError(f"samples={samples}: must be at least probes={probes}, as each axis is observed once")
        positive(sigma_prior=sigma_prior)
        not_negative(sigma_noise=sigma_noise)
        within("[0, 1]", noise_rate=noise_rate)
        super().__init__(named_parameters, eps=eps, **settings)
        usual = math.sqrt(sum(slot.param.numel() for slot in self.slots) / 1e6)
        self.sigma_prior = usual if sigma_prior is None else sigma_prior
        self.noise = (usual if sigma_noise is None else sigma_noise) ** 2
        self.least_noise = 0.01 * self.noise
        self.probes, self.samples, self.noise_rate = probes, samples, noise_rate
        self.forwards_per_step = 1 + (probes if self.switches.repeat == "axis" else samples)

    def update(self, oracle: Oracle) -> None:
        z = [self.direction(i) for i in range(self.probes)]
        base, *ahead = oracle.losses([ZERO, *(self.eps * u for u in z)])
        slopes, axes = Posterior(self.probes, self.sigma_prior), np.eye(self.probes)
        seen = [(loss - base) / self.eps for loss in ahead]
        for i in range(self.samples):
            d = axes[i] if i < self.probes else slopes.widest()
            if i >= self.probes and self.switches.repeat == "axis":
                d = axes[np.abs(d).argmax()]
            elif i >= self.probes:
                there = sum((self.eps * float(x) * u for x, u in zip(d, z, strict=True)), ZERO)
                seen.append((oracle.loss(there) - base) / self.eps)
            y = seen[i] if i < len(seen) else seen[int(d.argmax())]
            self.hear(y - float(d @ slopes.mean))
            slopes.observe(d, y, max(self.least_noise, self.noise))
        oracle.notes["noise"] = math.sqrt(self.noise)
        self.apply(sum((float(m) * u for m, u in zip(slopes.mean, z, strict=True)), ZERO))

    def hear(self, residual: float) -> None:
        """Move the variance of the noise to the square of what an observation differs by from its prediction."""
        if self.noise_rate:
            self.noise += self.noise_rate * (residual**2 - self.noise)

    def state_dict(self) -> StateDict:
        return super().state_dict() | {"noise": self.noise}

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self.noise = float(state["noise"])
