"""Perturbations: the distributions that directions are drawn from.

On one slot, the draw of a key is ``u(key) = lift(core)``. The *core* is the random part, as small as the distribution
allows (r × r numbers for a subspace of rank r; the whole tensor for ``N(0, I)``), and the *lift* is the linear map from
a core to a tensor of the slot's shape (``U core Vᵀ``; the identity). ``draw`` gives the core and ``add_`` adds its lift
to a tensor: the two define a distribution.

``local`` gives the weights of a direction on one slot, for distributions that skip slots or scale them one by one.
``accumulate_`` adds a whole direction, or some rows of it, and must equal its definition here: to the bit where it only
draws and adds, to rounding where it sums the cores before it lifts them. All else is made of it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.direction import Direction
from zobench.zo.factors import Factors
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

Found = TypeVar("Found")


class Perturbation:
    """A distribution of directions: the base of all.

    Draws are pure functions of (key, slot, frozen state): the same whenever, wherever and in whatever order they are
    made. A subclass defines ``draw`` and ``add_``; what it learns along a run changes in ``begin`` and ``after`` alone.

    Example:
        Rank-one directions ``a bᵀ`` with a frozen ``a`` of ones: the core is b, the lift its outer product with a.

        >>> from zobench.zo import make_slots
        >>> class Ones(Perturbation):
        ...     def draw(self, slot, key):
        ...         return noise.gaussian(key, slot.id, slot.param.shape[1:], slot.param.device)
        ...
        ...     def add_(self, slot, core, out, scale):
        ...         out.add_(core.to(out.dtype).expand_as(out), alpha=scale)
        >>> slot = make_slots([("w", torch.zeros(4, 3))])[0]
        >>> tensor = Ones().estimate(slot, Direction({7: 0.5, 8: -1.0}))
        >>> tensor.shape, int(torch.linalg.matrix_rank(tensor))
        (torch.Size([4, 3]), 1)
    """

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        """Refresh or freeze state, before a step. State may change here and in ``after`` alone."""

    def draw(self, slot: Slot, key: int) -> Tensor:
        """The random core of ``u(key)`` on a slot, fp32 and of a shape of the distribution's choice."""
        raise NotImplementedError

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        """``out += scale * lift(core)``, linear in the core; ``out`` has the slot's shape, in fp32 or fp64."""
        raise NotImplementedError

    def local(self, slot: Slot, direction: Direction) -> Direction:
        """The direction as one slot sees it: the draws that reach the slot, and their weights there."""
        return direction

    def reaches(self, slot: Slot, direction: Direction) -> bool:
        """Whether a draw of the direction reaches a slot; of an estimate: whether anything was measured there."""
        return bool(self.local(slot, direction))

    def support(self, slot: Slot, rows: Rows = None) -> Tensor | None:
        """Where the draws of this step reach a slot's rows, as booleans; None for everywhere.

        Elsewhere an estimate is 0 because nothing was measured, which rules with a memory tell from a slope of 0.
        """
        return None

    def core(self, slot: Slot, direction: Direction) -> Tensor:
        """The core of a whole direction on a slot, ``Σ w_k core(k)``: a new tensor in fp32 (fp64 for fp64 weights).

        Zeros of a core's shape where no draw reaches the slot.
        """
        if self.dense(slot):
            return self.estimate(slot, direction)
        dtype, total = sum_dtype(slot.param), None
        for key, weight in (self.local(slot, direction).nonzero() or {0: 0.0}).items():
            core = self.draw(slot, key).to(dtype)
            total = core * weight if total is None else total.add_(core * weight)
        assert total is not None
        return total

    def dense(self, slot: Slot) -> bool:
        """Whether a core has the slot's shape and the lift is the identity."""
        return False

    def lifted_variances(self, slot: Slot, variances: Tensor) -> Iterator[tuple[Rows, Tensor]]:
        """The variances of a lift's numbers, for a core of independent numbers: its squared coefficients times theirs.

        Args:
            variances: of the core's numbers; of their shape.

        Yields:
            One of the slot's ``parts``, and the variances there, a new tensor.

        Raises:
            TypeError: for a distribution that does not say them.
        """
        raise TypeError(f"{type(self).__name__} has no lifted_variances, which rules such as LiftedAdam divide by")

    def refreshes(self, slot: Slot) -> int:
        """How often the slot's lift was renewed so far: another number says that it is another lift."""
        return 0

    def transport(self, slot: Slot, core: Tensor, since: int) -> Tensor:
        """What a sum of cores under an earlier lift is under the present one; the same numbers unless overridden.

        Called between the refresh and the end of the next ``apply``, with memories of an update rule.

        Args:
            core: under the lift that there was after ``since`` refreshes.
        """
        return core

    def keep_lifts(self, on: bool) -> None:
        """Told whether a rule in core space has memories for ``transport``, which may need what a refresh replaces."""

    def splits(self, slot: Slot) -> bool:
        """Whether some rows of a direction can be made without the others, at a cost in proportion."""
        return False

    def factor_rank(self, slot: Slot) -> int | None:
        """The rank of a key's draw on a 2-D slot, where it has ``factors``, with the state as it is; else None."""
        return None

    def largest_factor_rank(self, slot: Slot) -> int | None:
        """The largest ``factor_rank`` that a slot may come to have: a function of settings and shape alone."""
        return self.factor_rank(slot)

    def factors(self, slot: Slot, direction: Direction) -> Factors | None:
        """The thin matrices with ``Σ w_k u(k) = U Vᵀ`` on a 2-D slot; None where there are none.

        The oracle evaluates such a slot in the activations, ``x Wᵀ + (x V) Uᵀ``, and only reads its weights.

        Args:
            direction: as ``local`` gives it.
        """
        return None

    def after(self, step: int, slots: Sequence[Slot]) -> None:
        """Learn from what the step measured, after it."""

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """``total += Σ w_k u(k)`` on the given rows of a slot.

        Args:
            direction: as ``local`` gives it.
            total: contiguous, fp32 (fp64 for fp64 weights), of the shape of these rows.
            rows: indices or a slice of axis 0, for slots that ``splits``; None for all.

        Raises:
            ValueError: if rows are asked for of a slot that does not split.
        """
        if rows is not None:
            raise ValueError(f"{slot.name}: directions of {type(self).__name__} are made whole, not row by row")
        for key, weight in direction.items():
            self.add_(slot, self.draw(slot, key), total, weight)

    def estimate(self, slot: Slot, direction: Direction, rows: Rows = None, out: Tensor | None = None) -> Tensor:
        """The tensor ``Σ w_k u(k)`` of a direction on one slot or on some of its rows.

        Args:
            out: where it is written: contiguous, of the shape of these rows, in fp32 (fp64 for fp64 weights); a new
                tensor if None.
        """
        if out is None:
            shape = slot.param.shape if rows is None else pick(slot.param, rows).shape
            out = torch.empty(shape, dtype=sum_dtype(slot.param), device=slot.param.device)
        total = out.zero_()
        direction = self.local(slot, direction).nonzero()
        for part, to in self._parts_of(slot, total, rows) if direction else ():
            self.accumulate_(slot, direction, to, part)
        return total

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        """``out ← keep·θ + Σ w_k u(k)`` on the given rows, summed in fp32 and rounded once to the weights' dtype.

        Args:
            out: of the shape of these rows and the weights' dtype; may be the slot's own tensor.
            keep: the factor of the weights θ.
            rows: indices or a slice of axis 0, for slots that ``splits``; None for all.
        """
        direction = self.local(slot, direction)
        if not direction and keep == 1.0 and out is slot.param:
            return
        for part, to in self._parts_of(slot, out, rows):
            self._write_part(slot, direction, to, keep, part, out is slot.param)

    def _write_part(
        self, slot: Slot, direction: Direction, out: Tensor, keep: float, part: Rows, in_place: bool
    ) -> None:
        """``write_`` for a direction that is local already, on one part; in place, ``out`` is that part of the slot."""
        weights = out if in_place else pick(slot.param, part)
        dtype = sum_dtype(slot.param)
        direct = out.dtype == dtype and out.is_contiguous()  # summed where it is written
        total = out if direct else weights.to(dtype, copy=True, memory_format=torch.contiguous_format)
        if direct and not in_place:
            out.copy_(weights)
        if keep != 1.0:
            total.mul_(keep)
        self.accumulate_(slot, direction, total, part)
        if not direct:
            out.copy_(total)

    def parts(self, slot: Slot) -> Iterator[Rows]:
        """The parts in which a slot is worked on: slices of rows, or None, the whole, where the slot cannot split."""
        if not self.splits(slot) or slot.param.numel() <= noise.block(slot.param.device):
            yield None
            return
        size = max(1, noise.block(slot.param.device) * len(slot.param) // slot.param.numel())
        for start in range(0, len(slot.param), size):
            yield slice(start, min(start + size, len(slot.param)))

    def _parts_of(self, slot: Slot, tensor: Tensor, rows: Rows) -> Iterator[tuple[Rows, Tensor]]:
        """Yield the given rows part by part, each with its view of ``tensor``, which holds these rows."""
        if rows is not None:
            yield rows, tensor
            return
        for part in self.parts(slot):
            yield part, pick(tensor, part)

    def move_(self, slot: Slot, direction: Direction, keep: float = 1.0, rows: Rows = None) -> None:
        """``θ ← keep·θ + Σ w_k u(k)`` for one slot, or for one of its ``parts``."""
        if rows is None:
            self.write_(slot, direction, slot.param, keep)
        elif (direction := self.local(slot, direction)) or keep != 1.0:
            self._write_part(slot, direction, pick(slot.param, rows), keep, rows, True)

    def move(self, slots: Sequence[Slot], direction: Direction, keep: float = 1.0) -> None:
        """``θ ← keep·θ + Σ w_k u(k)`` for all slots."""
        tasks: list[noise.Task] = []
        for slot in slots:
            if self.shares(slot):
                tasks += [partial(self.move_, slot, direction, keep, part) for part in self.parts(slot)]
            else:
                self.move_(slot, direction, keep)
        noise.share(tasks)

    def over_parts(self, slots: Sequence[Slot], work: Callable[[Slot, Rows], Found]) -> list[Found]:
        """Do some work on each of the ``parts`` of slots, shared out over threads where slots allow it (``shares``).

        Returns:
            What the work gave, in the order of slots and parts.
        """
        parts = [(slot, rows) for slot in slots for rows in self.parts(slot)]
        found: dict[int, Found] = {}

        def do(place: int) -> None:
            found[place] = work(*parts[place])

        shared = [self.shares(slot) for slot, _ in parts]
        noise.share(partial(do, i) for i, yes in enumerate(shared) if yes)
        for i, yes in enumerate(shared):
            if not yes:
                do(i)
        return [found[i] for i in range(len(parts))]

    def shares(self, slot: Slot) -> bool:
        """Whether threads may take the ``parts`` of a slot, each with torch on one thread, and no bit hangs on it."""
        return False

    def stepped(self, slot: Slot, rows: Rows) -> None:
        """Told of each of the ``parts`` of a slot once the step has moved it, while the step's draws are at hand.

        Parts come in any order, on several threads. A step that is a single move of all slots tells nothing.
        """

    def state_dict(self) -> dict[str, Tensor | int | float]:
        """What the distribution has learnt, flat: tensors and numbers by name; empty without state."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        """Take over what ``state_dict`` gave."""

    def state_bytes(self) -> int:
        """Bytes held between steps, beyond the weights."""
        return 0
