"""Shifted weights: torch functions see the weights at ``θ + offset`` while ``θ`` stays where it is.

Inside the context, every torch function that is called with a trainable tensor is handed its shifted values instead.
They are made just before, in scratch memory that the next call uses again: no copy of the weights, no way back, and the
values are still in the cache when they are read. A look-up of rows makes these rows alone; the product with a large
matrix is made in blocks of its rows. Where the shift has factors, most functions need no shifted values (``side.py``),
and may be computed at several offsets at once.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zobench.zo.direction import ZERO, Direction
from zobench.zo.example_path import ExamplePath
from zobench.zo.perturbation import Perturbation
from zobench.zo.side import SidePath, leaves_table
from zobench.zo.slot import Slot

#: elements of scratch memory beyond which a linear layer is computed in blocks of its outputs
LARGE = 1 << 24
#: functions and attributes that tell about a tensor without reading its values; all others get the shifted ones
_METADATA = frozenset(
    """
    size dim ndimension numel nelement element_size stride storage_offset get_device is_contiguous is_floating_point
    is_complex is_signed is_inference is_conj is_neg __len__ __hash__ requires_grad_
    """.split()  # noqa: SIM905
)
#: attributes that do give values
_VALUES = frozenset(["T", "mT", "H", "mH", "data", "real", "imag"])


class ShiftedWeights(TorchFunctionMode):
    """A context in which torch functions see ``slots`` at an offset.

    It watches the thread that enters it, and what passes through torch's functions; ``torch.compile``, and views of the
    weights that were made earlier, are out of its reach.

    Args:
        slots: the trainable tensors; all others are seen as they are.
        perturbation: what the offsets are drawn from.
        thin: indices of the slots that are seen by their factors, where they have them; None for all.

    Attributes:
        offsets: where the slots are seen.
        watched: other slots, seen as they are, of which ``seen`` is to tell too.
        seen: indices of the slots whose values were asked for since ``at``.

    Example:
        >>> from zobench.zo import Gaussian, make_slots
        >>> weight = torch.zeros(2, 3)
        >>> context = ShiftedWeights(make_slots([("w", weight)]), Gaussian())
        >>> with context.at(Direction({7: 0.1})):
        ...     output = F.linear(torch.ones(1, 3), weight)
        >>> bool(output.any()), bool(weight.any()), context.seen
        (True, False, {0})
    """

    def __init__(self, slots: Sequence[Slot], perturbation: Perturbation, thin: Collection[int] | None = None):
        super().__init__()
        self.perturbation = perturbation
        self.offsets: tuple[Direction, ...] = (ZERO,)
        self.seen: set[int] = set()
        self.slots = slots
        self.watched: Sequence[Slot] = ()
        self.thin = {slot.index for slot in slots} if thin is None else thin
        self._side: SidePath | None = None
        self._slots: dict[int, Slot] = {}
        self._scratch: dict[tuple[torch.device, torch.dtype, int], Tensor] = {}

    def at(self, *offsets: Direction) -> "ShiftedWeights":
        """Set the offset, forget what was seen, and return the context itself, to be entered.

        With several offsets, what is computed inside is computed at all of them at once: the rows of each tensor, all
        axes but the last flattened, are as many groups of equal length, group after group. A function that cannot be
        computed so raises ``NotStackable`` (``side.py``). Rows that are gathered in another order go unnoticed.

        Args:
            offsets: one or several.
        """
        self.offsets, self.seen = offsets, set()
        self._slots = {id(slot.param): slot for slot in self.slots}  # a copy of a method has other tensors
        side = SidePath(self.slots, self.perturbation, offsets, self.thin)
        self._side = side if side.used else None
        return self

    def at_each(self, offsets: Sequence[Direction]) -> "ShiftedWeights":
        """Set an offset for each example of a batch: each row sees the weights at that of its example.

        ``owners`` is to tell whose rows they are. A function that cannot be computed so raises ``NotStackable``.
        """
        self.at(*offsets)
        self._side = ExamplePath(self.slots, self.perturbation, offsets)
        return self

    def __exit__(self, *error: Any) -> None:
        self._scratch, self._side = {}, None
        super().__exit__(*error)

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        known, metadata = self._slots, reads_metadata(func)
        tensors = [] if metadata else _tensors([*args, *kwargs.values()])
        slots = [known[id(x)] for x in tensors if id(x) in known]
        if self.watched:
            asked = {id(x) for x in tensors}
            self.seen.update(slot.index for slot in self.watched if id(slot.param) in asked)
        side = self._side
        if not (slots or (side is not None and side.takes(tensors))):
            if side is not None:
                side.note(func, args)
            return func(*args, **kwargs)
        self.seen.update(slot.index for slot in slots)
        if side is not None and (found := side.call(func, args, kwargs)) is not NotImplemented:
            return found
        if len(slots) == 1 and (shortcut := self._shortcut(func, slots[0], args, kwargs)) is not None:
            return shortcut()
        return self._call(func, slots, args, kwargs)

    def _call(self, func: Callable, slots: Sequence[Slot], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The function's result with each slot's tensor among its arguments replaced by its shifted values."""
        shifted = [self._shifted(slot, place) for place, slot in enumerate(slots)]
        replace = {id(slot.param): tensor for slot, tensor in zip(slots, shifted, strict=True)}
        out = func(*_replaced(args, replace), **_replaced(kwargs, replace))
        if any(_shares_memory(out, x) for x in shifted):
            self._scratch = {}  # what was returned still needs it
        return out

    def _shifted(self, slot: Slot, place: int) -> Tensor:
        """A slot's shifted values, in the scratch memory of its place in the call; its own tensor if unmoved."""
        param = slot.param
        if self._side is not None and param.ndim < 2:
            return self._side.vector(slot)
        if not self.perturbation.local(slot, self.offsets[0]):
            return param
        out = self._memory((param.device, param.dtype, place), param.numel())[: param.numel()].view(param.shape)
        self.perturbation.write_(slot, self.offsets[0], out)
        return out

    def _memory(self, kind: tuple[torch.device, torch.dtype, int], size: int) -> Tensor:
        """Flat scratch memory of at least ``size`` numbers, for a device, a dtype and a place in a call."""
        memory = self._scratch.get(kind)
        if memory is None or memory.numel() < size:
            self._scratch.pop(kind, None)
            self._scratch[kind] = memory = torch.empty(size, device=kind[0], dtype=kind[1])
        return memory

    def _shortcut(
        self, func: Callable, slot: Slot, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Callable[[], Any] | None:
        """A cheaper way to the same result, where rows of the slot are looked up or the slot is large; else None."""
        param = slot.param
        if param.ndim != 2 or not self.perturbation.splits(slot):
            return None
        if func is F.embedding and len(args) > 1 and args[1] is param and leaves_table(args, kwargs):
            return lambda: F.embedding(*self._rows(slot, args[0], 0))
        if func is Tensor.__getitem__ and args[0] is param and isinstance(args[1], Tensor):
            if args[1].dtype == torch.int64:
                return lambda: self._index(slot, args[1])
            return None
        if func is F.linear and len(args) > 1 and args[1] is param and param.numel() > LARGE:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            return lambda: self._linear(slot, args[0], bias)
        return None

    def _index(self, slot: Slot, ids: Tensor) -> Tensor:
        places, rows = self._rows(slot, ids, -len(slot.param))
        return rows[places]

    def _rows(self, slot: Slot, ids: Tensor, lowest: int) -> tuple[Tensor, Tensor]:
        """The shifted values of the rows that a look-up asks for, each once.

        Args:
            lowest: the smallest id that names a row; negative ones count from the end.

        Returns:
            The place of each of ``ids`` among these rows, and the rows.

        Raises:
            IndexError: if an id names no row.
        """
        asked, places = ids.unique(return_inverse=True)
        if len(asked) and not lowest <= int(asked[0]) <= int(asked[-1]) < len(slot.param):
            raise IndexError(f"{slot.name}: index {int(asked[0])} or {int(asked[-1])} is no row of {len(slot.param)}")
        rows = asked % len(slot.param)
        out = slot.param[rows]
        self.perturbation.write_(slot, self.offsets[0], out, rows=rows)
        return places, out

    def _linear(self, slot: Slot, x: Tensor, bias: Tensor | None) -> Tensor:
        """``F.linear`` with the shifted slot, in blocks of its rows, which are the layer's outputs."""
        param = slot.param
        parts: list[Tensor] = []
        size = max(1, LARGE // param.shape[1])
        for start in range(0, len(param), size):
            rows = slice(start, min(start + size, len(param)))
            part = self._memory((param.device, param.dtype, 0), LARGE)[: (rows.stop - start) * param.shape[1]]
            part = part.view(-1, param.shape[1])
            self.perturbation.write_(slot, self.offsets[0], part, rows=rows)
            parts.append(F.linear(x, part, None if bias is None else bias[rows]))
        return torch.cat(parts, dim=-1)


def reads_metadata(func: Callable) -> bool:
    """Whether a function tells about a tensor without reading its values."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "") not in _VALUES
    return name in _METADATA


def _tensors(things: Iterable[Any]) -> list[Tensor]:
    """All tensors among some things, and in lists, tuples and dictionaries of them."""
    found = list[Tensor]()
    for thing in things:
        if isinstance(thing, Tensor):
            found.append(thing)
        elif type(thing) is list or type(thing) is tuple:
            found += _tensors(thing)
        elif isinstance(thing, dict):
            found += _tensors(thing.values())
    return found


def _replaced(thing: Any, replace: dict[int, Tensor]) -> Any:
    """Nested arguments with the tensors of these ids replaced."""
    if isinstance(thing, Tensor):
        return replace.get(id(thing), thing)
    if type(thing) in (list, tuple):
        return type(thing)(_replaced(part, replace) for part in thing)
    if isinstance(thing, dict):
        return {key: _replaced(value, replace) for key, value in thing.items()}
    return thing


def _shares_memory(out: Any, scratch: Tensor) -> bool:
    """Whether a result may share the scratch memory. Only tensors that do not, and plain values, are sure not to."""
    if isinstance(out, Tensor):
        try:
            return out.untyped_storage().data_ptr() == scratch.untyped_storage().data_ptr()
        except (NotImplementedError, RuntimeError):  # a sparse tensor, or one of torch.func, has no storage of its own
            return True
    if isinstance(out, list | tuple):
        return any(_shares_memory(part, scratch) for part in out)
    return not (out is None or isinstance(out, bool | int | float | str | torch.Size | torch.dtype | torch.device))
