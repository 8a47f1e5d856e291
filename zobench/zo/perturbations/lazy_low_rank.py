"""Low-rank directions ``U Vᵀ`` of which one factor is drawn anew at each key and the other one now and then."""

from collections.abc import Sequence

from torch import Tensor

from zobench.zo.direction import ZERO, Direction
from zobench.zo.perturbations.bases import Basis, normal_basis
from zobench.zo.perturbations.subspace import Embeddings, Subspace
from zobench.zo.slot import Slot


class LazyLowRank(Subspace):
    """Directions ``u = U Vᵀ`` on matrices, with Gaussian U (m × r) and V (n × r); a Gaussian on all other slots.

    ``U`` is the core of a key, ``V`` is kept until ``refresh``: the lazy sampling of arXiv:2410.07698. In the mean over
    both, ``⟨G, u⟩ u`` is r times the gradient G of a matrix; ``divided`` takes the r out.

    Args:
        rank: r, cut to the short side of a matrix.
        embeddings: ``subspace``, or ``gaussian``: embedding matrices get no V.

    Raises:
        ValueError: for a setting out of range.

    State: V, n r numbers per matrix, in fp32 (fp64 for fp64 weights).

    Example:
        >>> import torch
        >>> from zobench.zo import make_slots
        >>> slot = make_slots([("w", torch.zeros(6, 4))])[0]
        >>> space = LazyLowRank(rank=2)
        >>> space.refresh([slot], key=3)
        >>> u = Direction.ray(7)
        >>> space.draw(slot, 7).shape, int(torch.linalg.matrix_rank(space.estimate(slot, u)))
        (torch.Size([6, 2]), 2)
        >>> space.estimate(slot, space.divided(u)).equal(space.estimate(slot, 0.5 * u))
        True
    """

    def __init__(self, *, rank: int = 2, embeddings: Embeddings = "subspace"):
        super().__init__(rank=rank, embeddings=embeddings)

    def refresh(self, slots: Sequence[Slot], key: int) -> None:
        """Draw V anew; only while the weights are settled.

        Args:
            slots: all trainable tensors.
            key: names the draws.
        """
        self.renew({slot.name: Basis(V=self._drawn(slot, key)) for slot in self.taken(slots)})

    def _drawn(self, slot: Slot, key: int) -> Tensor:
        return normal_basis(slot, key, slot.param.shape[1], min(self.r, *slot.param.shape))

    @staticmethod
    def divided(direction: Direction) -> Direction:
        """A direction that is divided by r on matrices, and left as it is on all other slots."""
        return Direction({~key: weight for key, weight in direction.items()})

    def local(self, slot: Slot, direction: Direction) -> Direction:
        """Keys below 0 are those of ``divided``."""
        if all(key >= 0 for key in direction):
            return direction
        basis, total = self.bases.get(slot.name), ZERO
        rank = 1 if basis is None or basis.V is None else basis.V.shape[1]
        for key, weight in direction.items():
            total += Direction({key: weight} if key >= 0 else {~key: weight / rank})
        return total

    def carry(self, basis: Basis, last: Basis, core: Tensor) -> Tensor:
        """``core V_oldᵀ V / n``: as columns of n normal numbers have length √n, a projection in the mean."""
        assert basis.V is not None
        return super().carry(basis, last, core) / len(basis.V)
