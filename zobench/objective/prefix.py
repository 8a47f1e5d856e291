"""Activations below the first trainable layer: computed once per sequence, then reused.

With frozen embeddings and frozen lower layers, the input of the first trainable layer depends on the sequence alone.
The model's own code does all the arithmetic: its list of layers is swapped for the part that is needed, and the input
of the first remaining layer for the cached tensor.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Ids = tuple[int, ...]
Backbone = Callable[[Tensor], Tensor]


def frozen_layers(model: Any) -> int:
    """How many leading layers can be cached: all below the first that trains, never the last one."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    layers = getattr(decoder, "layers", None)
    if decoder is None or not isinstance(layers, nn.ModuleList):
        return 0
    for name, param in decoder.named_parameters():
        # Everything outside the layers that is not a norm may act before them: embeddings, projections.
        if param.requires_grad and not name.startswith("layers.") and "norm" not in name:
            return 0
    for index, layer in enumerate(layers):
        if any(p.requires_grad for p in layer.parameters()):
            return index
    return len(layers) - 1


class Prefix:
    """Runs the model from its first trainable layer on.

    Args:
        backbone: token ids (rows × length) → last hidden states (rows × length × width).
        depth: number of layers that are cached.
        budget_bytes: cached activations stop growing there; what does not fit is computed anew each time.
        batch_rows: sequences per forward when the cache is filled.
    """

    def __init__(self, model: Any, backbone: Backbone, *, depth: int, budget_bytes: int, batch_rows: int = 32):
        self._decoder = model.get_decoder()
        self._backbone = backbone
        self._lower = nn.ModuleList(list(self._decoder.layers)[:depth])
        self._upper = nn.ModuleList(list(self._decoder.layers)[depth:])
        self._budget, self._batch_rows = budget_bytes, batch_rows
        self._cache: dict[Ids, Tensor] = {}
        self.bytes = 0

    def fill(self, sequences: Sequence[Ids], progress: Callable[[int], None] = lambda n: None) -> None:
        """Compute what is missing, longest first so that memory peaks at once."""
        missing = sorted({ids for ids in sequences if ids not in self._cache}, key=len, reverse=True)
        for start in range(0, len(missing), self._batch_rows):
            chunk = missing[start : start + self._batch_rows]
            for ids, hidden in zip(chunk, self._compute(chunk), strict=True):
                size = hidden.numel() * hidden.element_size()
                if self.bytes + size <= self._budget:
                    self._cache[ids] = hidden.clone()
                    self.bytes += size
            progress(len(chunk))

    def hidden(self, sequences: Sequence[Ids], padded: Tensor) -> Tensor:
        """Last hidden states of the sequences, whose right-padded ids are given."""
        fresh = [ids for ids in sequences if ids not in self._cache]
        computed = dict(zip(fresh, self._compute(fresh), strict=True)) if fresh else {}
        first = self._cache[sequences[0]] if sequences[0] in self._cache else computed[sequences[0]]
        entry = first.new_zeros((*padded.shape, first.shape[-1]))
        for i, ids in enumerate(sequences):
            found = self._cache.get(ids)
            entry[i, : len(ids)] = computed[ids] if found is None else found

        def substitute(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            return (entry, *args[1:]), kwargs

        with self._only(self._upper):
            handle = self._upper[0].register_forward_pre_hook(substitute, with_kwargs=True)
            try:
                return self._backbone(padded)
            finally:
                handle.remove()

    def _compute(self, sequences: Sequence[Ids]) -> list[Tensor]:
        """Input of the first trainable layer for each sequence, without its padding."""
        device = next(self._decoder.parameters()).device
        caught: list[Tensor] = []

        def catch(module: nn.Module, args: tuple, output: Any) -> None:
            caught.append(output[0] if isinstance(output, tuple) else output)

        # A first-order method differentiates through the upper layers, which inference tensors do not allow.
        with torch.inference_mode(False), torch.no_grad(), self._only(self._lower):
            handle = self._lower[-1].register_forward_hook(catch)
            try:
                self._backbone(pad_right(sequences, device))
            finally:
                handle.remove()
        return [caught[0][i, : len(ids)] for i, ids in enumerate(sequences)]

    @contextmanager
    def _only(self, layers: nn.ModuleList) -> Iterator[None]:
        whole = self._decoder.layers
        self._decoder.layers = layers
        try:
            yield
        finally:
            self._decoder.layers = whole


def pad_right(sequences: Sequence[Ids], device: torch.device) -> Tensor:
    """Token ids as a rectangle. Under a causal mask, padding on the right is seen by no real token."""
    width = max(len(ids) for ids in sequences)
    return torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in sequences], device=device)
