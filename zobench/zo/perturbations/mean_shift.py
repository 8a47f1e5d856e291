"""Gaussian directions about a learned mean: ``u ~ N(μ, σ²I)``, on all slots or on a random subset of them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import not_negative, one_of, positive, within
from zobench.zo.direction import ZERO, Direction
from zobench.zo.keys import mix, tag
from zobench.zo.perturbations.learned_mean import LearnedMean, square
from zobench.zo.scratch import scratch
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

Start = Literal["zero", "unit_per_tensor"]
Norm = Literal["none", "unit"]


class MeanShift(LearnedMean):
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
        super().__init__(sigma)
        self.lr_mu, self.mu0, self.mu_normalise = lr_mu, mu0, mu_normalise
        self.subset_ratio, self.shared_subset = subset_ratio, shared_subset
        self.reseed_per_tensor, self.seed = reseed_per_tensor, seed
        self._slots: Sequence[Slot] = ()
        self._step = 0
        self._pending, self._best = ZERO, 0
        self._travelled = 0.0

    def add_normals_(self, slot: Slot, draws: Mapping[int, float], total: Tensor, rows: Rows = None) -> None:
        with self._apart():
            super().add_normals_(slot, draws, total, rows)

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

        def move(slot: Slot, rows: Rows) -> float:
            to = pick(self.mean[slot.name], rows)
            gradient = scratch("gradient", to, to.dtype).zero_()
            self.add_normals_(slot, draws, gradient, rows)
            to.sub_(gradient, alpha=self.lr_mu)
            return self.lr_mu**2 * square(gradient)

        for moved in self.over_parts(slots if draws else (), move):
            self._travelled += moved
        for slot in slots if self.mu_normalise == "unit" else ():
            mean = self.mean[slot.name]
            mean.div_(mean.norm().clamp_min(torch.finfo(mean.dtype).tiny))

    def local(self, slot: Slot, direction: Direction) -> Direction:
        return Direction({key: weight for key, weight in direction.items() if self.moves(slot, key)})

    def write_(self, slot: Slot, direction: Direction, out: Tensor, keep: float = 1.0, rows: Rows = None) -> None:
        with self._apart():
            super().write_(slot, direction, out, keep, rows)

    def move(self, slots: Sequence[Slot], direction: Direction, keep: float = 1.0) -> None:
        with self._apart():
            super().move(slots, direction, keep)

    def notes(self) -> dict[str, float]:
        """How far the mean is: ``mean_norm`` is ``|μ|²/(dσ²)``, ``mean_coherence`` ``|μ−μ₀|²`` over its squared steps.

        A coherence of 1 is a random walk, more than 1 a drift in one direction.
        """
        if not self.mean:
            return {}
        size = sum(mean.numel() for mean in self.mean.values())
        numbers = {"mean_norm": sum(map(square, self.mean.values())) / (size * self.sigma**2)}
        if self._travelled:
            away = (
                self.mean[s.name] if self.mu0 == "zero" else self.mean[s.name] - self.initial(s) for s in self._slots
            )
            numbers["mean_coherence"] = sum(map(square, away)) / self._travelled
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


@lru_cache(maxsize=64)
def _lowest(seed: int, ids: tuple[int, ...], count: int) -> frozenset[int]:
    """A uniformly random subset of the given size; independent of the order of the ids."""
    return frozenset(sorted(ids, key=lambda slot_id: mix(seed, slot_id))[:count])
