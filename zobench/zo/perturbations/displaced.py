"""A key for the way that a tensor has come, so that losses are measured along it: one number per tensor."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.keys import mix, tag
from zobench.zo.perturbation import Perturbation
from zobench.zo.perturbations.stored import Stored
from zobench.zo.slot import Slot


class Displaced(Stored):
    """The base's directions, and one for each of some slots: the way ``θ − θ₀`` it has come since the first step.

    Between ``measure`` and ``forget`` the ways stay what they are, wherever the weights walk; at other times they are
    zero. State: θ₀ of these slots, and the base's. The ways take as much memory while they are there.

    Args:
        base: the distribution of all other directions.
        chosen: whether a slot is one of these.

    Example:
        >>> from zobench.zo import Gaussian, make_slots
        >>> (slot,) = slots = make_slots([("w", torch.zeros(2))])
        >>> space = Displaced(Gaussian(), chosen=lambda slot: True)
        >>> space.begin(0, slots)
        >>> _ = slot.param.add_(torch.tensor([3.0, 4.0]))
        >>> space.measure(slots)
        tensor([5.], dtype=torch.float64)
        >>> space.estimate(slot, 0.5 * space.of(slot))
        tensor([1.5000, 2.0000])
    """

    def __init__(self, base: Perturbation, chosen: Callable[[Slot], bool]):
        self.chosen = chosen
        self.start: dict[str, Tensor] = {}
        self.ways: dict[str, Tensor] = {}
        super().__init__(base, self.way)
        self.keys: set[int] = set()

    def way(self, slot: Slot) -> Tensor | None:
        """The way of a slot, while it is there."""
        return self.ways.get(slot.name)

    def key(self, slot: Slot) -> int:
        return mix(tag("displacement"), slot.id)

    def of(self, slot: Slot) -> Direction:
        """The direction of one slot's way."""
        return Direction.ray(self.key(slot))

    def local(self, slot: Slot, direction: Direction) -> Direction:
        others = self.keys - {self.key(slot)} if slot.name in self.ways else self.keys
        return Direction({key: weight for key, weight in direction.items() if key not in others})

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        super().begin(step, slots)
        for slot in filter(self.chosen, slots):
            self.keys.add(self.key(slot))
            held = self.start.get(slot.name)
            self.start[slot.name] = slot.param.detach().clone() if held is None else held.to(slot.param.device)

    def measure(self, slots: Sequence[Slot]) -> Tensor:
        """Take the ways of the chosen ones among some slots, whose weights stand at θ; their lengths, in fp64."""
        self.ways = {slot.name: slot.param.detach() - self.start[slot.name] for slot in filter(self.chosen, slots)}
        lengths = [torch.linalg.vector_norm(way, dtype=torch.float64) for way in self.ways.values()]
        return torch.tensor([float(length) for length in lengths], dtype=torch.float64)

    def forget(self) -> None:
        """Let go of the ways, once the weights stand at θ."""
        self.ways = {}

    def move(self, slots: Sequence[Slot], direction: Direction, keep: float = 1.0) -> None:
        if self.ways:
            super().move(slots, direction, keep)
        else:
            self.base.move(slots, direction, keep)

    def state_dict(self) -> dict[str, Tensor | int | float]:
        return super().state_dict() | {f"start.{name}": held for name, held in self.start.items()}

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        head = "start."
        super().load_state_dict({name: held for name, held in state.items() if not name.startswith(head)})
        tensors = {name: held for name, held in state.items() if isinstance(held, Tensor)}
        self.start = {name.removeprefix(head): held for name, held in tensors.items() if name.startswith(head)}

    def state_bytes(self) -> int:
        return super().state_bytes() + sum(held.numel() * held.element_size() for held in self.start.values())
