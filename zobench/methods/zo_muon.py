"""ZO-Muon: subspace gradient orthogonalisation (Lang, Wang, Zhang, Hong, Zhang, Yin, Liu, arXiv:2602.17155).

On a matrix, directions are ``P Ψ`` with orthonormal P (m × r), uniformly random and renewed every ν steps, and Gaussian
Ψ (r × n). N queries give ``g = (1/N) Σ_i (L(θ + ε P Ψ_i) − L(θ)) / ε · Ψ_i``, and ``θ ← θ − lr · P msign(g)``: with
``msign(U S Vᵀ) = U Vᵀ`` the length of a step, about ``lr √r``, does not hang on the scale of the loss. msign is made by
five Newton-Schulz steps, which leave singular values between 0.68 and 1.21, or by an SVD.
``msign=none`` with ``central=true`` and ``probes=1`` is Subspace-MeZO (``method=zo_muon_sgd``).

Forward passes per step: N + 1; 2N with ``central``. State: r m fp32 numbers per m × n matrix; a step holds one r × n
core at a time.
Every 2-D tensor has its P, embeddings, heads and LoRA factors included, a tied head once. Vectors, of which the paper
does not speak, step along the mean of their Gaussian directions, with a learning rate of their own that follows the
schedule. The rank is cut to the short side; the released code fails where a matrix has fewer than r rows.

Where the released code (OPTML-Group/ZO-Muon @166a8f3, llm/) differs, ``variant=official`` sets a switch:
    basis_per: query, not interval. In a step that renews P, each query is measured with a P of its own, and all of them
        are applied with the last one's: what all but the last query say is applied where it was not measured.
The released code also makes P in fp32, keeps it in the weights' dtype and iterates in that, holds all Ψ_i for the step,
spares tensors from weight decay by their names, and steps vectors by 1e-7 whatever the schedule; these have no switch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from zobench.methods.variants import resolve
from zobench.zo import (
    ZERO,
    CoreSpace,
    Direction,
    Method,
    Muon,
    NamedParameters,
    Oracle,
    central_differences,
    forward_differences,
)
from zobench.zo.checks import at_least, not_negative
from zobench.zo.perturbations.left_subspace import LeftSubspace
from zobench.zo.spectral import MatrixSign


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    basis_per: Literal["interval", "query"] = "interval"


VARIANTS = {"paper": Switches(), "official": Switches(basis_per="query")}


class ZOMuon(Method):
    """``θ ← θ − lr · P msign( mean_i (L(θ + ε P Ψ_i) − L(θ)) / ε · Ψ_i )`` on matrices, with P of an interval.

    Args:
        lr: learning rate of matrices.
        lr_vectors: of vectors.
        rank: r, cut to the short side of a matrix.
        interval: ν, steps from one P to the next.
        probes: N, directions per step, averaged.
        central: measure both sides of each direction, instead of one side and the middle.
        msign: ``newton_schulz``, ``svd``, or ``none``: the step is ``P g``.
        variant: ``paper`` or ``official``: the values of the switches where they are None.
        settings: the switches, and the arguments of ``Method``.
    """

    variants = VARIANTS
    decides: ClassVar[tuple[str, ...]] = ("rule",)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        lr: float,
        lr_vectors: float = 1e-7,
        rank: int = 64,
        interval: int = 100,
        probes: int = 4,
        central: bool = False,
        msign: MatrixSign = "newton_schulz",
        variant: str = "paper",
        **settings: Any,
    ):
        self.switches = resolve(VARIANTS, variant, settings)
        not_negative(lr=lr, lr_vectors=lr_vectors)
        at_least(1, interval=interval, probes=probes)
        self.space = LeftSubspace(rank=rank)
        rule = CoreSpace(rule=Muon(msign=msign, vectors=lr_vectors / lr if lr else 0.0))
        super().__init__(named_parameters, lr=lr, perturbation=self.space, rule=rule, **settings)
        self.interval, self.probes, self.central = interval, probes, central
        self.forwards_per_step = 2 * probes if central else probes + 1

    def update(self, oracle: Oracle) -> None:
        queries = [self.direction(query) for query in range(self.probes)]
        if self.t % self.interval == 0 and self.switches.basis_per == "query":
            slopes = self.measure_apart(oracle, queries)
        else:
            if self.t % self.interval == 0:
                self.space.randomise(self.slots, self.keys(self.t, purpose="basis"))
            differences = central_differences if self.central else forward_differences
            slopes = differences(oracle, queries, self.eps)
        self.apply(sum((slope / self.probes * u for slope, u in zip(slopes, queries, strict=True)), ZERO))

    def measure_apart(self, oracle: Oracle, queries: Sequence[Direction]) -> list[float]:
        """The slope along each query in a basis of its own, of which the last one stays."""
        slopes, base = [], 0.0 if self.central else oracle.loss()
        for query, u in enumerate(queries):
            oracle.settle()
            self.space.randomise(self.slots, self.keys(self.t, query, "basis"))
            ahead = oracle.loss(u * self.eps)
            behind = oracle.loss(u * -self.eps) if self.central else base
            slopes.append((ahead - behind) / (self.eps * (1 + self.central)))
        oracle.notes["projected_gradient"] = slopes[-1]
        return slopes
