"""Paths: the ways from requests to logits, from the one that computes least to the model's plain forward pass.

All of them are meant to be one function; ``check.py`` finds out which are, for the model at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zobench.objective.cuts import AttentionCut, LastAttention
from zobench.objective.heads import Head, NoHead, OwnHead, WeightHead
from zobench.objective.layers import Backbone, Layers, device_of
from zobench.objective.packing import Packing, packed_attention
from zobench.objective.prefix import Prefix
from zobench.objective.rows import Layout, Run, Tail, TokenRows, in_parts
from zobench.objective.shelf import Shelf
from zobench.objective.virtual_tokens import attention_configs


@dataclass(frozen=True)
class Path:
    """One way to the logits at the requested positions.

    Attributes:
        place: what of the model runs, in words.
        run: what the head is given (positions × features), all requests' positions one after another.
        head: what follows.
        prefix: the cache of what is not run anew; None without one.
        packing: how sequences of unlike length lie in one row; None where they do not.
        pads: whether those of unlike length are padded, so that parts by length save work.
    """

    place: str
    run: Run
    head: Head
    prefix: Prefix | None = None
    packing: Packing | None = None
    pads: bool = True

    def rows(self, tail: Tail) -> int:
        """How many positions run anew for a request, of those that the first function after the cut is given."""
        return self.prefix.rows(tail) if self.prefix else len(tail.ids)

    @property
    def packed(self) -> bool:
        """Whether sequences of unlike length lie in one row."""
        return self.packing is not None

    @property
    def name(self) -> str:
        """Place and head in words, as a row has them."""
        return ", ".join(part for part in (self.place, self.head.name) if part)


def paths(model: Any, *, cache_gib: float, shelf: Shelf | None, trim: bool, pack: bool) -> list[Path]:
    """All paths of a model, the fastest first; those that pack sequences before those that pad them.

    Args:
        model: a causal language model of transformers, its trainable parameters marked.
        cache_gib: memory for activations of frozen lower layers; 0 for no cache.
        shelf: where these are kept for other runs.
        trim: whether what follows the last attention may run at the requested positions alone.
        pack: whether sequences may be packed.
    """
    backbone = partial(_hidden_states, model, attention_configs(model))
    layers = Layers.of(model, backbone)
    packing = Packing.of(model, backbone) if pack else None
    short, own = WeightHead(model), OwnHead(model)
    found: list[Path] = []
    for chosen in (packing, None) if packing else (None,):
        lay, packed = chosen or TokenRows.padded, chosen is not None
        bodies: list[tuple[str, Run, Prefix | None, bool]] = []  # the last: whether it pads
        if layers and cache_gib > 0:
            for cut in Prefix.cuts(layers, backbone, lay):
                prefix = Prefix(model, cut, budget_bytes=int(cache_gib * 2**30), shelf=shelf)
                bodies.append((prefix.place, prefix.hidden, prefix, not packed and not isinstance(cut, AttentionCut)))
        if layers and trim and LastAttention.fits(layers, backbone):
            bodies.append(("trimmed", partial(_in_two, LastAttention(layers, backbone, lay)), None, not packed))
        bodies.append((WHOLE, partial(_all_positions, backbone, lay, device_of(model)), None, not packed))
        for place, run, cache, pads in bodies:
            found += [Path(place, run, head, cache, chosen, pads) for head in (short, own)]
    every = partial(_all_positions, partial(_logits, model), TokenRows.padded, device_of(model))
    alone = partial(_one_by_one, every)
    return [*found, Path(LOGITS, every, NoHead()), Path(ALONE, alone, NoHead(), pads=False)]


#: the model without its head, at all positions
WHOLE = "whole"
#: the model's forward pass, examples padded to one length
LOGITS = "all logits"
#: the simplest path: the model's forward pass of each sequence, nothing else
ALONE = "all logits, one sequence at a time"


def _hidden_states(model: Any, configs: Sequence[Any], ids: Tensor, rows: TokenRows | None = None) -> Tensor:
    if rows is None:
        return model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    with packed_attention(configs, rows):
        return model.base_model(input_ids=ids, position_ids=rows.positions, use_cache=False).last_hidden_state


def _logits(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits


def _in_two(cut: LastAttention, tails: Sequence[Tail], copies: int = 1) -> Tensor:
    tails = [*tails] * copies
    return cut.above(cut.below(tails, copies), tails, copies)


def _all_positions(
    backbone: Backbone, lay: Layout, device: torch.device, tails: Sequence[Tail], copies: int = 1
) -> Tensor:
    tails = [*tails] * copies
    rows = lay([tail.ids for tail in tails], device, copies)
    return rows.select(rows.run(backbone), tails)


def _one_by_one(run: Run, tails: Sequence[Tail], copies: int = 1) -> Tensor:
    return in_parts(run, tails, [[i] for i in range(len(tails))], copies)
