"""Paths: the ways from requests to logits, from the one that computes least to the model's plain forward pass.

All of them are meant to be one function; ``check.py`` finds out which are, for the model at hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zobench.objective.cuts import LastAttention, Tail, pad_right, select_positions, tokens_of
from zobench.objective.heads import Head, NoHead, OwnHead, WeightHead
from zobench.objective.layers import Layers, device_of
from zobench.objective.prefix import Prefix
from zobench.objective.shelf import Shelf


@dataclass(frozen=True)
class Path:
    """One way to the logits at the requested positions.

    Attributes:
        place: what of the model runs, in words.
        run: what the head is given (positions × features), all requests' positions one after another.
        head: what follows.
        prefix: the cache of what is not run anew; None without one.
    """

    place: str
    run: Callable[[Sequence[Tail]], Tensor]
    head: Head
    prefix: Prefix | None = None

    @property
    def name(self) -> str:
        """Place and head in words, as a row has them."""
        return ", ".join(part for part in (self.place, self.head.name) if part)


def paths(model: Any, *, cache_gib: float, shelf: Shelf | None, trim: bool) -> list[Path]:
    """All paths of a model, the fastest first.

    Args:
        model: a causal language model of transformers, its trainable parameters marked.
        cache_gib: memory for activations of frozen lower layers; 0 for no cache.
        shelf: where these are kept for other runs.
        trim: whether what follows the last attention may run at the requested positions alone.
    """
    backbone = partial(_hidden_states, model)
    layers = Layers.of(model, backbone)
    bodies: list[tuple[str, Callable[[Sequence[Tail]], Tensor], Prefix | None]] = []
    if layers and cache_gib > 0:
        for cut in Prefix.cuts(layers, backbone):
            prefix = Prefix(model, cut, budget_bytes=int(cache_gib * 2**30), shelf=shelf)
            bodies.append((prefix.place, prefix.hidden, prefix))
    if layers and trim and LastAttention.fits(layers, backbone):
        cut = LastAttention(layers, backbone)
        bodies.append(("trimmed", partial(_in_two, cut), None))
    bodies.append((WHOLE, partial(_all_positions, backbone, device_of(model)), None))
    short, own = WeightHead(model), OwnHead(model)
    found = [Path(place, run, head, prefix) for place, run, prefix in bodies for head in (short, own)]
    every = partial(_all_positions, partial(_logits, model), device_of(model))
    return [*found, Path(LOGITS, every, NoHead()), Path(ALONE, partial(_one_by_one, every), NoHead())]


#: the model without its head, at all positions
WHOLE = "whole"
#: the model's forward pass, examples padded to one length
LOGITS = "all logits"
#: the simplest path: the model's forward pass of each sequence, nothing else
ALONE = "all logits, one sequence at a time"


def _hidden_states(model: Any, ids: Tensor) -> Tensor:
    return model.base_model(input_ids=ids, use_cache=False).last_hidden_state


def _logits(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits


def _in_two(cut: LastAttention, tails: Sequence[Tail]) -> Tensor:
    return cut.above(cut.below(tails), tails)


def _all_positions(run: Callable[[Tensor], Tensor], device: torch.device, tails: Sequence[Tail]) -> Tensor:
    with tokens_of(tails):
        hidden = run(pad_right([tail.ids for tail in tails], device))
    return select_positions(hidden, tails)


def _one_by_one(run: Callable[[Sequence[Tail]], Tensor], tails: Sequence[Tail]) -> Tensor:
    return torch.cat([run([tail]) for tail in tails])
