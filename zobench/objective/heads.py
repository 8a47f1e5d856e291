"""Heads: from last hidden states to logits, by the head's weight alone or by the model's own code.

Most families multiply by a weight and do no more. Others add a bias, scale, divide or cap; they have their own code for
it, which is asked for where the short way gives something else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Head(Protocol):
    """What follows the last hidden states."""

    #: how it is computed, in words, where that is not the short way
    name: str

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (positions × width) → logits (positions × vocabulary), fp32."""

    def chosen(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """The logits of some ids at each position (positions × ids), fp32; maybe short of what all ids share.

        Args:
            ids: positions × ids.
        """


class WeightHead(Head):
    """A product with the weight of the output embeddings."""

    name = ""

    def __init__(self, model: Any):
        self._model = model

    @property
    def _weight(self) -> Tensor:
        return self._model.get_output_embeddings().weight

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self._weight).float()

    def chosen(self, hidden: Tensor, ids: Tensor) -> Tensor:
        rows = self._weight[ids].float()
        return torch.einsum("eh,eoh->eo", hidden.float(), rows)


class _Known(Head):
    """The base of heads that compute all logits at once."""

    def chosen(self, hidden: Tensor, ids: Tensor) -> Tensor:
        return self.logits(hidden).gather(-1, ids)


class OwnHead(_Known):
    """What the model's own code does with last hidden states: bias, scale, divisor, cap, whatever it is.

    The model is run with a base model that answers at once with the hidden states that are given.
    """

    name = "the model's own head"

    def __init__(self, model: Any):
        self._model = model

    def logits(self, hidden: Tensor) -> Tensor:
        model = self._model
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        bodies = [model.base_model, *([model.get_decoder()] if hasattr(model, "get_decoder") else [])]
        with _answering(bodies, _Answer(hidden[None])):
            return model(input_ids=ids, use_cache=False).logits[0].float()


class NoHead(_Known):
    """Where the whole model has run, and gave logits."""

    name = ""

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden.float()


class _Answer:
    """The output of a base model that holds last hidden states and nothing else."""

    def __init__(self, hidden: Tensor):
        self.last_hidden_state = hidden

    def __getitem__(self, place: Any) -> Any:
        return (self.last_hidden_state,)[place]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _answering(bodies: list[nn.Module], answer: _Answer) -> Iterator[None]:
    """A context in which these modules give the answer, whatever they are called with."""
    before = [(body, body.__dict__.get("forward")) for body in bodies]
    for body, _ in before:
        body.__dict__["forward"] = lambda *args, **kwargs: answer
    try:
        yield
    finally:
        for body, forward in reversed(before):
            if forward is None:
                body.__dict__.pop("forward", None)
            else:
                body.__dict__["forward"] = forward
