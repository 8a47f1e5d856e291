"""P-GAP: zeroth-order tuning with projected gradient-aligned perturbations (Mi et al., arXiv:2510.18228, Algorithm 1).

Forward passes per step: 2, and 2h more at a refresh: ``2T + 2h⌈T/k⌉`` in T steps. The h dense probes use the batch
of the step they precede. State: r (m + n + 1) fp32 numbers per m × n matrix.
Every 2-D tensor is perturbed in its own subspace, embeddings and heads included, a tied head once; all other tensors
(biases, norms) by a plain Gaussian. The rank is cut to the short side: a LoRA factor is spanned whole along its short
side, and the core of a one-row matrix is the number ξ√δ, which stands still once δ reaches 0.

No code was released. Where accounts of the paper differ, a setting holds the other reading:
    sign: independent per matrix. A ``common`` or ``fixed`` ξ adds δ Ŝ_l Σ_{m≠l} ⟨H_m, Ŝ_m⟩ to the mean estimate of
        matrix l, a normalised descent along stale probes (H = UᵀGV, Ŝ = S/‖S‖, G the gradient).
    delta_end: δ falls linearly to 0; set it to delta_start for a constant δ.
    refresh_from: the first refresh is at step 0; before a later one the step is MeZO's.
    embeddings: ``gaussian`` takes embedding matrices out of the subspaces.
    svd: ``full`` for an exact decomposition; the randomised one oversamples by 8 with 2 power iterations, and takes
        a tall matrix of 4 M numbers or more, such as an embedding, from the eigenvectors of GᵀG, in blocks of rows.
Ablation: ``basis: random`` draws U and V uniformly with equal S, spends no probes, and costs 2 forward passes per step.
"""

from typing import Any, Literal, get_args

from zobench.methods.variants import take
from zobench.zo import ZERO, Method, NamedParameters, Oracle, central_difference, schedule
from zobench.zo.checks import at_least, not_negative, one_of
from zobench.zo.perturbations.aligned_subspace import AlignedSubspace

BasisSource = Literal["probes", "random"]


class PGAP(Method):
    """``θ ← θ − lr · (L(θ+εu) − L(θ−εu)) / 2ε · u``, with ``u = U Z Vᵀ`` on each matrix.

    ``Z`` is a Gaussian r × r core moved along S so that ``⟨S, Z⟩ = ξ √δ ‖S‖``; ``U S Vᵀ`` is the rank-r SVD of a MeZO
    estimate of the matrix's gradient from ``probes`` directions, renewed every ``refresh`` steps.

    Args:
        refresh: k, steps between two refreshes.
        refresh_from: the step of the first refresh.
        probes: h, dense directions per refresh.
        delta_start: δ at step 0.
        delta_end: δ at ``total_steps``; between them linear.
        basis: ``probes`` or ``random``.
        settings: the arguments of ``AlignedSubspace``, which are the rank r, the sign ξ, what becomes of embeddings and
            the SVD, and of ``Method``, whose ``eps`` is that of the probes too.
    """

    parts = (AlignedSubspace,)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        refresh: int = 100,
        refresh_from: int = 0,
        probes: int = 10,
        delta_start: float = 2.0,
        delta_end: float = 0.0,
        basis: BasisSource = "probes",
        **settings: Any,
    ):
        at_least(1, refresh=refresh, probes=probes)
        not_negative(refresh_from=refresh_from, delta_start=delta_start, delta_end=delta_end)
        one_of(get_args(BasisSource), basis=basis)
        self.space = AlignedSubspace(**take(AlignedSubspace, settings))
        super().__init__(named_parameters, perturbation=self.space, **settings)
        self.refresh, self.refresh_from, self.probes, self.basis = refresh, refresh_from, probes, basis
        self.delta_start, self.delta_end = delta_start, delta_end

    @property
    def delta(self) -> float:
        """The alignment δ of the current step."""
        if self.delta_start == self.delta_end:
            return self.delta_start
        if self.total_steps is None:
            raise ValueError(f"delta_end={self.delta_end}: δ falls over the run, so P-GAP needs total_steps")
        return self.delta_end + (self.delta_start - self.delta_end) * schedule.factor(
            "linear", self.t, self.total_steps
        )

    def refreshes_at(self, step: int) -> bool:
        """Whether a step renews the bases."""
        return step >= self.refresh_from and (step - self.refresh_from) % self.refresh == 0

    def forwards_at(self, step: int) -> int:
        return 2 + 2 * self.probes * (self.basis == "probes" and self.refreshes_at(step))

    def update(self, oracle: Oracle) -> None:
        self.space.delta = oracle.notes["delta"] = self.delta
        if self.refreshes_at(self.t):
            self.find_bases(oracle, self.keys(self.t, purpose="basis"))
        z = self.direction()
        self.apply(central_difference(oracle, z, self.eps) * z)

    def find_bases(self, oracle: Oracle, key: int) -> None:
        """Renew U, S and V of every matrix (the lazy update), from dense probes of this step's batch."""
        if self.basis == "random":
            self.space.randomise(self.slots, key)
            return
        self.space.forget()
        gradient = ZERO
        for query in range(self.probes):
            q = self.direction(query, "dense probe")
            gradient += central_difference(oracle, q, self.eps) / self.probes * q
        oracle.settle()
        oracle.notes["probe_energy_in_basis"] = self.space.fit(self.slots, gradient, key)
