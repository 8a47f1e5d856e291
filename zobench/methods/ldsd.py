"""LDSD: learnable direction sampling (Parfenov et al., arXiv:2602.13659).

Directions come from a policy ``u ~ N(μ, σ²I)`` with a learned mean. Of K candidates the one with the lowest loss is
measured from both sides, and the update rule steps along it: LDSD-SGD is ``method/rule=momentum`` (or ``sgd``),
LDSD-AdaMM ``method/rule=adamm``, LDSD-JAGUAR ``method/rule=jaguar``. The policy gradient with leave-one-out baseline,
``g_μ = 1/(Kσ²) Σ_k A_k (u_k − μ)``, then moves the mean. ``method.lr_mu=0`` is the ablation without a policy:
best-of-K alone, and with ``candidates=1`` too it is MeZO.

The steps are those of the released code (brain-lab-research/zo_ldsd @b3c36a8) and of the numpy reference in its
history (@5a860df), whose K + 1 forward passes are also the paper's count.

Forward passes per step: K + 1; K + 2 with ``reuse_best=false``.
State: μ, one fp32 copy of the trainable weights (none with ``lr_mu=0`` and ``mu0=zero``), and the update rule's.
All trainable tensors are treated alike: matrices, embeddings, vectors; a tied head once.

Where the released code differs. ``variant=official`` sets these switches; one that is given overrides its variant:

    switch               paper     official            official with rule=jaguar
    mu_z                 replay    fresh_after_best    replay
    reuse_best           true      false               false
    mu0                  zero      zero                unit_per_tensor
    reseed_per_tensor    false     false               true
    shared_subset        true      true                false

    mu_z: the noise that the advantages multiply. The released SGD and AdaMM classes draw it anew, from a generator
        seeded with the best candidate's seed, so that μ walks at random.
    reuse_best: the best candidate's loss serves as ``L(θ+εu*)``; else it is evaluated again.
    mu0: the mean at first, zero or Gaussian with norm 1 in each tensor.
    reseed_per_tensor: all tensors read the same numbers, so that those of equal shape share their noise.
    shared_subset: with ``subset_ratio`` below 1, one random subset of the tensors per step; else each candidate has
        its own, and μ moves where the best one did.

Not certain of the paper: ``mu0``, and whether μ is scaled (``mu_normalise=unit``). The numpy reference divides the
advantages by K, the released code by K − 1 (``baseline=mean``, ``leave_one_out``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from zobench.methods.variants import resolve, take
from zobench.zo import ZERO, Direction, Jaguar, Method, NamedParameters, Oracle, central_difference, mix
from zobench.zo.checks import at_least, one_of
from zobench.zo.perturbations.mean_shift import MeanShift, Start

Baseline = Literal["leave_one_out", "mean"]


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    mu_z: Literal["replay", "fresh_after_best"] = "replay"
    reuse_best: bool = True
    mu0: Start = "zero"
    reseed_per_tensor: bool = False
    shared_subset: bool = True
    subset_ratio: float = 1.0


VARIANTS = {"paper": Switches(), "official": Switches(mu_z="fresh_after_best", reuse_best=False)}
#: with ``rule=jaguar``
JAGUAR = {
    "paper": Switches(subset_ratio=0.1),
    "official": Switches(
        reuse_best=False, mu0="unit_per_tensor", reseed_per_tensor=True, shared_subset=False, subset_ratio=0.1
    ),
}


class LDSD(Method):
    """``θ ← θ − lr · rule((L(θ+εu*) − L(θ−εu*)) / 2ε · u*)`` with u* the best of K draws; ``μ ← μ − lr_mu · g_μ``.

    Args:
        candidates: K.
        baseline: ``leave_one_out`` (mean of the other losses) or ``mean`` (of all).
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        seed: names every random draw.
        settings: these switches, and the arguments of ``MeanShift``, which is the policy, and of ``Method``, whose
            ``eps`` is the paper's τ.
    """

    variants = VARIANTS
    parts = (MeanShift,)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        candidates: int = 5,
        baseline: Baseline = "leave_one_out",
        variant: str = "paper",
        seed: int = 0,
        **settings: Any,
    ):
        table = JAGUAR if isinstance(settings.get("rule"), Jaguar) else VARIANTS
        self.switches = resolve(table, variant, settings)
        at_least(1, candidates=candidates)
        one_of(get_args(Baseline), baseline=baseline)
        policy = take(MeanShift, settings, self.switches)
        if candidates == 1:  # whose advantage is 0: the mean would be held and never move
            policy["lr_mu"] = 0.0
        self.policy = MeanShift(seed=seed, **policy)
        super().__init__(named_parameters, seed=seed, perturbation=self.policy, **settings)
        self.candidates, self.baseline = candidates, baseline
        self.forwards_per_step = candidates + (1 if self.switches.reuse_best else 2)

    def update(self, oracle: Oracle) -> None:
        candidates = [self.direction(k) for k in range(self.candidates)]
        losses = oracle.losses([u * self.eps for u in candidates])
        best = losses.index(min(losses))
        u = candidates[best]
        if self.switches.reuse_best:
            projected = oracle.projected(losses[best], oracle.loss(u * -self.eps), self.eps)
        else:
            projected = central_difference(oracle, u, self.eps)
        self.apply(projected * u)

        (key,) = u
        fresh = self.switches.mu_z == "fresh_after_best"
        sampled = [Direction.ray(mix(key, k)) for k in range(self.candidates)] if fresh else candidates
        score = ZERO
        for advantage, v in zip(self.advantages(losses), sampled, strict=True):
            score += advantage / self.candidates * v
        self.policy.learn(score, key)
        oracle.notes |= {"projected_gradient": projected, "candidate_spread": max(losses) - min(losses)}
        oracle.notes |= self.policy.notes()

    def advantages(self, losses: Sequence[float]) -> list[float]:
        """The advantages ``A_k = F_k − mean_{j≠k} F_j``; exactly 0 for one alone, and where all losses tie."""
        if min(losses) == max(losses):
            return [0.0] * len(losses)
        count, total = len(losses), sum(losses)
        others = count if self.baseline == "mean" else max(1, count - 1)
        return [(count * loss - total) / others for loss in losses]
