"""ConMeZO: directions on a cone about a momentum (Behric, Zhang, Li, Thekumparampil, arXiv:2511.02757, AISTATS 2026).

Forward passes per step: 2. State: the momentum m, one fp32 copy of the trainable weights (none at ``theta`` π/2), and
the rule's. All trainable tensors are one vector: matrices, embeddings and vectors alike, a tied head once.

While m is 0, as in the first step, ``z = u``. A step's z and its m stand for the same key: m moves when the next step
begins. In the released code β is small at first: ``beta_start`` up to step ``beta_hold``, then it is eased to ``beta``,
which it has after step ``beta_ramp``; these are plain settings, for the paper's text was not at hand.

Where the released code (LejsDeen/ConMeZO @fbd895e, read and not run) differs. ``variant=official`` sets these switches;
one that is given overrides its variant:

    switch   paper      official   what it does
    norm     measured   carried    ‖m‖ is never measured, but carried on as if every u had length √d and were orthogonal
                                   to m: √(d(A² + B²)), A = β‖m‖/√d + (1−β)c cosθ, B = (1−β)c sinθ
    m0       zero       normal     m at first, standard normal numbers of which the norm √d is assumed

That code also keeps m in the weights' dtype, in a buffer that holds z in between, and has no weight decay.
"""

from dataclasses import dataclass
from typing import Any

from zobench.methods.variants import resolve, take
from zobench.zo import Method, NamedParameters, Oracle, central_difference
from zobench.zo.checks import not_negative, within
from zobench.zo.perturbations.cone import Cone, FirstMomentum, NormOf


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    norm: NormOf = "measured"
    m0: FirstMomentum = "zero"


VARIANTS = {"paper": Switches(), "official": Switches(norm="carried", m0="normal")}


class ConMeZO(Method):
    """``θ ← θ − lr·c·z``, ``m ← βm + (1−β)c·z`` with ``c = (L(θ+εz) − L(θ−εz)) / 2ε``, ``z = cosθ √d m/‖m‖ + sinθ u``.

    ``u ~ N(0, I)``; d is the number of trainable weights, and the norm is that over all of them.

    Args:
        beta: decay β of the momentum.
        beta_start: β at first.
        beta_hold: the last step with that β.
        beta_ramp: the last step of the way to β; 0: β from the first step on.
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        seed: names every random draw.
        settings: these switches, and the arguments of ``Cone``, such as the angle θ, and of ``Method``.
    """

    variants = VARIANTS
    parts = (Cone,)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        beta: float = 0.99,
        beta_start: float = 0.1,
        beta_hold: int = 200,
        beta_ramp: int = 2000,
        variant: str = "paper",
        seed: int = 0,
        **settings: Any,
    ):
        on = resolve(VARIANTS, variant, settings)
        within("[0, 1)", beta=beta, beta_start=beta_start)
        not_negative(beta_hold=beta_hold, beta_ramp=beta_ramp)
        if 0 < beta_ramp <= beta_hold:
            raise ValueError(f"beta_ramp={beta_ramp}: must be 0 or more than beta_hold={beta_hold}")
        self.cone = Cone(seed=seed, **take(Cone, settings, on))
        super().__init__(named_parameters, seed=seed, perturbation=self.cone, **settings)
        self.beta, self.beta_start, self.beta_hold, self.beta_ramp = beta, beta_start, beta_hold, beta_ramp

    def update(self, oracle: Oracle) -> None:
        z = self.direction()
        c = central_difference(oracle, z, self.eps)
        self.apply(c * z)
        self.cone.learn(c * z, self.beta_at(self.t))
        oracle.notes |= {"momentum_norm": self.cone.length, "beta": self.beta_at(self.t)}

    def beta_at(self, step: int) -> float:
        """β of the move of m by a step's estimate, as the released code eases it."""
        if not self.beta_ramp or step > self.beta_ramp:
            return self.beta
        along = max(0.0, (step - self.beta_hold) / (self.beta_ramp - self.beta_hold)) ** 1.8
        return self.beta - (self.beta - self.beta_start) / (1.0 + 8.0 * along) ** 3
