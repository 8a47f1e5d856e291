"""MEAZO: one adaptive scalar for all weights (Dbouk, Gazagnadou, Reisser, Louizos, arXiv:2605.03869).

MeZO's estimate, divided by the root of a bias-corrected average of squared slopes. The paper's point: along random
directions the coordinates of an estimate do not differ enough for Adam's moments to be worth their memory, and a
single number gives what they give. So it is the control for every adaptive rule.

Forward passes per step: 2 per probe. State: one number (one tensor set per moment with a stateful rule).
All trainable tensors are perturbed alike: matrices, embeddings, vectors; a tied head once.

The first step has length ``lr ‖u‖`` with one probe, whatever the loss; with ζ → 0 all steps stay the same under
L → aL. No code was released, and the paper's rate and β are not known here; it also draws directions from the sphere.
"""

import math
from typing import Any

from zobench.zo import ZERO, Method, NamedParameters, Oracle, central_differences
from zobench.zo.checks import at_least, positive, within
from zobench.zo.method import StateDict


class MEAZO(Method):
    """``θ ← θ − lr / (√v̂ + ζ) · mean_q [c_q u_q]``, with v̂ a bias-corrected average of ``(mean_q c_q)²``.

    ``v ← βv + (1 − β)(mean_q c_q)²``, ``v̂ = v / (1 − β^(t+1))`` with t from 0, ``c_q = (L(θ+εu_q) − L(θ−εu_q)) / 2ε``
    and ``u_q ~ N(0, I)``.

    Args:
        probes: q, directions per step.
        beta: decay β of the average.
        zeta: ζ, keeps the divisor off 0.
        common: the arguments of ``Method``.
    """

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        probes: int = 1,
        beta: float = 0.9,
        zeta: float = 1e-8,
        **common: Any,
    ):
        at_least(1, probes=probes)
        within("[0, 1)", beta=beta)
        positive(zeta=zeta)
        super().__init__(named_parameters, **common)
        self.probes, self.beta, self.zeta, self.v = probes, beta, zeta, 0.0
        self.forwards_per_step = 2 * probes

    def update(self, oracle: Oracle) -> None:
        directions = [self.direction(query) for query in range(self.probes)]
        slopes = central_differences(oracle, directions, self.eps)
        mean = sum(slopes) / self.probes
        self.v = self.beta * self.v + (1 - self.beta) * mean * mean
        size = math.sqrt(self.v / (1 - self.beta ** (self.t + 1))) + self.zeta
        oracle.notes["slope_size"] = size
        self.apply(sum((c / (self.probes * size) * u for c, u in zip(slopes, directions, strict=True)), ZERO))

    def state_dict(self) -> StateDict:
        return super().state_dict() | {"v": self.v}

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self.v = float(state["v"])
