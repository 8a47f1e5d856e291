"""Poisson sampling of blocks (whole parameters): which of them a direction moves, and the 1/π correction.

Each block is in the sample by a Bernoulli draw of its own, with inclusion probability ``π_b``. A probe ``u`` moves the
sampled blocks by plain Gaussian noise; its twin ``corrected(u)`` is the same noise divided by ``π_b``, the weight of
Horvitz and Thompson that makes the estimate unbiased.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.direction import ZERO, Direction
from zobench.zo.independent import Gaussian
from zobench.zo.keys import mix
from zobench.zo.slot import Slot, pick

Cap = Literal["waterfill", "pmax"]


def corrected(u: Direction) -> Direction:
    """The direction ``u_b / π_b`` of a probe ``u``; keys are not negative, and the complement of one names its twin."""
    return Direction({~key: weight for key, weight in u.items()})


class SampledBlocks(Gaussian):
    """Noise on a sample of blocks: ``u_b ~ N(0, I)`` there and zero on the others, whatever their kind.

    ``redraw`` fixes the sample until it is called again, and goes before the first draw of a step. No state between
    steps. Blocks outside the sample cost no random numbers and no pass over their weights.
    """

    def __init__(self) -> None:
        #: slot index → π, of the sampled blocks
        self.pi: dict[int, float] = {}

    def redraw(self, slots: Sequence[Slot], probabilities: Tensor, key: int) -> None:
        """Draw the blocks of a step: a function of the key, the ids of the slots and the probabilities.

        An empty sample becomes the most probable block. Its probability is raised by that of the empty sample, so that
        the correction stays exact.
        """
        pi: list[float] = probabilities.tolist()
        top = pi.index(max(pi))
        chosen = [i for i, slot in enumerate(slots) if _uniform(key, slot) < pi[i]] or [top]
        pi[top] += math.prod(1.0 - p for p in pi)
        self.pi = {slots[i].index: pi[i] for i in chosen}

    def local(self, slot: Slot, direction: Direction) -> Direction:
        pi = self.pi.get(slot.index)
        if pi is None:
            return ZERO
        weights: dict[int, float] = {}
        for key, weight in direction.items():
            source, factor = (key, 1.0) if key >= 0 else (~key, 1.0 / pi)
            weights[source] = weights.get(source, 0.0) + factor * weight
        return Direction(weights)

    def energies(self, slots: Sequence[Slot], u: Direction) -> dict[int, float]:
        """The energies ``‖u_b‖² / π_b²`` of the sampled blocks by place, for a single draw and in little memory."""
        (key,) = u
        return {b: u[key] ** 2 * self._squared_norm(slots[b], key) / pi**2 for b, pi in self.pi.items()}

    def _squared_norm(self, slot: Slot, key: int) -> float:
        total = torch.zeros((), dtype=torch.float64, device=slot.param.device)
        parts, count = list(self.parts(slot)), torch.get_num_threads()
        width = slot.param.numel() // max(1, len(slot.param)) if slot.param.ndim else 0
        for i in range(0, len(parts), count):  # as many as threads draw at once
            drawn = [
                torch.zeros(pick(slot.param, part).shape, device=slot.param.device) for part in parts[i : i + count]
            ]
            firsts = [(part.start if isinstance(part, slice) else 0) * width for part in parts[i:]]
            jobs = [
                noise.make_job(z.view(-1), slot.id, {key: 1.0}, first=first)
                for z, first in zip(drawn, firsts, strict=False)
            ]
            noise.add_all_(jobs)
            for z in drawn:
                total += z.square_().sum(dtype=torch.float64)
        return float(total)


def _uniform(key: int, slot: Slot) -> float:
    """A number in [0, 1) with 53 bits."""
    return (mix(key, slot.id) >> 10) / (1 << 53)


def inclusion_probabilities(weights: Tensor, expected: float, cap: Cap = "waterfill") -> Tensor:
    """Probabilities ``π_b = min(1, c · w_b)``, proportional to positive weights, which sum to ``expected``.

    >>> inclusion_probabilities(torch.tensor([8.0, 1.0, 1.0]), expected=2)
    tensor([1.0000, 0.5000, 0.5000])

    Args:
        cap: ``waterfill`` meets the sum by clipping at 1; ``pmax`` stops at the ``c`` that brings the largest π to 1,
            and so falls short of the sum under skew.
    """
    if expected >= len(weights):
        return torch.ones_like(weights) if cap == "waterfill" else weights / weights.max()
    ranked = weights.sort(descending=True).values
    rest = ranked.flip(0).cumsum(0).flip(0)
    # With the k largest at 1, the rest share expected − k; the first k that leaves none above 1 is the solution.
    c = (expected - torch.arange(len(weights), dtype=weights.dtype)) / rest
    scale = float(c[int((c * ranked <= 1.0).int().argmax())])
    if cap == "pmax":
        scale = min(scale, 1.0 / float(ranked[0]))
    return (weights * scale).clamp_max(1.0)
