"""The noise and the arithmetic of the 2023 MeZO step, bit for bit.

One ``torch`` generator, seeded by the key, runs through all slots in order and draws in the weights' own dtype. Each
operation rounds by itself, the walk returns before the update, and decay skips tensors by name. The step therefore
replays for one direction at a time only.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from zobench.zo.direction import Direction
from zobench.zo.keys import Keys
from zobench.zo.oracle import Oracle
from zobench.zo.perturbation import Perturbation
from zobench.zo.slot import Slot

_NOT_DECAYED = ("bias", "layer_norm", "layernorm")


class OfficialKeys(Keys):
    """Step seeds as the official code draws them: one ``randint(10**9)`` a step of numpy's legacy generator."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self._stream = np.random.RandomState(seed)
        self._drawn: list[int] = []

    def __call__(self, step: int, query: int = 0, purpose: str = "probe") -> int:
        while len(self._drawn) <= step:
            self._drawn.append(int(self._stream.randint(10**9)))
        return self._drawn[step]


class TorchStream(Perturbation):
    """Gaussian noise from one sequential stream per key."""

    def __init__(self, slots: Sequence[Slot]):
        self._slots = slots

    def draws(self, key: int) -> Iterator[tuple[Slot, Tensor]]:
        """(slot, z) for all slots in order."""
        generators = {d: torch.Generator(d).manual_seed(key) for d in {s.param.device for s in self._slots}}
        for slot in self._slots:
            p = slot.param
            yield slot, torch.normal(0.0, 1.0, p.shape, generator=generators[p.device], dtype=p.dtype, device=p.device)

    def draw(self, slot: Slot, key: int) -> Tensor:
        """Draws all slots up to this one; the definition, not the fast path."""
        return next(z for other, z in self.draws(key) if other.index == slot.index)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        out.add_(core.to(out.dtype).mul(scale))

    def move(self, slots: Sequence[Slot], direction: Direction, keep: float = 1.0) -> None:
        assert keep == 1.0, "the official update decays in its own pass"
        moved = {slot.index for slot in slots}
        for key, weight in direction.items():
            for slot, z in self.draws(key):
                if slot.index in moved:
                    slot.param.add_(z.mul_(weight))


class OfficialOracle(Oracle):
    """Perturbs by +ε, −2ε, +ε and updates in a fourth pass: ``θ ← θ − lr·(g·z + wd·θ)``."""

    def projected(self, plus: float, minus: float, eps: float) -> float:
        """In the dtype of the weights, in which the official losses are."""
        dtype = self.slots[0].param.dtype
        return ((torch.tensor(plus, dtype=dtype) - torch.tensor(minus, dtype=dtype)) / (2 * eps)).item()

    def descend(self, estimate: Direction, lr: float, weight_decay: float) -> None:
        """Raises ValueError for more than one key: the stream cannot be replayed for sums."""
        self.settle()
        if len(estimate) > 1:
            raise ValueError("protocol=mezo_exact replays one direction a step; use protocol=clean for several probes")
        assert isinstance(self.perturbation, TorchStream)
        for key, projected in estimate.items():
            for slot, z in self.perturbation.draws(key):
                step = z.mul_(projected)
                if not any(part in slot.name for part in _NOT_DECAYED):
                    step.add_(slot.param * weight_decay)
                slot.param.sub_(step.mul_(lr))
