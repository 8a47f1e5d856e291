"""Directions in the span of a layer's inputs, where its gradient lies: ``∇W = Gᵀ X``."""

from collections.abc import Mapping

from zobench.zo.ledger import Unsuited
from zobench.zo.perturbations.bases import Basis
from zobench.zo.perturbations.subspace import Subspace


class ActivationSubspace(Subspace):
    """Directions ``u = R Aᵀ`` on matrices of linear layers, A a basis on the side of the inputs; elsewhere a Gaussian.

    Vectors and embeddings (a tied head too) are Gaussian, and so is a matrix whose layer was not seen.

    Args:
        rank: columns of A, cut to the short side of a matrix.

    Example:
        >>> import torch
        >>> from zobench.zo import Direction, make_slots
        >>> from zobench.zo.perturbations.input_sketch import InputSketch
        >>> from zobench.zo.tap import ActivationTap
        >>> weight = torch.zeros(4, 3)
        >>> space, slots = ActivationSubspace(rank=1), make_slots([("w", weight)])
        >>> with ActivationTap(slots, sketch := InputSketch(space.taken(slots), rank=1, key=7)):
        ...     output = torch.nn.functional.linear(torch.tensor([[0.0, 2.0, 0.0]]), weight)
        >>> space.span(sketch.bases())
        >>> space.estimate(slots[0], Direction.ray(5)).any(0).tolist()
        [False, True, False]
    """

    def __init__(self, *, rank: int):
        super().__init__(rank=rank, embeddings="gaussian")

    def span(self, bases: Mapping[str, Basis]) -> None:
        """Take bases of inputs, by slot name, before the first draw of a step and while the weights are settled.

        Raises:
            Unsuited: if there is none.
        """
        if not bases:
            raise Unsuited(
                "no trainable matrix was seen in a linear layer, from whose inputs the method takes its directions: "
                "train one that runs (F.linear, torch.addmm or x @ W), or use method=mezo"
            )
        self.renew(bases)
