"""Gaussian directions about a learned mean: ``u ~ N(μ, σ²I)``, on all slots or on a random subset of them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import Literal, get_args

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import not_negative, one_of, positive, within
from zobench.zo.direction import ZERO, Direction
from zobench.zo.independent import Gaussian
from zobench.zo.keys import mix, tag
from zobench.zo.scratch import scratch
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

Start = Literal["zero", "unit_per_tensor"]
Norm = Literal["none", "unit"]


class MeanShift(Gaussian):
    """Draws about a mean that learns, ``u(key) = μ + σ z(key)``; matrices, embeddings and vectors alike.

    State: μ, one fp32 copy (fp64 for fp64 weights) of the trainable weights, and none while μ is fixed at zero.
    μ moves only in ``begin``, so that all draws of a step, and those redrawn after it, see the same μ.

    Args:
        sigma: standard deviation σ.
        lr_mu: learning rate of μ; 0 fixes it. It follows no schedule.
        mu0: μ at first, ``zero`` or Gaussian of norm 1 in every slot (``unit_per_tensor``).
        mu_normalise: ``none``, or ``unit``: scale μ to norm 1 in every slot after each move.
        subset_ratio: share of the slots that a direction moves, at least one; the others stay where they are.
        shared_subset: the subset is the same for all directions of a step; else each has its own.
        reseed_per_tensor: all slots read the same numbers from the start of one stream.
        seed: names μ at first and the shared subsets.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        *,
        sigma: float = 1.0,
        lr_mu: float = 1e-3,
        mu0: Start = "zero",
        mu_normalise: Norm = "none",
        subset_ratio: float = 1.0,
        shared_subset: bool = True,
        reseed_per_tensor: bool = False,
        seed: int = 0,
    ):
        positive(sigma=sigma)
        not_negative(lr_mu=lr_mu)
        one_of(get_args(Start), mu0=mu0)
        one_of(get_args(Norm), mu_normalise=mu_normalise)
        within("(0, 1]", subset_ratio=subset_ratio)
        self.sigma, self.lr_mu, self.mu0, self.mu_normalise = sigma, lr_mu, mu0, mu_normalise
        self.subset_ratio, self.shared_subset = subset_ratio, shared_subset
        self.reseed_per_tensor, self.seed = reseed_per_tensor, seed
        self.mean: dict[str, Tensor] = {}
        self._slots: Sequence[Slot] = ()
        self._step = 0
        self._pending, self._best = ZERO, 0
        self._travelled = 0.0

    def add_normals_(self, slot: Slot, draws: Mapping[int, float], total: Tensor, rows: Rows = None) -> None:
        """``total += Σ w_k z(k)`` on these rows: the only randomness besides ``chosen`` and ``initial``.

        Where a slot is not ``alone``; the one pass draws the same numbers.
        """
        with self._apart():
            noise.add_rows_(total, self._stream(slot), draws, rows)

    def _stream(self, slot: Slot) -> int:
        return 0 if self.reseed_per_tensor else slot.id

    def _apart(self) -> AbstractContextManager[None]:
        """Where all slots read one stream, threads on several slots must not share what is held of it."""
        return noise.holding(None) if self.reseed_per_tensor else nullcontext()

    def chosen(self, key: int) -> frozenset[int]:
        """The ids of the slots that ``u(key)`` moves."""
        seed = mix(self.seed, self._step, tag("subset")) if self.shared_subset else mix(key, tag("subset"))
        return _lowest(seed, tuple(slot.id for slot in self._slots), max(1, int(self.subset_ratio * len(self._slots))))

    def moves(self, slot: Slot, key: int) -> bool:
        """Whether ``u(key)`` moves a slot."""
        return self.subset_ratio >= 1 or slot.id in self.chosen(key)

    def initial(self, slot: Slot) -> Tensor:
        """The mean μ of a slot before the first step."""
        mean = torch.zeros(slot.param.shape, dtype=sum_dtype(slot.param), device=slot.param.device)
        if self.mu0 == "unit_per_tensor":
            mean.copy_(noise.gaussian(mix(self.seed, tag("mean")), slot.id, mean.shape, mean.device))
            mean.div_(mean.norm())
        return mean

    def learn(self, policy: Direction, best: int) -> None:
        """Move the mean when the next step begins: ``μ ← μ − lr_mu/σ² · Σ w_k (u(k) − μ)``.

        Args:
            policy: the weights ``w_k`` of this step's draws.
            best: the key whose direction says which slots' means move.
        """
        if self.lr_mu:
            self._pending, self._best = policy, best

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        self._slots = slots
        if self.lr_mu or self.mu0 != "zero":
            for slot in slots:
                mean = self.mean[slot.name] if slot.name in self.mean else self.initial(slot)
                self.mean[slot.name] = mean.to(slot.param.device)
        if self._pending:
            self._descend([slot for slot in slots if self.moves(slot, self._best)])
        self._pending, self._step = ZERO, step

    def _descend(self, slots: Sequence[Slot]) -> None:
        # u(k) − μ = σ z(k), also in slots that u(k) itself did not move.
        draws = {key: weight / self.sigma for key, weight in self._pending.nonzero().items()}
        travelled: dict[tuple[int, int], float] = {}

        def move(slot: Slot, part: int, rows: Rows) -> None:
            to = pick(self.mean[slot.name], rows)
            gradient = scratch("gradient", to, to.dtype).zero_()
            self.add_normals_(slot, draws, gradient, rows)
            to.sub_(gradient, alpha=self.lr_mu)
            travelled[slot.index, part] = self.lr_mu**2 * _square(gradient)

        parts = [(slot, i, rows) for slot in slots for i, rows in enumerate(self.parts(slot) if draws else ())]
        noise.share(partial(move, *part) for part in parts if self.shares(part[0]))
        for part in parts:
            if not self.shares(part[0]):
                move(*part)
        for slot, i, _ in parts:
            self._travelled += travelled[slot.index, i]
        for slot in slots if self.mu_normalise == "unit" else ():
            mean = self.mean[slot.name]
            mean.div_(mean.norm().clamp_min(torch.finfo(mean.dtype).tiny))

    def draw(self, slot: Slot, key: int) -> Tensor:
        """``μ + σz``, in fp32 (fp64 for fp64 weights); zero in a slot that the direction does not move."""
        out = torch.zeros(slot.param.shape, dtype=sum_dtype(slot.param), device=slot.param.device)
        self.accumulate_(slot, self.local(slot, Direction.ray(key)), out)
        return out

    def local(self, slot: Slot, direction: Direction) -> Direction:
        return Direction({key: weight for key, weight in direction.items() if self.moves(slot, key)})

    def alone(self, slot: Slot) -> bool:
        return slot.name not in self.mean or noise.takes_beside(slot.param.device, slot.param.dtype)

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        with self._apart():
            super().write_(slot, direction, out, keep, rows)

    def move(self, slots: Sequence[Slot], direction: Direction, keep: float = 1.0) -> None:
        with self._apart():
            super().move(slots, direction, keep)

    def _job(self, slot: Slot, direction: Direction, out: Tensor, keep: float) -> noise.NoiseJob:
        source, draws = slot.param.view(-1), direction * self.sigma
        to = source if out is slot.param else out.view(-1)
        job = noise.make_job(to, self._stream(slot), draws, keep, source=source)
        if slot.name not in self.mean or (scale := sum(direction.values())) == 0:  # as from one candidate to the next
            return job
        return replace(job, beside=self.mean[slot.name].view(-1), scale=scale)

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """Add ``(Σ w_k) μ + Σ w_k σ z(k)``: the mean once, with the sum of the weights."""
        if slot.name in self.mean and (scale := sum(direction.values())) != 0:
            total.add_(pick(self.mean[slot.name], rows), alpha=scale)
        self.add_normals_(slot, direction * self.sigma, total, rows)

    def notes(self) -> dict[str, float]:
        """How far the mean is: ``mean_norm`` is ``|μ|²/(dσ²)``, ``mean_coherence`` ``|μ−μ₀|²`` over its squared steps.

        A coherence of 1 is a random walk, more than 1 a drift in one direction.
        """
        if not self.mean:
            return {}
        size = sum(mean.numel() for mean in self.mean.values())
        numbers = {"mean_norm": sum(map(_square, self.mean.values())) / (size * self.sigma**2)}
        if self._travelled:
            away = (
                self.mean[s.name] if self.mu0 == "zero" else self.mean[s.name] - self.initial(s) for s in self._slots
            )
            numbers["mean_coherence"] = sum(map(_square, away)) / self._travelled
        return numbers

    def state_dict(self) -> dict[str, Tensor | int | float]:
        state: dict[str, Tensor | int | float] = {f"mean.{name}": mean for name, mean in self.mean.items()}
        state |= {"step": self._step, "best": self._best, "travelled": self._travelled}
        for i, (key, weight) in enumerate(self._pending.items()):
            state |= {f"key.{i}": key, f"weight.{i}": weight}
        return state

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        self.mean = {k.removeprefix("mean."): v.clone() for k, v in state.items() if isinstance(v, Tensor)}
        self._step, self._best, self._travelled = int(state["step"]), int(state["best"]), float(state["travelled"])
        count = sum(k.startswith("key.") for k in state)
        self._pending = Direction({int(state[f"key.{i}"]): float(state[f"weight.{i}"]) for i in range(count)})

    def state_bytes(self) -> int:
        return sum(mean.numel() * mean.element_size() for mean in self.mean.values())


def _square(x: Tensor) -> float:
    """Squared norm; block by block, for the whole in fp64 would be a copy."""
    return float(torch.stack([block.dot(block).double() for block in noise.blocks(x.reshape(-1))]).sum())


@lru_cache(maxsize=64)
def _lowest(seed: int, ids: tuple[int, ...], count: int) -> frozenset[int]:
    """A uniformly random subset of the given size; independent of the order of the ids."""
    return frozenset(sorted(ids, key=lambda slot_id: mix(seed, slot_id))[:count])
