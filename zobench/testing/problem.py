"""The problem on which the contracts are tested: small, and with every kind of trainable tensor."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache

import torch
from torch import Tensor

from zobench.zo import Method, owners

BATCHES, SIZE = 50, 16


@cache
def _drawn() -> tuple[dict[str, Tensor], Tensor]:
    """The weights at first, and the inputs of all batches."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        "embed.weight": torch.randn(6, 8, generator=generator),
        "layer.weight": torch.randn(8, 5, generator=generator) / 3,
        "layer.bias": torch.zeros(5),
        "head.weight": torch.randn(5, 1, generator=generator) / 3,
    }
    return weights, torch.randint(0, 6, (BATCHES, SIZE), generator=generator)


@cache  # so that few operations are left in a loss
@torch.inference_mode(False)
def _batch(number: int, copies: int, start: int | None, stop: int | None, device: str) -> tuple[Tensor, Tensor]:
    ids = _drawn()[1][number, start:stop].repeat(copies)
    return ids.to(device), torch.sin(ids.float()).to(device)


class Problem:
    """A regression with matrices, an embedding and vectors; ``loss(step)`` is its loss on that step's batch.

    Torch's functions are given the weights themselves, so that directions of low rank are seen in the activations, at
    several offsets in one forward pass where all of them are.

    Args:
        dtype: of the weights and the activations; the loss is in fp32 or better.
        device: of the weights and the data.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, device: str = "cpu"):
        self.parameters = {name: p.to(device, dtype, copy=True) for name, p in _drawn()[0].items()}
        self.device = device

    def batch(self, step: int, copies: int = 1, only: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The inputs and the targets of a step's batch, or of some of its examples, repeated so many times."""
        return _batch(step % BATCHES, copies, only.start, only.stop, self.device)

    def loss(self, step: int) -> Tensor:
        """The mean squared error on a step's batch."""
        return self.errors(step).mean()

    def errors(self, step: int, copies: int = 1, only: slice = slice(None)) -> Tensor:
        """The squared error of each example of a step's batch, or of some, which is repeated so many times."""
        p, (ids, targets) = self.parameters, self.batch(step, copies, only)
        hidden = torch.tanh(p["embed.weight"][ids] @ p["layer.weight"] + p["layer.bias"])
        return ((hidden @ p["head.weight"])[:, 0] - targets).square()  # targets are in fp32

    def further(self, step: int, first: int, count: int) -> Callable[[], Tensor]:
        """The mean loss of a step's further batches."""
        numbers = range(step + 1 + first, step + 1 + first + count)
        return lambda: torch.stack([self.loss(number) for number in numbers]).mean()

    def mean_loss(self) -> float:
        """The loss over all batches."""
        return float(torch.stack([self.loss(step).detach() for step in range(BATCHES)]).mean())

    def copy(self) -> dict[str, Tensor]:
        """The weights as they are now."""
        return {name: p.detach().clone() for name, p in self.parameters.items()}

    def train(self, method: Method, steps: int) -> None:
        """Take so many steps with a method that was made for these weights, if it takes any."""
        method.oracle.further = lambda first, count: self.further(method.t, first, count)
        for _ in range(steps if method.trains else 0):
            method.step(StepLoss(self, method.t))


class StepLoss:
    """The loss of a step's batch as a closure that gives the losses of its examples, too (``BatchLoss``).

    Args:
        problem: whose loss it is.
        step: of which the batch is.
        change: what becomes of the losses, if not what they are.
    """

    stacks = True
    #: so many that in place the head moves in fp32, and is seen by its factors in half precision, as all others are
    rows = 12

    def __init__(self, problem: Problem, step: int, change: Callable[[Tensor], Tensor] = lambda losses: losses):
        self.problem, self.step, self.change = problem, step, change
        self.load = self.size = SIZE

    def __call__(self) -> Tensor:
        """The mean loss."""
        return self.change(self.problem.loss(self.step))

    def losses(self, copies: int = 1, examples: bool = False) -> Tensor:
        """The mean loss of each copy of the batch, or the losses of its examples."""
        with owners.sequences(range(self.size), [1] * self.size):
            found = self.problem.errors(self.step, copies).view(copies, self.size)
        return self.change(found if examples else found.mean(-1))

    def each(self, within: Callable[[int], AbstractContextManager[object]]) -> Tensor:
        """The losses of the examples, each from a run of its own."""
        found = []
        for place in range(self.size):
            with within(place):
                found.append(self.problem.errors(self.step, only=slice(place, place + 1))[0])
        return self.change(torch.stack(found)[None])[0]
