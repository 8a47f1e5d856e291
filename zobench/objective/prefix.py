"""Activations below the first trainable parameter: computed once per sequence, then reused.

With frozen embeddings and frozen lower layers, what enters the first trainable layer depends on the sequence alone. The
vocabulary is that of ``cuts.py``: the model is cut in two, and a tail is a request for the last hidden states of a
sequence.
"""

import re
import time
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from zobench.objective.cuts import AttentionCut, Cut, LayerCut
from zobench.objective.layers import Backbone, Layers
from zobench.objective.packing import ROW, Packing
from zobench.objective.rows import Layout, Tail, TokenRows
from zobench.objective.shelf import Shelf, digest_of_frozen

#: matches the name of the norm that follows the layers: in most families; in GPT-2, Falcon and Bloom
FINAL_NORM = re.compile(r"^(?!.*embed).*norm|^ln_f\b")


def frozen_layers(layers: Layers) -> int:
    """How many leading layers can be cached: all below the first that trains, never the last one.

    Returns:
        0 where something trains ahead of the layers.
    """
    for name, param in layers.decoder.named_parameters():
        # Everything outside the layers that is not a norm may act before them: embeddings, projections.
        outside = not name.startswith(f"{layers.name}.") and not FINAL_NORM.search(name)
        if param.requires_grad and outside:
            return 0
    for index, layer in enumerate(layers.list):
        if any(p.requires_grad for p in layer.parameters()):
            return index
    return len(layers.list) - 1


class Prefix:
    """Runs the model from a cut on, with the outputs of the frozen part below it in a cache.

    Args:
        model: a causal language model with its trainable parameters marked.
        cut: where it is cut; nothing below trains.
        budget_bytes: cached activations stop growing there; what does not fit is computed anew each time.
        batch_rows: sequences per forward when the cache is filled.
        shelf: where filled caches are kept for other runs; None for nowhere.

    Attributes:
        bytes: size of the cache.
    """

    def __init__(self, model: Any, cut: Cut, *, budget_bytes: int, batch_rows: int = 32, shelf: Shelf | None = None):
        self._cut = cut
        self._model, self._shelf, self._device = model, shelf, next(model.parameters()).device
        self._budget, self._batch_rows = budget_bytes, batch_rows
        self._cache: dict[Hashable, Tensor] = {}
        self.bytes = 0

    @staticmethod
    def cuts(layers: Layers, backbone: Backbone, lay: Layout = TokenRows.padded) -> list[Cut]:
        """The cuts below which nothing trains, the highest first; none where something trains ahead of the layers.

        Args:
            lay: how sequences are laid out.
        """
        depth = frozen_layers(layers)
        if not depth:
            return []
        attention_too = depth == len(layers.list) - 1 and AttentionCut.fits(layers, backbone)
        highest = [AttentionCut(layers, backbone, lay)] if attention_too else []
        return [*highest, LayerCut(layers, backbone, depth, lay)]

    @property
    def _kind(self) -> str:
        """What the shelf knows the cut by: how sequences lie decides how sums are rounded."""
        return type(self._cut).__name__ + (f" packed {ROW}" if isinstance(self._cut.lay, Packing) else "")

    @property
    def complaints(self) -> list[str]:
        """A line for each file of the shelf that was damaged and computed again."""
        return self._shelf.complaints if self._shelf else []

    @property
    def place(self) -> str:
        """Where the model is cut, in words."""
        return self._cut.place

    def rows(self, tail: Tail) -> int:
        """How many positions of a request run through what lies above the cut."""
        return self._cut.rows(tail)

    def fill(self, tails: Sequence[Tail], progress: Callable[[int], None] = lambda n: None) -> None:
        """Fill the cache for these requests, from the shelf or by forward passes through the frozen part.

        What is filled together lies on the shelf together, so that a test set is found there whatever was trained.

        Args:
            progress: called with the number of sequences that were just done.
        """
        ordered = self._ordered(tails)
        if not any(self._cut.key(tail) not in self._cache for tail in ordered):
            return
        name = self._name(self._shelf, ordered) if self._shelf else ""
        entries = self._shelf.load(name, len(ordered)) if self._shelf else None
        if entries is not None:
            self._cache_entries(ordered, entries)
            progress(len(ordered))
            return
        begun, complete = time.monotonic(), True
        for start in range(0, len(ordered), self._batch_rows):
            chunk = ordered[start : start + self._batch_rows]
            complete &= self._cache_entries(chunk, self._below(chunk))
            progress(len(chunk))
        if self._shelf and complete and time.monotonic() - begun > self._shelf.worth_seconds:
            self._shelf.store(name, [self._cache[self._cut.key(tail)] for tail in ordered])

    def is_kept(self, tails: Sequence[Tail]) -> bool:
        """Whether the shelf has what these requests ask for, as they are filled together."""
        if self._shelf is None:
            return False
        return self._shelf.has(self._name(self._shelf, self._ordered(tails)))

    def _name(self, shelf: Shelf, ordered: Sequence[Tail]) -> str:
        return shelf.name(self._model, self._frozen, self._kind, self._batch_rows, ordered)

    @cached_property
    def _frozen(self) -> bytes:
        return digest_of_frozen(self._model)

    def _ordered(self, tails: Sequence[Tail]) -> list[Tail]:
        """Each once, the longest first: where memory does not suffice, it fails at once."""
        distinct = {self._cut.key(tail): tail for tail in tails}
        return sorted(distinct.values(), key=lambda tail: (-len(tail.ids), tail))

    def hold(self, tails: Sequence[Tail]) -> None:
        """Cache these requests for a while, whatever lies on the shelf, until ``forget``."""
        self._cache_entries(tails, self._below(tails))

    def forget(self) -> None:
        """Empty the cache."""
        self._cache, self.bytes = {}, 0

    def hidden(self, tails: Sequence[Tail], copies: int = 1) -> Tensor:
        """A ``Run``: last hidden states at the requested positions (positions × width).

        What the cache lacks is computed, once for all copies, and not kept.
        """
        tails = [*tails] * copies
        fresh = {self._cut.key(tail): tail for tail in tails if self._cut.key(tail) not in self._cache}
        computed = dict(zip(fresh, self._below(list(fresh.values())), strict=True)) if fresh else {}
        keys = [self._cut.key(tail) for tail in tails]
        return self._cut.above([computed[k] if k in computed else self._cache[k] for k in keys], tails, copies)

    def anew(self, tails: Sequence[Tail]) -> Tensor:
        """Last hidden states as ``hidden`` gives them, with nothing from the cache, and in one pass."""
        return self._cut.above(self._below(tails, [range(len(tails))]), tails)

    def _below(self, tails: Sequence[Tail], parts: Sequence[Sequence[int]] | None = None) -> list[Tensor]:
        """The entry of each request, from a pass for each part of them; in parts as the layout has them if None."""
        if parts is None:
            lay, lengths = self._cut.lay, [len(tail.ids) for tail in tails]
            parts = lay.parts(lengths, self._device) if isinstance(lay, Packing) else [range(len(tails))]
        # A first-order method differentiates through the upper part, which inference tensors do not allow.
        with torch.inference_mode(False), torch.no_grad():
            passes = [(part, self._cut.below([tails[i] for i in part])) for part in parts]
        found = {i: entry for part, entries in passes for i, entry in zip(part, entries, strict=True)}
        return [found[i] for i in range(len(tails))]

    def _cache_entries(self, tails: Sequence[Tail], entries: Sequence[Tensor]) -> bool:
        """Cache what the budget allows; whether all of it fit."""
        complete = True
        for tail, entry in zip(tails, entries, strict=True):
            key, size = self._cut.key(tail), entry.numel() * entry.element_size()
            if key in self._cache:
                continue
            if self.bytes + size <= self._budget:
                self._cache[key] = entry.to(self._device, copy=True)
                self.bytes += size
            else:
                complete = False
        return complete
