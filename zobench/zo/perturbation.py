"""Perturbations: distributions of directions.

``draw`` and ``add_`` define one: ``u(key) = lift(draw(key))``, where the core is random and the lift is linear.
``local`` gives the weights of a direction on one slot, for distributions that skip slots or scale them one by one.
``accumulate_`` adds a whole direction, or some rows of it, and must equal its definition here: to the bit where it only
draws and adds, to rounding where it sums the cores before it lifts them. All else is made of it.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.direction import Direction
from zobench.zo.slot import Rows, Slot, pick, wide


class Perturbation:
    """A distribution of directions; draws are pure functions of (key, slot, frozen state)."""

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        """Refresh or freeze state. Only here and in ``after`` may it change."""

    def draw(self, slot: Slot, key: int) -> Tensor:
        """The random core of ``u(key)`` for this slot, fp32."""
        raise NotImplementedError

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        """``out += scale * lift(core)``, linear in the core; ``out`` has the slot's shape."""
        raise NotImplementedError

    def local(self, slot: Slot, direction: Direction) -> Direction:
        """The direction as this slot sees it: the draws that reach it and their weights."""
        return direction

    def splits(self, slot: Slot) -> bool:
        """Whether rows of a direction can be had without the others, at a cost in proportion."""
        return False

    def after(self, step: int, slots: Sequence[Slot]) -> None:
        """Learn from what was measured in this step."""

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """``total += Σ w_k u(k)`` on the given rows.

        Args:
            direction: as ``local`` gives it.
            total: contiguous, fp32 (fp64 for fp64 weights), of the shape of these rows.
            rows: indices or a slice of axis 0, for slots that ``splits``; None for all.
        """
        if rows is not None:
            raise ValueError(f"{slot.name}: directions of {type(self).__name__} are made whole, not row by row")
        for key, weight in direction.items():
            self.add_(slot, self.draw(slot, key), total, weight)

    def estimate(self, slot: Slot, direction: Direction, rows: Rows = None) -> Tensor:
        """The direction's tensor for one slot or some of its rows, in fp32 (fp64 for fp64 weights)."""
        shape = slot.param.shape if rows is None else pick(slot.param, rows).shape
        total = torch.zeros(shape, dtype=wide(slot.param), device=slot.param.device)
        direction = self.local(slot, direction)
        for part, to in self._parts_of(slot, total, rows):
            self.accumulate_(slot, direction, to, part)
        return total

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        """``out ← keep·θ + Σ w_k u(k)`` on the given rows, summed in fp32 and rounded once to the weights' dtype.

        Args:
            out: of the shape of these rows; may be the slot's own tensor.
            rows: as for ``accumulate_``.
        """
        direction = self.local(slot, direction)
        in_place = out is slot.param
        if not direction and keep == 1.0 and in_place:
            return
        for part, to in self._parts_of(slot, out, rows):
            start = to if in_place else pick(slot.param, part)
            own = to.dtype == wide(slot.param) and to.is_contiguous()
            total = to if own else start.to(wide(slot.param), copy=True, memory_format=torch.contiguous_format)
            if own and not in_place:
                to.copy_(start)
            if keep != 1.0:
                total.mul_(keep)
            self.accumulate_(slot, direction, total, part)
            if not own:
                to.copy_(total)

    def parts(self, slot: Slot) -> Iterator[Rows]:
        """What a slot is worked on at a time: blocks of rows, or the whole where it cannot be split."""
        if not self.splits(slot) or slot.param.numel() <= noise.block(slot.param.device):
            yield None
            return
        size = max(1, noise.block(slot.param.device) * len(slot.param) // slot.param.numel())
        for start in range(0, len(slot.param), size):
            yield slice(start, min(start + size, len(slot.param)))

    def _parts_of(self, slot: Slot, tensor: Tensor, rows: Rows) -> Iterator[tuple[Rows, Tensor]]:
        """The rows part by part, and where each lies in a tensor of these rows."""
        if rows is not None:
            yield rows, tensor
            return
        for part in self.parts(slot):
            yield part, pick(tensor, part)

    def move_(self, slot: Slot, direction: Direction, keep: float = 1.0) -> None:
        """``θ ← keep·θ + Σ w_k u(k)`` for one slot."""
        self.write_(slot, direction, slot.param, keep)

    def move(self, slots: Sequence[Slot], direction: Direction, keep: float = 1.0) -> None:
        """``θ ← keep·θ + Σ w_k u(k)`` for all slots."""
        for slot in slots:
            self.move_(slot, direction, keep)

    def state_dict(self) -> dict[str, Tensor | int | float]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        pass

    def state_bytes(self) -> int:
        """Bytes held between steps, beyond the weights."""
        return 0


class Independent(Perturbation):
    """Independent numbers over all trainable weights: matrices, embeddings and vectors alike. No state."""

    distribution: noise.Distribution

    def draw(self, slot: Slot, key: int) -> Tensor:
        return noise.draw(key, slot.id, slot.param.shape, slot.param.device, self.distribution)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        # Two roundings, not a fused multiply-add: the whole draw and the pass that draws as it adds agree bit for bit.
        out.add_(core.to(out.dtype).mul(scale))

    def splits(self, slot: Slot) -> bool:
        return slot.param.ndim > 0

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        noise.add_rows_(total, slot.id, direction, rows, distribution=self.distribution)

    def alone(self, slot: Slot) -> bool:
        """Whether a slot's directions are sums of these numbers and no more: one pass then draws and adds them."""
        return True

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
    """``u ~ N(0, I)``."""

    distribution = "normal"


class Rademacher(Independent):
    """``u`` of −1 and 1, each with probability ½: the second moments of ``N(0, I)`` at a fraction of the cost."""

    distribution = "sign"
