"""Sparse-MeZO: MeZO on the weights of small magnitude (Liu et al., arXiv:2402.15751, Algorithm 1).

Forward passes per step: 2. State: one bit per weight of each matrix and embedding, and a threshold each; the rule's.
A matrix or an embedding has a threshold of its own, fixed before the first step as a quantile of its magnitudes, and a
tied head that of its embedding. The mask is made anew each step, from the weights before they are perturbed: from
weights at an offset it would be another one, and the walk back would end elsewhere. Weights outside it keep their bits,
weight decay apart. Biases and norms move whole unless ``mask_vectors`` is set. Of a pair of LoRA factors A has a mask;
B, which starts at 0, moves whole.

The authors' code could not be had: there is no other variant. The share of the weights that move is a quarter, after
independent accounts of the paper; its own text was not at hand beyond the abstract. The paper makes the mask inside the
forward pass, and keeps none; it is the same one.
"""

from typing import Any

from zobench.methods.variants import take
from zobench.zo import Method, NamedParameters, Oracle, central_difference
from zobench.zo.perturbations.small_magnitudes import SmallMagnitudes


class SparseMeZO(Method):
    """``θ ← θ − lr · (L(θ+εu) − L(θ−εu)) / 2ε · u`` with ``u = m ∘ z``, ``z ~ N(0, I)`` and ``m = 1{|θ| ≤ h}``.

    Args:
        settings: the arguments of ``SmallMagnitudes``, which are the share of the weights that move and whether vectors
            have a mask, and of ``Method``.
    """

    parts = (SmallMagnitudes,)

    def __init__(self, named_parameters: NamedParameters, **settings: Any):
        small = SmallMagnitudes(**take(SmallMagnitudes, settings))
        super().__init__(named_parameters, perturbation=small, **settings)

    def update(self, oracle: Oracle) -> None:
        u = self.direction()
        self.apply(central_difference(oracle, u, self.eps) * u)
