"""LOREN: low-rank curvature for zeroth-order optimisation (Seung, Lee, Ko, arXiv:2511.07971).

K losses ``f_k = L(θ + εW_k)`` at one θ and batch, the rows of ``W_k`` being ``N(0, ρ(ρI + aaᵀ)⁻¹)``, and leave-one-out
weights ``e_k = (f_k − f̄)/(K − 1)`` give ``g = Σ e_k W_k / ε`` and ``m ← βm + g``, ``θ ← (1 − lr·wd)θ − lr·m``,
``a ← a − lr_cov·Σ e_k ∇_a log p(W_k)``. The paper's box was not at hand: this is its abstract, secondary notes and the
released code, reconciled; hence equation numbers are missing.

Forward passes per step: K (2K with ``antithetic``). State: ``a``, n fp32 numbers per (m, n) matrix or embedding, and
the momentum, one fp32 copy of all matrices and embeddings. ``a`` acts on axis 1, later axes flattened into it. A vector
is one row, its ``a`` is of full size, and it has no momentum. A tied head is one slot.

``variant=official`` is the released code (hseung88/loren @b80a32b). A switch set explicitly wins over the variant:
    block: tiled. One covariance for the whole tensor, with ``a`` repeated over its rows: almost isotropic.
    root: reflected. The square root with eigenvalue ``−√(ρ/(ρ+s))`` along ``a``, ``s = |a|²``; same distribution.
    a_scale: eps2. The step of ``a`` is multiplied by ``ε²√ρ``, which puts it below the fp32 resolution of ``a``.
    a_update: inline. ``a`` moves between the queries, although all were evaluated with the old one.
    update_per: query. Weight decay, momentum and step are applied K times per step, once per query.
    one_dim: scalar_shift. All entries of a vector's ``a`` move by the sum of their gradients.
    decay: all. Weight decay acts on vectors and on ``a`` too.
    weight_decay: 0.01. The released code ignores its command line.
The released code also rounds ``e_k`` to fp32, draws one noise stream through all tensors, and keeps ``a`` and the
momentum in the weights' dtype; these have no switch.

``variant=iso_rloo`` is the ablation without curvature, ``W ~ N(0, I)``: block none, one_dim isotropic.
The paper's choice is uncertain for block, a_scale, update_per, one_dim, ``cov_scale`` and ``vector_momentum``.
Extension, not in the paper: ``antithetic`` pairs ``θ ± εW_k``; ``g`` takes their differences, ``e_k`` their means.
"""

import statistics
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from zobench.methods.variants import resolve, take
from zobench.zo import (
    ZERO,
    Direction,
    Gaussian,
    Method,
    Momentum,
    NamedParameters,
    Oracle,
    Slot,
    UpdateRule,
    leave_one_out,
)
from zobench.zo.checks import at_least
from zobench.zo.perturbations.rank_one import RankOnePrecision
from zobench.zo.rules import State


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    block: Literal["rowwise", "tiled", "none"] = "rowwise"
    root: Literal["principal", "reflected"] = "principal"
    a_scale: Literal["score", "eps2"] = "score"
    a_update: Literal["after", "inline"] = "after"
    update_per: Literal["step", "query"] = "step"
    one_dim: Literal["row", "scalar_shift", "isotropic"] = "row"
    decay: Literal["matrices", "all"] = "matrices"
    weight_decay: float = 0.0


OFFICIAL = Switches(
    block="tiled", root="reflected", a_scale="eps2", a_update="inline", update_per="query", one_dim="scalar_shift",
    decay="all", weight_decay=0.01,
)  # fmt: skip
VARIANTS = {"paper": Switches(), "official": OFFICIAL, "iso_rloo": Switches(block="none", one_dim="isotropic")}


class MatrixMomentum(Momentum):
    """Heavy ball on matrices and embeddings; the step of a vector is its estimate."""

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        return estimate if slot.kind == "vector" else super().__call__(slot, estimate, state, step)


class LOREN(Method):
    """K one-sided losses at one θ, weighed leave-one-out; the module's docstring has the algorithm and the switches.

    Args:
        variant: ``paper``, ``official`` or ``iso_rloo``: the values of the switches where they are None.
        eps: perturbation scale ε.
        probes: directions per step K, at least 2.
        antithetic: measure both sides of each direction.
        vector_momentum: momentum for vectors as well.
        seed: names every random draw.
        rule: heavy ball with β = 0.9 if None.
        settings: the switches, and the arguments of ``RankOnePrecision``, the distribution of ``W``, and of ``Method``.
    """

    variants = VARIANTS
    parts = (RankOnePrecision,)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        variant: str = "paper",
        eps: float = 1e-3,
        probes: int = 6,
        antithetic: bool = False,
        vector_momentum: bool = False,
        seed: int = 0,
        rule: UpdateRule | None = None,
        **settings: Any,
    ):
        self.switches = on = resolve(VARIANTS, variant, settings)
        at_least(2, probes=probes)
        decay = on.weight_decay if on.decay == "all" else 0.0
        curvature = RankOnePrecision(eps, decay, seed=seed, **take(RankOnePrecision, settings, on))
        self.curvature = None if on.block == "none" else curvature
        rule = rule or Momentum()
        if isinstance(rule, Momentum) and not vector_momentum:
            rule = MatrixMomentum(beta=rule.beta)
        settings |= {"eps": eps, "seed": seed, "rule": rule, "weight_decay": on.weight_decay}
        super().__init__(named_parameters, perturbation=self.curvature or Gaussian(), **settings)
        self.probes, self.antithetic = probes, antithetic
        self.forwards_per_step = 2 * probes if antithetic else probes

    def update(self, oracle: Oracle) -> None:
        draws = [self.direction(query) for query in range(self.probes)]
        if self.antithetic:
            losses = oracle.losses([side * w for w in draws for side in (self.eps, -self.eps)])
            pairs = list(zip(losses[::2], losses[1::2], strict=True))
            slopes = [(plus - minus) / (2 * self.eps * self.probes) for plus, minus in pairs]
            excess = leave_one_out([(plus + minus) / 2 for plus, minus in pairs])
        else:
            excess = leave_one_out(oracle.losses([self.eps * w for w in draws]))
            slopes = [e / self.eps for e in excess]
        queries = [(slope * w, e * w) for slope, e, w in zip(slopes, excess, draws, strict=True)]
        whole = sum((g for g, _ in queries), ZERO), sum((scores for _, scores in queries), ZERO)
        inline, by_query = self.switches.a_update == "inline", self.switches.update_per == "query"
        for g, scores in queries if by_query else [whole]:
            if self.curvature:
                self.curvature.observe(scores, ahead=inline or not by_query)
            self.apply(g)
            if self.curvature and inline:
                self.curvature.learn(self.slots)
        self.applied = whole[0]
        oracle.notes["loss_spread"] = statistics.stdev(oracle.means)
        if self.curvature:
            oracle.notes["a_moved"] = self.curvature.moved

    @torch.no_grad()
    def apply(self, estimate: Direction) -> None:
        if self.switches.decay == "all":
            self.oracle.settle()
            for slot in self.slots:
                if slot.kind == "vector":
                    decay = self.oracle.decays.get(slot.index, self.weight_decay)
                    slot.param.mul_(1.0 - self.oracle.rate(slot, self.lr) * decay)
        super().apply(estimate)
