"""The side path: functions that read weights at one or several offsets, of which the weights themselves are only read.

A linear layer, or a look-up of rows, whose weight has ``factors`` at an offset gets its base product from the weight
as it is, and a thin product beside it. With several offsets the rows of every tensor, all axes but the last flattened,
are as many groups of equal length, group after group: the base product is one for all, the thin product one per group.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.factors import Factors, add_rows_, linear
from zobench.zo.layer import Layer, as_layer
from zobench.zo.perturbation import Perturbation
from zobench.zo.slot import Slot, sum_dtype

#: functions of rows and vectors that give each row by itself
_BY_ROWS = frozenset("layer_norm rms_norm mul __mul__ __rmul__ multiply add __add__ __radd__".split())  # noqa: SIM905


class NotStackable(Exception):
    """A function that cannot be computed at several offsets at once: they are to be evaluated one by one."""


class SidePath:
    """What functions give at offsets without shifted copies of matrices.

    Args:
        slots: the tensors that are seen at the offsets.
        perturbation: what the offsets are drawn from.
        offsets: where the slots are seen, each by its group of rows.
        thin: indices of the slots whose factors are used, where they have them.
    """

    def __init__(
        self, slots: Sequence[Slot], perturbation: Perturbation, offsets: Sequence[Direction], thin: Collection[int]
    ):
        self.perturbation, self.offsets = perturbation, offsets
        self._known = {id(slot.param): slot for slot in slots}
        self._thin = {s.index for s in slots if s.index in thin and perturbation.factor_rank(s) is not None}
        self._vectors = [slot for slot in slots if slot.param.ndim < 2]
        self._shifts: dict[int, Tensor] | None = None
        self._made: dict[int, tuple[Tensor, list[Tensor]]] = {}  # of vectors alone, as 1 + weight is: in each group
        self._sequences = 0  # as the last look-up of several had them; micro-batches differ

    @property
    def stacked(self) -> bool:
        """Whether there are several groups."""
        return len(self.offsets) > 1

    @property
    def used(self) -> bool:
        """Whether there is anything to do: with one offset and no factors there is not."""
        return self.stacked or bool(self._thin)

    def call(self, func: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The result of a function at the offsets, one of slots or of what ``takes`` knows.

        Returns:
            The result; ``NotImplemented`` where the slots' shifted values are needed.

        Raises:
            NotStackable: if that is so, and there are several offsets.
        """
        if self.takes(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)):
            found = NotImplemented
        elif (layer := as_layer(func, args, kwargs)) is not None:
            found = self._linear(layer)
        elif func is F.embedding and len(args) > 1 and leaves_table(args, kwargs):
            found = self._look_up(args[0], args[1], lambda ids, table: F.embedding(ids, table))
        elif func is Tensor.__getitem__ and isinstance(args[1], Tensor) and args[1].dtype == torch.int64:
            found = self._look_up(args[1], args[0], lambda ids, table: table[ids])
        else:
            found = NotImplemented
        if found is NotImplemented and self.stacked:
            return self._by_groups(func, args, kwargs)
        return found

    def note(self, func: Callable, args: Sequence[Any]) -> None:
        """Take notice of a call without slots: a look-up tells how many sequences there are."""
        if func is F.embedding and isinstance(args[0], Tensor):
            self._count(args[0])

    def _count(self, ids: Tensor) -> None:
        """Take the number of sequences from the ids of a look-up; one row of them is for all, as positions are."""
        if ids.ndim > 1 and len(ids) > 1:
            self._sequences = len(ids)

    def vector(self, slot: Slot, group: int = 0) -> Tensor:
        """A vector's shifted values in a group; the vector itself where it stays."""
        shifts = self._shifts_of(slot)
        if shifts is None:
            return slot.param
        return (slot.param.to(shifts.dtype) + shifts[group]).to(slot.param.dtype)

    def _shifts_of(self, slot: Slot) -> Tensor | None:
        """The shifts of a vector in the dtype of sums, groups × its shape; None where no offset reaches it.

        Those of all vectors are made when the first is asked for, in one pass.
        """
        if self._shifts is None:
            self._shifts = {
                s.index: torch.zeros(
                    (len(self.offsets), *s.param.shape), dtype=sum_dtype(s.param), device=s.param.device
                )
                for s in self._vectors
                if any(self.perturbation.local(s, offset).nonzero() for offset in self.offsets)
            }
            for group, offset in enumerate(self.offsets):
                there = [
                    replace(s, param=self._shifts[s.index][group]) for s in self._vectors if s.index in self._shifts
                ]
                self.perturbation.move(there, offset)
        return self._shifts.get(slot.index)

    def _factors_of(self, slot: Slot | None) -> list[Factors | None] | None:
        """A matrix's factors in each group, None where it stays; None in their place if it has to be made whole."""
        if slot is None:
            return [None] * len(self.offsets)
        local = [self.perturbation.local(slot, offset).nonzero() for offset in self.offsets]
        if any(local) and slot.index not in self._thin:
            return None
        found = [self.perturbation.factors(slot, there) if there else None for there in local]
        return None if any(there and not own for there, own in zip(local, found, strict=True)) else found

    def _linear(self, layer: Layer) -> Any:
        x, weight, bias, transposed = layer
        slot, offset_slot = self._known.get(id(weight)), self._known.get(id(bias))
        vector = bias is None or bias.ndim == 1
        if id(x) in self._known or weight.ndim != 2 or not vector or x.dtype != weight.dtype or not x.ndim:
            return NotImplemented
        factors = self._factors_of(slot)
        if factors is None:
            return NotImplemented
        shifts = None if offset_slot is None else self._shifts_of(offset_slot)
        if transposed:
            weight, factors = weight.T, [own and own.T for own in factors]
        if not any(factors) and (shifts is None or not self.stacked):
            if shifts is not None:
                assert offset_slot is not None
                bias = self.vector(offset_slot)
            return F.linear(x, weight, bias)
        rows = self._grouped(x.reshape(-1, x.shape[-1]))
        return linear(rows, weight, bias, factors, shifts).view(*x.shape[:-1], len(weight))

    def _look_up(self, ids: Tensor, table: Tensor, rows_of: Callable[[Tensor, Tensor], Tensor]) -> Any:
        slot = self._known.get(id(table))
        if table.ndim != 2 or id(ids) in self._known:
            return NotImplemented
        factors = self._factors_of(slot)
        if factors is None:
            return NotImplemented
        if self.stacked and ids.ndim > 1:
            if len(ids) == 1 and any(factors):  # one row for all sequences, as positions are
                ids = ids.expand(max(1, self._sequences), *ids.shape[1:])
            self._count(ids)
        flat = ids.reshape(-1)
        out = rows_of(flat, table)
        add_rows_(out, self._grouped(flat) if any(factors) else flat, factors)
        return out.view(*ids.shape, table.shape[1])

    def takes(self, tensors: Iterable[Tensor]) -> bool:
        """Whether one of these was made of vectors alone, so that it is another in each group."""
        return bool(self._made) and any(id(x) in self._made for x in tensors)

    def _by_groups(self, func: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """A function of vectors, and of the rows of at most one tensor beside them, group by group."""
        groups, every = len(self.offsets), (*args, *kwargs.values())
        given = [x for x in every if isinstance(x, Tensor)]
        instead = {id(x): self._in_groups(x) for x in given if id(x) in self._made or id(x) in self._known}
        others = [x for x in given if id(x) not in instead]
        shapes = {each[0].shape for each in instead.values() if each is not None}
        fits = len(shapes) == 1 and None not in instead.values() and not any(map(_holds_tensors, every))
        if others and fits:
            by_rows = getattr(func, "__name__", "") in _BY_ROWS
            fits = by_rows and len(others) == 1 and others[0].ndim > 1 and {others[0].shape[-1:]} == shapes
        if not fits:
            raise NotStackable(f"{getattr(func, '__name__', func)} of {self._names(given)}")
        pieces: list[tuple[int, Tensor | None]] = [(group, None) for group in range(groups)]
        for x in others:
            pieces = [*self._pieces(x.reshape(-1, x.shape[-1]))]
        parts = []
        for group, piece in pieces:
            here = {key: each[group] for key, each in instead.items() if each is not None}
            here |= {id(x): piece for x in others if piece is not None}
            named = {name: here.get(id(arg), arg) for name, arg in kwargs.items()}
            parts.append(func(*(here.get(id(arg), arg) for arg in args), **named))
        if others:
            return torch.cat(parts).view(others[0].shape)
        first = parts[0]
        if not isinstance(first, Tensor) or {first.shape} != shapes:
            raise NotStackable(f"{getattr(func, '__name__', func)} of {self._names(given)}")
        self._made[id(first)] = first, parts
        return first

    def _in_groups(self, x: Tensor) -> list[Tensor] | None:
        """A vector in each group; None for a matrix."""
        if id(x) in self._made:
            return self._made[id(x)][1]
        slot = self._known[id(x)]
        return [self.vector(slot, group) for group in range(len(self.offsets))] if slot.param.ndim == 1 else None

    def _names(self, tensors: Iterable[Tensor]) -> str:
        return ", ".join(self._known[id(x)].name for x in tensors if id(x) in self._known) or "vectors"

    def _pieces(self, rows: Tensor) -> list[tuple[int, Tensor]]:
        """Rows in pieces, each with the number of the offset that it is seen at."""
        return [*enumerate(self._grouped(rows).chunk(len(self.offsets)))]

    def _grouped(self, rows: Tensor) -> Tensor:
        """The rows themselves, if they are as many groups of equal length as there are offsets."""
        if len(rows) % len(self.offsets) or not len(rows):
            raise NotStackable(f"{len(rows)} rows are not {len(self.offsets)} groups of equal length")
        return rows


def leaves_table(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a look-up leaves the table as it is: with ``max_norm``, its fourth argument, it writes to it."""
    return (args[3] if len(args) > 3 else kwargs.get("max_norm")) is None


def _holds_tensors(thing: Any) -> bool:
    return isinstance(thing, list | tuple) and any(isinstance(x, Tensor) or _holds_tensors(x) for x in thing)
