"""SubZero: zeroth-order fine-tuning in random subspaces (Yu et al., arXiv:2410.08989, Algorithm 2), and SubZero+.

SubZero moves a matrix inside ``{U Z Vᵀ}``, U and V orthonormal and drawn anew every ``interval`` steps.

Forward passes per step: 2. State: r (m + n) fp32 numbers per m × n matrix, and the update rule's.
Every 2-D tensor with sides above 1 has its own subspace, embeddings and heads included, a tied head once; all other
tensors are perturbed by a plain Gaussian. The rank is cut to the short side. With LoRA each factor is reshaped to the
most square matrix of as many numbers first (``reshape``, which ``tuning=lora`` sets).

The released code (zimingyy/SubZero @cf6effd) takes the same steps, with torch's momentum as an option. It fails where r
exceeds the short side, has a one-sided mode, reshapes in its LoRA, prefix and prompt modes, leaves the signs of QR as
they are (which changes no law of SGD's steps), and draws one stream through all tensors.

SubZero+ (arXiv:2608.15665; no code was released) measures K directions from one side in SubZero's subspaces, and Adam
works on the r × r cores. Its means stay as they are when the bases are drawn anew, hence the signs of QR are made
uniform. Forward passes per step: K + 1. State: 2 r² numbers more per matrix, twice the size of vectors.
Not certain of the paper: that probes have SubZero's scale, that Adam works on vectors too, and ``interval``. Its steps
are in orthonormal coordinates: scaled by √(mn)/r, its learning rates would move every weight by 1e-3 and more.
"""

from typing import Any, Literal, get_args

from zobench.methods.variants import take
from zobench.zo import (
    SGD,
    ZERO,
    Adam,
    CoreSpace,
    Method,
    NamedParameters,
    Oracle,
    central_difference,
    forward_differences,
)
from zobench.zo.checks import at_least, one_of
from zobench.zo.perturbations.random_subspace import RandomSubspace

CoreRule = Literal["adam", "sgd"]


class SubZero(Method):
    """``θ ← θ − lr · (L(θ+εu) − L(θ−εu)) / 2ε · u``, with ``u = √(mn)/r · U Z Vᵀ`` on each m × n matrix, Z Gaussian.

    Args:
        interval: T₀, steps from one pair of bases to the next.
        settings: the arguments of ``RandomSubspace``, which are the rank r, what becomes of embeddings and reshaping,
            and of ``Method``.
    """

    parts = (RandomSubspace,)

    def __init__(self, named_parameters: NamedParameters, *, interval: int = 1000, **settings: Any):
        at_least(1, interval=interval)
        self.space = RandomSubspace(**take(RandomSubspace, settings))
        super().__init__(named_parameters, perturbation=self.space, **settings)
        self.interval = interval

    def refresh(self) -> None:
        """Draw the bases anew in every ``interval``-th step."""
        if self.t % self.interval == 0:
            self.space.refresh(self.slots, self.keys(self.t, purpose="basis"))

    def update(self, oracle: Oracle) -> None:
        self.refresh()
        u = self.direction()
        self.apply(central_difference(oracle, u, self.eps) * u)


class SubZeroPlus(SubZero):
    """``θ ← θ − lr · Adam(mean_k [ (L(θ+εu_k) − L(θ)) / ε · Z_k ])``, lifted by ``U · Vᵀ``, in SubZero's subspaces.

    Args:
        probes: K, directions per step.
        rank: r, cut to the short side.
        core_rule: ``adam``, or ``sgd``.
        beta1: decay of Adam's mean of the cores.
        beta2: decay of its mean of squares.
        settings: the arguments of ``SubZero``, but for the rule.
    """

    decides = ("rule",)

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        probes: int = 49,
        rank: int = 16,
        core_rule: CoreRule = "adam",
        beta1: float = 0.9,
        beta2: float = 0.95,
        **settings: Any,
    ):
        at_least(1, probes=probes)
        one_of(get_args(CoreRule), core_rule=core_rule)
        rule = CoreSpace(rule=Adam(beta1=beta1, beta2=beta2)) if core_rule == "adam" else SGD()
        super().__init__(named_parameters, rank=rank, rule=rule, **settings)
        self.space.keep_lifts(False)
        self.probes, self.forwards_per_step = probes, probes + 1

    def update(self, oracle: Oracle) -> None:
        self.refresh()
        directions = [self.direction(query) for query in range(self.probes)]
        slopes = forward_differences(oracle, directions, self.eps)
        self.apply(sum((slope / self.probes * u for slope, u in zip(slopes, directions, strict=True)), ZERO))
