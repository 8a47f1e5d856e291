"""Directions of independent numbers: the Gaussian and random signs, drawn and added in one pass over all weights."""

from collections.abc import Sequence

from torch import Tensor

from zobench.zo import noise
from zobench.zo.direction import Direction
from zobench.zo.perturbation import Perturbation
from zobench.zo.slot import Rows, Slot


class Independent(Perturbation):
    """Independent numbers of one distribution over all trainable weights: matrices, embeddings and vectors alike.

    The core is the draw itself, the lift the identity. No state.
    """

    #: what the noise engine draws
    distribution: noise.Distribution

    def draw(self, slot: Slot, key: int) -> Tensor:
        return noise.draw(key, slot.id, slot.param.shape, slot.param.device, self.distribution)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        # Two roundings, not a fused multiply-add: the whole draw and the pass that draws as it adds agree bit for bit.
        out.add_(core.to(out.dtype).mul(scale))

    def splits(self, slot: Slot) -> bool:
        return slot.param.ndim > 0

    def shares(self, slot: Slot) -> bool:
        return self.splits(slot) and slot.param.device.type == "cpu"

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        noise.add_rows_(total, slot.id, direction, rows, distribution=self.distribution)

    def alone(self, slot: Slot) -> bool:
        """Whether a slot's directions are sums of these draws and nothing else; one pass then draws and adds them."""
        return True

    def dense(self, slot: Slot) -> bool:
        return self.alone(slot)

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        if rows is not None or not (self._in_one_pass(slot) and out.is_contiguous()):
            super().write_(slot, direction, out, keep, rows)
            return
        direction = self.local(slot, direction)
        if direction or keep != 1.0 or out is not slot.param:
            noise.add_all_([self._job(slot, direction, out, keep)], self.distribution)

    def move(self, slots: Sequence[Slot], direction: Direction, keep: float = 1.0) -> None:
        # One piece of work for all slots: threads need not meet at each.
        jobs = []
        for slot in slots:
            if not self._in_one_pass(slot):
                self.move_(slot, direction, keep)
            elif (local := self.local(slot, direction)) or keep != 1.0:
                jobs.append(self._job(slot, local, slot.param, keep))
        noise.add_all_(jobs, self.distribution)

    def _in_one_pass(self, slot: Slot) -> bool:
        return self.alone(slot) and slot.param.is_contiguous()

    def _job(self, slot: Slot, direction: Direction, out: Tensor, keep: float) -> noise.NoiseJob:
        flat = slot.param.view(-1)
        return noise.make_job(flat if out is slot.param else out.view(-1), slot.id, direction, keep, source=flat)


class Gaussian(Independent):
    """Standard normal directions, ``u ~ N(0, I)``: MeZO's (arXiv:2305.17333, Definition 1).

    Example:
        >>> import torch
        >>> from zobench.zo import make_slots
        >>> slot = make_slots([("w", torch.zeros(3, 2))])[0]
        >>> u = Direction.ray(7)
        >>> Gaussian().estimate(slot, 2 * u).equal(2 * Gaussian().estimate(slot, u))
        True
        >>> Gaussian().move([slot], 1e-3 * u)  # the weights walk to θ + εu ...
        >>> Gaussian().move([slot], -1e-3 * u)  # ... and back, without a stored tensor
        >>> bool(slot.param.any())
        False
    """

    distribution = "normal"


class Rademacher(Independent):
    """Random signs, −1 and 1 with probability ½ each: the second moments of ``N(0, I)`` at a fraction of the cost.

    The directions of simultaneous perturbation (SPSA; Spall, IEEE Transactions on Automatic Control, 1992).

    Example:
        >>> import torch
        >>> from zobench.zo import make_slots
        >>> slot = make_slots([("w", torch.zeros(1000))])[0]
        >>> Rademacher().estimate(slot, Direction.ray(7)).unique().tolist()
        [-1.0, 1.0]
    """

    distribution = "sign"
