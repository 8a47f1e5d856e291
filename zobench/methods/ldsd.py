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

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from torch import Tensor

from zobench.zo import ZERO, Direction, Jaguar, Method, Oracle, central_difference, mix
from zobench.zo.perturbations.mean_shift import MeanShift


class LDSD(Method):
    """``θ ← θ − lr · rule((L(θ+εu*) − L(θ−εu*)) / 2ε · u*)`` with u* the best of K draws; ``μ ← μ − lr_mu · g_μ``.

    Args:
        eps: perturbation scale (the paper's τ).
        candidates: K.
        sigma: standard deviation σ of the policy.
        lr_mu: learning rate of the mean; it follows no schedule.
        baseline: ``leave_one_out`` (mean of the other losses) or ``mean`` (of all).
        mu_normalise: ``none``, or ``unit`` for a mean of norm 1 in each tensor.
        subset_ratio: share of the tensors that a candidate perturbs; None: 0.1 with rule=jaguar, else 1.
        variant: sets the switches below where they are None; see the table above.
        common: the arguments of ``Method``.
    """

    variants = ("paper", "official")

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        *,
        eps: float = 1e-3,
        candidates: int = 5,
        sigma: float = 1.0,
        lr_mu: float = 1e-3,
        baseline: Literal["leave_one_out", "mean"] = "leave_one_out",
        mu_normalise: Literal["none", "unit"] = "none",
        subset_ratio: float | None = None,
        variant: Literal["paper", "official"] = "paper",
        mu_z: Literal["replay", "fresh_after_best"] | None = None,
        reuse_best: bool | None = None,
        mu0: Literal["zero", "unit_per_tensor"] | None = None,
        reseed_per_tensor: bool | None = None,
        shared_subset: bool | None = None,
        seed: int = 0,
        **common: Any,
    ):
        official, jaguar = variant == "official", isinstance(common.get("rule"), Jaguar)
        mu_z = mu_z or ("fresh_after_best" if official and not jaguar else "replay")
        mu0 = mu0 or ("unit_per_tensor" if official and jaguar else "zero")
        ratio = subset_ratio if subset_ratio is not None else 0.1 if jaguar else 1.0
        for name, value, allowed in (
            ("variant", variant, self.variants),
            ("baseline", baseline, ("leave_one_out", "mean")),
            ("mu_normalise", mu_normalise, ("none", "unit")),
            ("mu_z", mu_z, ("replay", "fresh_after_best")),
            ("mu0", mu0, ("zero", "unit_per_tensor")),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value}: expected {' or '.join(allowed)}")
        for name, number in (("eps", eps), ("candidates", candidates), ("sigma", sigma)):
            if not number > 0:
                raise ValueError(f"{name}={number}: must be positive")
        if not lr_mu >= 0:
            raise ValueError(f"lr_mu={lr_mu}: must be 0 or positive")
        if not 0 < ratio <= 1:
            raise ValueError(f"subset_ratio={subset_ratio}: must lie in (0, 1]")
        self.policy = MeanShift(
            sigma=sigma,
            lr=lr_mu if candidates > 1 else 0.0,
            start=mu0,
            unit=mu_normalise == "unit",
            ratio=ratio,
            shared=not (official and jaguar) if shared_subset is None else shared_subset,
            one_stream=official and jaguar if reseed_per_tensor is None else reseed_per_tensor,
            seed=seed,
        )
        super().__init__(named_parameters, seed=seed, perturbation=self.policy, **common)
        self.eps, self.candidates = eps, candidates
        self.baseline, self.fresh = baseline, mu_z == "fresh_after_best"
        self.reuse_best = not official if reuse_best is None else reuse_best
        self.forwards_per_step = candidates + (1 if self.reuse_best else 2)

    def update(self, oracle: Oracle) -> None:
        candidates = [self.direction(k) for k in range(self.candidates)]
        losses = oracle.losses([u * self.eps for u in candidates])
        best = losses.index(min(losses))
        u = candidates[best]
        if self.reuse_best:
            projected = oracle.projected(losses[best], oracle.loss(u * -self.eps), self.eps)
        else:
            projected = central_difference(oracle, u, self.eps)
        self.apply(projected * u)

        (key,) = u
        sampled = [Direction.ray(mix(key, k)) for k in range(self.candidates)] if self.fresh else candidates
        score = ZERO
        for advantage, v in zip(self.advantages(losses), sampled, strict=True):
            score += advantage / self.candidates * v
        self.policy.learn(score, key)
        oracle.notes |= {"projected_gradient": projected, "candidate_spread": max(losses) - min(losses)}
        oracle.notes |= self.policy.notes()

    def advantages(self, losses: Sequence[float]) -> list[float]:
        """``A_k = F_k − mean_{j≠k} F_j``; of one candidate alone it is 0."""
        count, total = len(losses), sum(losses)
        others = count if self.baseline == "mean" else max(1, count - 1)
        return [(count * loss - total) / others for loss in losses]
