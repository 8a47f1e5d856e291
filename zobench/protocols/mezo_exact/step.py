"""The noise and the arithmetic of the 2023 MeZO step (princeton-nlp/MeZO @552cb1b), bit for bit.

One ``torch`` generator, seeded by the key, runs through all slots in order and draws in the weights' own dtype. Each
operation rounds by itself, the weights walk back before the update, and decay skips tensors by name. The step therefore
replays one direction at a time only.
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
    """Step seeds as the official code draws them: one ``randint(10**9)`` a step of numpy's legacy generator.

    Args:
        seed: the generator's.

    Example:
        >>> keys = OfficialKeys(42)
        >>> [keys(step) for step in range(3)]
        [534895718, 199900595, 862061404]
    """

    def __init__(self, seed: int):
        super().__init__(seed)
        self._stream = np.random.RandomState(seed)
        self._drawn: list[int] = []

    def __call__(self, step: int, query: int = 0, purpose: str = "probe") -> int:
        """The seed of a step, from 0; query and purpose do not count, as a step draws once."""
        while len(self._drawn) <= step:
            self._drawn.append(int(self._stream.randint(10**9)))
        return self._drawn[step]


class TorchStream(Perturbation):
    """Gaussian directions from one sequential stream per key, which runs through all slots.

    The core is the draw itself, in the weights' dtype, the lift the identity.

    Args:
        slots: all of the method's, in the order in which the stream fills them.
    """

    def __init__(self, slots: Sequence[Slot]):
        self._slots = slots

    def draws(self, key: int) -> Iterator[tuple[Slot, Tensor]]:
        """Yield each slot with its noise z, of its shape and dtype, in order."""
        generators = {d: torch.Generator(d).manual_seed(key) for d in {s.param.device for s in self._slots}}
        for slot in self._slots:
            p = slot.param
            yield slot, torch.normal(0.0, 1.0, p.shape, generator=generators[p.device], dtype=p.dtype, device=p.device)

    def draw(self, slot: Slot, key: int) -> Tensor:
        """The slot's noise, in its own dtype. All slots ahead of it are drawn: the definition, not the fast way."""
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
    """An oracle that perturbs by +ε, −2ε, +ε and updates in a fourth pass: ``θ ← θ − lr·(g·z + wd·θ)``."""

    def projected(self, plus: float, minus: float, eps: float) -> float:
        """The projected gradient from two losses, rounded in the weights' dtype, which the official losses are in."""
        dtype = self.slots[0].param.dtype
        return ((torch.tensor(plus, dtype=dtype) - torch.tensor(minus, dtype=dtype)) / (2 * eps)).item()

    def descend(self, estimate: Direction, lr: float, weight_decay: float) -> None:
        """Walk back to θ (settle), then ``θ ← θ − lr·(g·z + wd·θ)``; biases and layer norms are not decayed.

        Raises:
            ValueError: for an estimate of more than one key, as the stream cannot be replayed for sums.
        """
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
