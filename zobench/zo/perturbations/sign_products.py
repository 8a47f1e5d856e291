"""Directions that share their sizes and differ in signs, ``u(key) = U ∘ (r sᵀ)``: many cost little more than one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zobench.zo import noise
from zobench.zo.direction import Direction
from zobench.zo.example_path import Rowwise
from zobench.zo.perturbation import Perturbation
from zobench.zo.side import NotStackable
from zobench.zo.slot import Rows, Slot, pick, sum_dtype


class SignProducts(Perturbation, Rowwise):
    """``u(key) = U ∘ (r sᵀ)``: U normal, the same for all keys of a step; r and s random signs, of each key.

    As in flipout (arXiv:1803.04386). Each ``u(key)`` alone is normal, and those of two keys are uncorrelated. A tensor
    is seen as its axis 0 times the rest; a vector is one column, whose s is one sign. A weighted sum of directions is
    ``U ∘ (Rᵀ diag(w) S)``, one product of sign matrices.

    State: none between steps; within one, the signs of the last keys, m + n numbers for each.

    Example:
        >>> from zobench.zo import make_slots
        >>> slot = make_slots([("w", torch.zeros(3, 2))])[0]
        >>> space = SignProducts()
        >>> space.renew(key=3)
        >>> u, v = (space.estimate(slot, Direction.ray(key)) for key in (7, 8))
        >>> u.abs().equal(v.abs()), u.equal(v), int(torch.linalg.matrix_rank((u * v).sign()))
        (True, False, 1)
    """

    def __init__(self) -> None:
        self.shared = 0
        self._held: dict[str, tuple[tuple[int, ...], Tensor]] = {}

    def renew(self, key: int) -> None:
        """Draw U from another key, before the first draw of a step."""
        self.shared = key

    def begin(self, step: int, slots: Sequence[Slot]) -> None:
        self._held = {}

    def after(self, step: int, slots: Sequence[Slot]) -> None:
        self._held = {}

    def signs(self, slot: Slot, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The signs r and s of some keys, as rows: keys × m and keys × n, fp32."""
        m, n = sides(slot)
        asked = tuple(keys)
        held = self._held.get(slot.name)
        if held is None or held[0] != asked:
            made = torch.stack([self.drawn(slot, key) for key in keys])
            self._held[slot.name] = held = asked, made
        r, s = held[1].split((m, n), dim=1)
        return r, s

    def drawn(self, slot: Slot, key: int) -> Tensor:
        """The signs of one key, r and then s."""
        return noise.draw(key, slot.id, torch.Size([sum(sides(slot))]), slot.param.device, "sign")

    def sizes(self, slot: Slot, rows: Rows = None) -> Tensor:
        """U, or some rows of it, as a matrix in fp32."""
        m, n = sides(slot)
        if rows is None:
            return noise.gaussian(self.shared, slot.id, torch.Size([m, n]), slot.param.device)
        shape = pick(slot.param.view(m, n), rows).shape
        out = torch.zeros(shape, device=slot.param.device)
        noise.add_rows_(out, slot.id, {self.shared: 1.0}, rows)
        return out

    def draw(self, slot: Slot, key: int) -> Tensor:
        r, s = self.signs(slot, [key])
        return (self.sizes(slot) * (r.T * s)).view(slot.param.shape)

    def add_(self, slot: Slot, core: Tensor, out: Tensor, scale: float) -> None:
        out.add_(core.to(out.dtype), alpha=scale)

    def dense(self, slot: Slot) -> bool:
        return True

    def splits(self, slot: Slot) -> bool:
        return slot.param.ndim > 0

    def accumulate_(self, slot: Slot, direction: Direction, total: Tensor, rows: Rows = None) -> None:
        direction = direction.nonzero()
        if not direction:
            return
        r, s = self.signs(slot, list(direction))
        weights = torch.tensor(list(direction.values()), dtype=total.dtype, device=total.device)
        r = (r if rows is None else r[:, rows]).to(total.dtype)
        signs = (r.T * weights) @ s.to(total.dtype)
        total.view(signs.shape).addcmul_(self.sizes(slot, rows).to(total.dtype), signs)

    def products(
        self, slot: Slot, x: Tensor, directions: Sequence[Direction], whose: Tensor, transposed: bool
    ) -> Tensor:
        """``r ∘ ((x ∘ s) Uᵀ)`` of each row: one product with U for all."""
        keys, scale, weights = _single(directions)
        r, s = self.signs(slot, keys)
        into, out = (r, s) if transposed else (s, r)
        U = self.sizes(slot).to(x.dtype)
        found = (x * into.to(x.dtype)[whose]) @ (U if transposed else U.T)
        return found.mul_((out * weights.to(out.device)).to(x.dtype)[whose]).mul_(scale)

    def looked_up(self, slot: Slot, ids: Tensor, directions: Sequence[Direction], whose: Tensor) -> Tensor:
        keys, scale, weights = _single(directions)
        r, s = self.signs(slot, keys)
        asked, places = (ids % len(slot.param)).unique(return_inverse=True)
        rows = self.sizes(slot, asked)[places] * s[whose]
        rows.mul_((r * weights.to(r.device))[whose, ids % len(slot.param)][:, None])
        return rows.to(sum_dtype(slot.param)).mul_(scale)

    def vectors(self, slot: Slot, directions: Sequence[Direction]) -> Tensor:
        keys, scale, weights = _single(directions)
        r, s = self.signs(slot, keys)
        found = self.sizes(slot).view(1, -1) * (r * s * weights.to(r.device))
        return found.to(sum_dtype(slot.param)).mul_(scale)


def _single(directions: Sequence[Direction]) -> tuple[list[int], float, Tensor]:
    """The key of each direction, the largest weight, and each weight over it, in a column."""
    if any(len(direction) != 1 for direction in directions):
        raise NotStackable("directions of several keys")
    scale = max(abs(weight) for direction in directions for weight in direction.values())
    return (
        [key for direction in directions for key in direction],
        scale,
        torch.tensor([[weight / scale] for direction in directions for weight in direction.values()]),
    )


def sides(slot: Slot) -> tuple[int, int]:
    """A tensor's numbers as m rows of n."""
    m = len(slot.param) if slot.param.ndim else 1
    return m, slot.param.numel() // max(1, m)
