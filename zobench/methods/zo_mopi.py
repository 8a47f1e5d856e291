"""ZO-MOPI: zeroth-order spectral optimisation by partial orthogonalisation from power iteration (arXiv:2605.09034).

ZO-Muon (zobench/methods/zo_muon.py) whose step is the matrix sign along the k leading singular directions alone, as the
others are noise. With orthonormal P (m × r), renewed every ν steps, and N one-sided queries ``P Ψ_i``,

    ``M ← βM + (1−β) (1/N) Σ_i (L(θ + ε P Ψ_i) − L(θ)) / ε · Ψ_i``     (r × n)
    ``V ← qr(Mᵀ M V)``, U the columns of ``M V`` brought to length 1,    ``θ ← θ − lr · P U Vᵀ``:

one power iteration a step, which goes on from the last V. A new P begins with the k leading directions of the momentum
and is random besides, and the momentum is projected on it.

Forward passes per step: N + 1. State: r m + r n + n k fp32 numbers per m × n matrix, and a vector's own size.
Every 2-D tensor has its P, embeddings, heads and LoRA factors included, a tied head once. Vectors step along the same
average of their Gaussian directions, with a learning rate of their own that follows the schedule. The rank is cut to
the short side, and k to the rank.

Where the released code (MOFA-LAB/ZO-MOPI @2ba4f71) differs. ``variant=official`` sets these switches; one that is given
overrides its variant:

    switch       paper      official
    beta         0.9        0
    anchored     true       false
    forget_v     false      true
    walk_back    same       redrawn

    beta: 0 is the default of the script, 0.9 of its program; the paper's was not at hand. With 0 there is no momentum.
    anchored: a new P begins with the momentum's directions, and the momentum is projected on it; the code for it is
        released, but commented out. Else P is random, and the momentum keeps its numbers.
    forget_v: V starts at random again when P is new.
    walk_back: in a step that renews P, the first query is drawn after P when it is measured, and without P when it is
        walked back: it walks back along other numbers, which are then what the update takes for it. The other queries
        are measured, and the weights stay, where that leaves them: at ``θ + ε(u − u')``.
The paper's queries may be pairs, as a secondary account has it. The released code makes P and V in fp32 and keeps them
in the weights' dtype, spares tensors from weight decay by their names, steps vectors by one rate whatever the schedule,
and can change to ZO-Muon after a number of steps; these have no switch.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from zobench.methods.variants import resolve
from zobench.zo import (
    ZERO,
    CoreSpace,
    Direction,
    ExponentialAverage,
    Method,
    NamedParameters,
    Oracle,
    PowerIteration,
    forward_differences,
)  # fmt: skip
from zobench.zo.checks import at_least, not_negative
from zobench.zo.perturbations.left_subspace import LeftSubspace


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    beta: float = 0.9
    anchored: bool = True
    forget_v: bool = False
    walk_back: Literal["same", "redrawn"] = "same"


OFFICIAL = Switches(beta=0.0, anchored=False, forget_v=True, walk_back="redrawn")
VARIANTS = {"paper": Switches(), "official": OFFICIAL}


class ZOMOPI(Method):
    """``θ ← θ − lr · P U Vᵀ`` on matrices, with ``U Vᵀ`` the sign of the momentum along its k leading directions.

    Args:
        lr: learning rate of matrices.
        lr_vectors: of vectors.
        rank: r, cut to the short side of a matrix.
        interval: ν, steps from one P to the next.
        probes: N, directions per step, averaged.
        directions: k, cut to the rank.
        seed: names every random draw.
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        settings: these switches, and the arguments of ``Method``.
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
        interval: int = 500,
        probes: int = 8,
        directions: int = 32,
        seed: int = 0,
        variant: str = "paper",
        **settings: Any,
    ):
        self.switches = on = resolve(VARIANTS, variant, settings)
        not_negative(lr=lr, lr_vectors=lr_vectors)
        at_least(1, interval=interval, probes=probes)
        self.space = LeftSubspace(rank=rank)
        self.power = PowerIteration(
            directions=directions,
            forget=on.forget_v,
            seed=seed,
            rule=ExponentialAverage(beta=on.beta) if on.beta else None,
            vectors=lr_vectors / lr if lr else 0.0,
        )
        rule = CoreSpace(rule=self.power)
        super().__init__(named_parameters, lr=lr, seed=seed, perturbation=self.space, rule=rule, **settings)
        self.space.keep_lifts(on.beta > 0 and on.anchored)
        self.interval, self.probes, self.displaced = interval, probes, ZERO
        self.displaces = on.walk_back == "redrawn"
        self.forwards_per_step = probes + 1

    def update(self, oracle: Oracle) -> None:
        self.displaced, (first, *rest) = ZERO, [self.direction(query) for query in range(self.probes)]
        walked_back, away = first, ZERO
        if self.t % self.interval == 0:
            self.renew_bases()
            if self.displaces:
                walked_back = self.direction(purpose="walked back")
                away = first - walked_back
                self.displaced = away * self.eps
        slopes = forward_differences(oracle, [first, *(away + u for u in rest)], self.eps)
        self.apply(sum((c / self.probes * u for c, u in zip(slopes, [walked_back, *rest], strict=True)), ZERO))

    def renew_bases(self) -> None:
        """Take new P, anchored in the momentum where there is one."""
        momenta = {}
        if self.switches.anchored:
            states = ((slot.name, self._rule_state[slot.index]) for slot in self.slots)
            momenta = {name: state["m"] for name, state in states if "m" in state}
        self.space.anchor(self.slots, self.keys(self.t, purpose="basis"), momenta, self.power.directions)

    @torch.no_grad()
    def apply(self, estimate: Direction) -> None:
        if self.displaced:
            self.oracle.settle()
            self.space.move(self.slots, self.displaced)
        super().apply(estimate)
