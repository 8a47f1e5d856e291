"""Gaussian directions whose rows share a precision of rank one above the identity, ``ρI + aaᵀ``, with ``a`` learned."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.checks import not_negative, one_of, positive
from zobench.zo.direction import ZERO, Direction
from zobench.zo.independent import Gaussian
from zobench.zo.keys import mix, tag
from zobench.zo.perturbation import Perturbation
from zobench.zo.perturbations.score_sums import ScoreSums
from zobench.zo.scratch import scratch
from zobench.zo.slot import Rows, Slot, pick, sum_dtype

Scalar = float | Tensor
#: numbers up to which torch's dot product does not hang on its number of threads
SMALL = 1 << 12


class RankOnePrecision(Perturbation):
    """Directions ``W = u B`` of ``u ~ N(0, I)``: rows are ``N(0, ρH⁻¹)``, independent, with ``H = ρI + aaᵀ``.

    ``B = I − c·aaᵀ`` is a square root of ``ρH⁻¹``; a draw costs one product ``u a`` and one outer product.
    A slot is seen as m rows of n entries: axis 0 against the flattened rest; a vector is one row. ``a`` (n entries,
    fp32; fp64 for fp64 weights) is the only state, with as many sums of scores between steps. It starts as N(0, I), a
    function of (seed, slot), and moves in ``begin`` by what ``observe`` was given, so that a step can be replayed after
    it is done.

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
        self._roots: dict[str, tuple[float, float]] = {}
        self._sums = ScoreSums()

    def a(self, slot: Slot) -> Tensor:
        """The learned vector of a slot."""
        param, held = slot.param, self._a.get(slot.name)
        if held is None:
            n = param.numel() // param.shape[0] if param.ndim > 1 else param.numel()
            held = noise.gaussian(mix(self.seed, tag("rank_one")), slot.id, torch.Size([n]), param.device)
        if (there := held.to(param.device, sum_dtype(param))) is not self._a.get(slot.name):
            self._set(slot, there)
        return there

    def _set(self, slot: Slot, a: Tensor) -> None:
        self._a[slot.name] = a
        self._roots.pop(slot.name, None)

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        self.learn(slots)
        for slot in slots:
            if not self._plain(slot):
                self._root(slot)

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

    def shares(self, slot: Slot) -> bool:
        # A dot product of more numbers hangs on torch's number of threads.
        if slot.param.device.type != "cpu" or slot.param.ndim == 0:
            return False
        if not self.splits(slot):
            return slot.param.numel() <= SMALL
        rows = len(slot.param)
        return self._plain(slot) or min(rows, noise.block(slot.param.device) * rows // slot.param.numel()) <= SMALL

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        """The draws are summed and lifted once."""
        if not direction or not self.splits(slot):
            super().accumulate_(slot, direction, total, rows)
            return
        core = scratch("core", total, total.dtype).zero_()
        self.base.accumulate_(slot, direction, core, rows)
        self._bend_(slot, core, core, 1.0)
        total.add_(core, alpha=self.scale)

    def score(self, slot: Slot, core: Tensor) -> Tensor:
        """The score ``∇_a log p(W) = m·H⁻¹a − YᵀYa`` with rows ``Y ~ N(0, H⁻¹)``, which every root and scale share.

        It is a sum over rows: of some rows' core it is their share. Written in ``u``, so that nothing of the slot's
        size is made: ``B a = (1 − c·s)·a``.
        """
        a, u, along, s, c = self._parts(slot, core, self.a(slot).dtype)
        data = (u.T @ along).sub_(a * (c * along.dot(along).double())) * ((1.0 - c * s) / self.rho)
        return a * (len(u) / (self.rho + s)) - data

    def observe(self, scores: Direction, *, ahead: bool = False) -> None:
        """Remember the weights ``w_k`` of this step's scores; ``a`` moves when the next step begins.

        Args:
            ahead: these are all scores of the step and it is still to be taken: it sums them as its draws are at hand.
        """
        if self.rate:
            self.observed += scores
            self._sums = ScoreSums(open=ahead)

    def stepped(self, slot: Slot, rows: Rows) -> None:
        if self._sums.open and not self._plain(slot):
            self._sum(self._sums, slot, rows)

    def learn(self, slots: Sequence[Slot]) -> None:
        """Move ``a`` of every slot by what was observed, now."""
        if not self.observed:
            return
        slots = [slot for slot in slots if not self._plain(slot)]
        sums, self._sums = self._sums, ScoreSums()
        self.over_parts([slot for slot in slots if slot.name not in sums.total], partial(self._sum, sums))
        changed, total = 0, 0
        for slot in slots:
            a, gradient = self.a(slot), sums.total[slot.name]
            if slot.kind == "vector" and self.one_dim == "scalar_shift":
                gradient = gradient.sum().expand_as(a)
            self._set(slot, a * self.keep - gradient * self.rate)
            changed += int((self._a[slot.name] != a).sum())
            total += a.numel()
            self._root(slot)
        self.moved = changed / max(1, total)
        self.observed = ZERO

    def _sum(self, sums: ScoreSums, slot: Slot, rows: Rows) -> None:
        """Add the scores of a part for each observed draw."""
        terms = self.observed.nonzero()
        memory = scratch("core", pick(slot.param, rows), sum_dtype(slot.param))
        cores = (self.base.estimate(slot, Direction.ray(key), rows, memory) for key in terms)
        scores = [self.score(slot, core) for core in cores]
        sums.add(slot.name, rows, scores, list(terms.values()), torch.zeros_like(self.a(slot)))

    def _plain(self, slot: Slot) -> bool:
        return slot.kind == "vector" and self.one_dim == "isotropic"

    def _parts(self, slot: Slot, core: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Scalar, Scalar]:
        """``a``; ``u`` as rows; ``u a``; ``s = |a|²``; and ``c``."""
        a, (s, c) = self.a(slot).to(dtype), self._root(slot)
        u = core.to(dtype).view(-1, a.numel())
        along = u @ a
        return a, u, along.sum().expand(len(u)) if self.block == "tiled" else along, s, c

    def _root(self, slot: Slot) -> tuple[Scalar, Scalar]:
        """``s = |a|²`` and ``c``, in fp64: once for each ``a`` on a CPU; elsewhere on the device, where none waits."""
        if slot.name in self._roots:
            return self._roots[slot.name]
        a = self.a(slot).double()
        s = a.dot(a) * (slot.param.numel() // a.numel() if self.block == "tiled" else 1)
        small, large = math.sqrt(self.rho), (self.rho + s).sqrt()
        if self.root == "principal":  # (√(ρ+s) − √ρ) / (s√(ρ+s)), in a form that has its limit at s = 0
            c = 1.0 / (large * (large + small))
        else:
            c = torch.where(s > 0, (large + small) / (s * large), 0.0)
        if a.device.type != "cpu":
            return s, c
        self._roots[slot.name] = float(s), float(c)
        return self._roots[slot.name]

    def state_dict(self) -> dict[str, Tensor | int | float]:
        state: dict[str, Tensor | int | float] = {f"a.{name}": a for name, a in self._a.items()}
        return state | {f"observed.{key}": weight for key, weight in self.observed.items()}

    def load_state_dict(self, state: dict[str, Tensor | int | float]) -> None:
        items = [(*key.partition(".")[::2], value) for key, value in state.items()]
        self._a = {rest: value for head, rest, value in items if head == "a" and isinstance(value, Tensor)}
        self.observed = Direction({int(rest): float(value) for head, rest, value in items if head == "observed"})
        self._roots, self._sums = {}, ScoreSums()

    def state_bytes(self) -> int:
        return sum(a.numel() * a.element_size() for a in self._a.values()) + self._sums.state_bytes()
