"""What the contracts look at: what a method measures and applies, what it holds, and whether two runs are the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from zobench.testing.definition import moved
from zobench.zo import Direction, Method
from zobench.zo.closure import batch_of
from zobench.zo.examples import Offsets
from zobench.zo.method import StateDict

#: modules whose objects hold no state of a method
_FOREIGN = ("builtins", "torch", "numpy", "numba", "collections", "functools")

Given = TypeVar("Given", float, list[float])


class Broken(AssertionError):
    """A method that does not keep a contract."""


def estimates_of(method: Method, direction: Direction) -> list[Tensor]:
    """A direction as tensors, one for each slot."""
    return [method.perturbation.estimate(slot, direction) for slot in method.slots]


class Watched:
    """Looks over a method's shoulder: what it measures from now on, and applies once it is asked, as tensors by slot.

    Attributes:
        offsets: at which losses were measured.
        applies: whether it looks at what is applied, too.
        estimates: that were applied, or moved along, in the state in which losses were last measured.
        steps: ``−lr`` times what was applied, and the moves, draw by draw.
    """

    def __init__(self, method: Method):
        oracle = method.oracle
        self.method, self.apply, self.move, self.jvp = method, method.apply, method.move, oracle.jvp
        self.offsets: list[list[Tensor]] = []
        self.applies = False
        self.estimates: list[list[Tensor]] = []
        self.steps: list[list[Tensor]] = []
        self.measuring = method
        oracle.losses = self._watched(oracle.losses)  # type: ignore[method-assign]
        oracle.example_losses = self._watched(oracle.example_losses)  # type: ignore[method-assign]
        self.own_losses, oracle.own_losses = oracle.own_losses, self._own_losses  # type: ignore[method-assign]
        oracle.jvp = self._differentiate  # type: ignore[method-assign]
        method.apply = self._apply  # type: ignore[method-assign]
        method.move = self._move  # type: ignore[method-assign]

    def _watched(self, measure: Callable[[Sequence[Direction]], list[Given]]) -> Callable[..., list[Given]]:
        def watched(offsets: Sequence[Direction]) -> list[Given]:
            self._note(offsets)
            return measure(offsets)

        return watched

    def _own_losses(self, passes: Sequence[Offsets]) -> list[list[float]]:
        examples = range(batch_of(self.method.oracle.closure).size)
        self._note([offsets(place) for offsets in passes for place in examples])
        return self.own_losses(passes)

    def _differentiate(self, direction: Direction) -> float:
        if not self.method.differentiates:
            raise Broken("it asks for a derivative, which not every loss has: set differentiates = True in its class")
        self._note([direction])
        return self.jvp(direction)

    def _note(self, offsets: Sequence[Direction]) -> None:
        self.offsets += [estimates_of(self.method, offset) for offset in offsets]
        if self.applies:
            self.measuring = self.method.twin(self.method.keys)

    def _apply(self, estimate: Direction) -> None:
        self._write(estimate, estimate * -self.method.lr)
        self.apply(estimate)

    def _move(self, way: Direction) -> None:
        self._write(way, way)
        self.move(way)

    def _write(self, measured: Direction, step: Direction) -> None:
        method = self.method
        if not self.applies:
            return
        zeros = [replace(slot, param=torch.zeros_like(slot.param)) for slot in method.slots]
        self.estimates.append(estimates_of(self.measuring, measured))
        self.steps.append([moved(method.perturbation, slot, step) for slot in zeros])


def share_outside(estimate: Tensor, offsets: list[Tensor]) -> float:
    """The share of an estimate's length that lies outside the span of the offsets."""
    size = float(estimate.norm())
    if not offsets or size == 0:
        return float(size > 0)
    span = torch.stack([offset.flatten() for offset in offsets])
    span = span[span.norm(dim=1) > 0]
    basis, lengths, _ = torch.linalg.svd((span / span.norm(dim=1, keepdim=True)).T, full_matrices=False)
    basis = basis[:, lengths > 1e-9 * lengths.max()]
    rest = estimate.flatten() - basis @ (basis.T @ estimate.flatten())
    return float(rest.norm()) / size


def same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor], what: str, hint: str) -> None:
    """Raise Broken where two sets of weights differ by a bit; ``what`` they are, and a hint at the cause."""
    for name, p in one.items():
        if not torch.equal(p, other[name]):
            off = float((p.detach() - other[name].detach()).abs().max())
            raise Broken(f"{what}: {name} differs by up to {off:.1e}, and must not by a bit: {hint}")


def same_state(one: StateDict, other: StateDict, what: str, whose: str) -> None:
    """Raise Broken where two methods' states differ by a bit; ``what`` they are, and ``whose`` the second one is."""
    if one.keys() != other.keys():
        names = ", ".join(sorted(one.keys() ^ other.keys()))
        raise Broken(f"{what}: state_dict() has other keys than {whose}: {names}")
    for key, value in one.items():
        same = torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key]  # type: ignore[arg-type]
        if not same:
            raise Broken(f"{what}: {key} in state_dict() is not that of {whose}, bit for bit")


def tensors_of(thing: Any, seen: set[int]) -> list[Tensor]:
    """All tensors reachable from an object, each once."""
    if id(thing) in seen or isinstance(thing, type):
        return []
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        return [thing]
    if isinstance(thing, Mapping):
        return [x for item in [*thing.keys(), *thing.values()] for x in tensors_of(item, seen)]
    if isinstance(thing, list | tuple | set):
        return [x for item in thing for x in tensors_of(item, seen)]
    module = type(thing).__module__
    if module.split(".")[0] not in _FOREIGN or module.startswith("torch.optim"):
        return (
            [x for item in vars(thing).values() for x in tensors_of(item, seen)] if hasattr(thing, "__dict__") else []
        )
    return []
