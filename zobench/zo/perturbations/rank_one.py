"""Gaussian directions whose rows share a precision of rank one above the identity, ``ρI + aaᵀ``, with ``a`` learned."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import not_negative, one_of, positive
from zobench.zo.direction import ZERO, Direction
from zobench.zo.keys import mix, tag
from zobench.zo.perturbation import Gaussian, Perturbation
from zobench.zo.slot import Rows, Slot, sum_dtype


class RankOnePrecision(Perturbation):
    """Directions ``W = u B`` of ``u ~ N(0, I)``: rows are ``N(0, ρH⁻¹)``, independent, with ``H = ρI + aaᵀ``.

    ``B = I − c·aaᵀ`` is a square root of ``ρH⁻¹``; a draw costs one product ``u a`` and one outer product.
    A slot is seen as m rows of n entries: axis 0 against the flattened rest; a vector is one row. ``a`` (n entries,
    fp32; fp64 for fp64 weights) is the only state. It starts as N(0, I), a function of (seed, slot), and moves in
    ``begin`` by what ``observe`` was given, so that a step can be replayed after it is done.

    Args:
        eps: scale of the offsets at which the losses are measured; for ``a_scale="eps2"``.
        decay: weight decay of ``a``, which takes the share ``lr_cov · decay`` of it at each move.
        rho: damping ρ.
        lr_cov: ``a ← a − lr_cov·Σ w_k ∇_a log p(W_k)``; 0 fixes ``a``.
        cov_scale: ``normalised``, or ``inverse``: rows are ``N(0, H⁻¹)``, without the factor ρ.
        block: ``rowwise``, or ``tiled``: one row of m·n entries with ``a`` repeated m times.
        root: ``principal``, or ``reflected``: the square root with the eigenvalue along ``a`` negated.
        a_scale: ``score``, or ``eps2``: the moves of ``a`` are multiplied by ``ε²√ρ``.
        one_dim: vectors are a ``row``; ``isotropic``; or ``scalar_shift``, a row whose entries of ``a`` all move alike.
        seed: names the first ``a``.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        eps: float = 1e-3,
        decay: float = 0.0,
        *,
        rho: float = 0.1,
        lr_cov: float = 1e-3,
        cov_scale: Literal["normalised", "inverse"] = "normalised",
        block: str = "rowwise",
        root: str = "principal",
        a_scale: str = "score",
        one_dim: str = "row",
        seed: int = 0,
    ):
        positive(rho=rho)
        not_negative(lr_cov=lr_cov)
        one_of(("normalised", "inverse"), cov_scale=cov_scale)
        self.rho, self.block, self.root, self.one_dim, self.seed = rho, block, root, one_dim, seed
        self.rate = lr_cov * (eps**2 * math.sqrt(rho) if a_scale == "eps2" else 1.0)
        self.keep = 1.0 - lr_cov * decay
        self.scale = 1.0 / math.sqrt(rho) if cov_scale == "inverse" else 1.0
        self.base: Perturbation = Gaussian()
        self.observed = ZERO
        self.moved = 0.0
        self._a: dict[str, Tensor] = {}

    def a(self, slot: Slot) -> Tensor:
        """The learned vector of a slot."""
        param, held = slot.param, self._a.get(slot.name)
        if held is None:
            n = param.numel() // param.shape[0] if param.ndim > 1 else param.numel()
            held = noise.gaussian(mix(self.seed, tag("rank_one")), slot.id, torch.Size([n]), param.device)
        self._a[slot.name] = held.to(param.device, sum_dtype(param))
        return self._a[slot.name]

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        self.learn(slots)

    def draw(self, slot: Slot, key: int) -> Tensor:
        return self.base.draw(slot, key)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        scale *= self.scale
        self.base.add_(slot, core, out, scale)
        self._bend_(slot, core, out, scale)

    def _bend_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        """``out −= scale·c·(u a) aᵀ``: what tells the lift from the identity. ``out`` may be the core."""
        if not self._plain(slot):
            a, _, along, _, c = self._parts(slot, core, out.dtype)
            out.view(-1, a.numel()).addr_(along * (-scale * c), a)

    def splits(self, slot: Slot) -> bool:
        return self._plain(slot) or (slot.kind != "vector" and self.block == "rowwise")

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """The draws are summed and lifted once."""
        if not direction or not self.splits(slot):
            super().accumulate_(slot, direction, total, rows)
            return
        core = torch.zeros_like(total)
        self.base.accumulate_(slot, direction, core, rows)
        self._bend_(slot, core, core, 1.0)
        total.add_(core, alpha=self.scale)

    def score(self, slot: Slot, core: Tensor) -> Tensor:
        """The score ``∇_a log p(W) = m·H⁻¹a − YᵀYa`` with rows ``Y ~ N(0, H⁻¹)``, which every root and scale share.

        It is a sum over rows: of some rows' core it is their share. Written in ``u``, so that nothing of the slot's
        size is made: ``B a = (1 − c·s)·a``.
        """
        a, u, along, s, c = self._parts(slot, core, self.a(slot).dtype)
        data = (u.T @ along).sub_(a * (c * along.dot(along))) * ((1.0 - c * s) / self.rho)
        return a * (len(u) / (self.rho + s)) - data

    def observe(self, scores: Direction) -> None:
        """Remember the weights ``w_k`` of this step's scores; ``a`` moves when the next step begins."""
        if self.rate:
            self.observed += scores

    def learn(self, slots: Sequence[Slot]) -> None:
        """Move ``a`` of every slot by what was observed, now."""
        if not self.observed:
            return
        changed, total = 0, 0
        for slot in slots:
            if self._plain(slot):
                continue
            a = self.a(slot)
            gradient = torch.zeros_like(a)
            for part in self.parts(slot):
                for key, weight in self.observed.nonzero().items():
                    core = self.base.estimate(slot, Direction.ray(key), part)
                    gradient.add_(self.score(slot, core), alpha=weight)
            if slot.kind == "vector" and self.one_dim == "scalar_shift":
                gradient = gradient.sum().expand_as(a)
            self._a[slot.name] = a * self.keep - gradient * self.rate
            changed += int((self._a[slot.name] != a).sum())
            total += a.numel()
        self.moved = changed / max(1, total)
        self.observed = ZERO

    def _plain(self, slot: Slot) -> bool:
        return slot.kind == "vector" and self.one_dim == "isotropic"

    def _parts(self, slot: Slot, core: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """``a``; ``u`` as rows; ``u a``; ``s = |a|²``; and ``c``, the last two in fp64, on the device."""
        a = self.a(slot).to(dtype)
        u = core.to(dtype).view(-1, a.numel())
        along, s = u @ a, a.double().dot(a.double())
        if self.block == "tiled":
            along, s = along.sum().expand(len(u)), s * len(u)
        small, large = math.sqrt(self.rho), (self.rho + s).sqrt()
        if self.root == "principal":  # (√(ρ+s) − √ρ) / (s√(ρ+s)), in a form that has its limit at s = 0
            return a, u, along, s, 1.0 / (large * (large + small))
        return a, u, along, s, torch.where(s > 0, (large + small) / (s * large), 0.0)

    def state_dict(self) -> dict[str, Tensor | int | float]:
        state: dict[str, Tensor | int | float] = {f"a.{name}": a for name, a in self._a.items()}
        return state | {f"observed.{key}": weight for key, weight in self.observed.items()}

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        items = [(*key.partition(".")[::2], value) for key, value in state.items()]
        self._a = {rest: value for head, rest, value in items if head == "a" and isinstance(value, Tensor)}
        self.observed = Direction({int(rest): float(value) for head, rest, value in items if head == "observed"})

    def state_bytes(self) -> int:
        return sum(a.numel() * a.element_size() for a in self._a.values())
