"""TeZO, TeZO-m, TeZO-Adam: low rank over matrices and time (Sun, Huang, Ding, Shen, Tao, arXiv:2501.19057).

The directions of all steps of a matrix are one tensor of r rank-one terms: U (m × r) and V (n × r) are drawn once, a
step draws the r numbers τ, and ``u = U diag(τ) Vᵀ``. With the projected gradient ``κ = (L(θ+εu) − L(θ−εu)) / 2ε``,

    TeZO:       ``θ ← θ − lr · κ u``
    TeZO-m:     ``M ← β₁M + (1−β₁) κτ``, ``θ ← θ − lr · U diag(M) Vᵀ``
    TeZO-Adam:  and ``S ← β₂S + (1−β₂) κ²τ²``, ``θ ← θ − lr · U diag(M) Vᵀ / √((U∘U) diag(S) (V∘V)ᵀ + ε_adam)``

TeZO and TeZO-m never leave ``θ₀ + range(U, V)``; the division of TeZO-Adam is element by element, and does. It drops
the cross terms of ``(Σ κτ_s u_s v_sᵀ)²`` and corrects no bias. In the mean over U, V and τ the estimate is r times the
gradient: the paper has no factor 1/r, and learning rates go with r.

Forward passes per step: 2. State: r (m + n) fp32 numbers per m × n matrix, and r more (TeZO-m) or 2r (TeZO-Adam); a
step of TeZO-Adam holds the quotient of one tensor at a time, in its shape.
Every 2-D tensor has its U and V, embeddings, heads and LoRA factors included, a tied head once. Vectors, of which the
paper does not speak, have Gaussian directions, and moments of their own size. The rank is cut to the short side.

No code was released. The paper chooses r by layer, as the number of singular values of the layer's weights above a
fraction of the largest, the least over the layer's matrices, and at most r_max; fraction and r_max are set by hand, and
were not at hand: here one ``rank`` holds for all.
"""

from typing import Any, ClassVar

from zobench.zo import CoreSpace, ExponentialAverage, LiftedAdam, Method, NamedParameters, Oracle, central_difference
from zobench.zo.checks import positive
from zobench.zo.perturbations.temporal import TemporalSubspace


class TeZO(Method):
    """``θ ← θ − lr · (L(θ+εu) − L(θ−εu)) / 2ε · u`` with ``u = U diag(τ) Vᵀ``, of which a step draws τ alone.

    Args:
        rank: r, cut to the short side of a matrix.
        common: the arguments of ``Method``.
    """

    def __init__(self, named_parameters: NamedParameters, *, rank: int = 32, **common: Any):
        self.space = TemporalSubspace(rank=rank)
        super().__init__(named_parameters, perturbation=self.space, **common)

    def update(self, oracle: Oracle) -> None:
        if self.t == 0:
            self.space.draw_bases(self.slots, self.keys(0, purpose="left"), self.keys(0, purpose="right"))
        u = self.direction()
        self.apply(central_difference(oracle, u, self.eps) * u)


class TeZOMomentum(TeZO):
    """TeZO-m: the average of the steps' cores ``κτ``, lifted.

    Args:
        beta: decay of the average, the paper's β₁.
        common: the arguments of ``TeZO``.
    """

    decides: ClassVar[tuple[str, ...]] = ("rule",)

    def __init__(self, named_parameters: NamedParameters, *, beta: float = 0.9, **common: Any):
        super().__init__(named_parameters, rule=CoreSpace(rule=ExponentialAverage(beta=beta, start="zero")), **common)


class TeZOAdam(TeZO):
    """TeZO-Adam: the average of the steps' cores, lifted, over the root of that of their squares, lifted by squares.

    Args:
        beta1: decay of the average.
        beta2: decay of the average of squares.
        eps_adam: keeps the divisor off 0.
        common: the arguments of ``TeZO``.
    """

    decides: ClassVar[tuple[str, ...]] = ("rule",)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        eps_adam: float = 1e-8,
        **common: Any,
    ):
        positive(eps_adam=eps_adam)
        super().__init__(named_parameters, **common)
        self.rule = LiftedAdam(self.space, beta1=beta1, beta2=beta2, eps=eps_adam)
