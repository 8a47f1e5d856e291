"""Cuts: a model in two parts, so that a forward pass need not run all of it at all positions.

A *cut* is a place in the model. What lies below it is run once per sequence if nothing of it trains; what lies above it
is run in every forward pass, but maybe at a few positions alone. A *tail* is what is asked of a sequence: the last
hidden states at its last positions. What the lower part hands to the upper part for one tail is its *entry*.

The model's own code does all the arithmetic: layers that are not needed are swapped for stand-ins that hand on what
they get, and the entry is put in where the upper part begins. Every layer keeps its place in the list, by which a
decoder chooses its mask and its rotary embedding. It works for decoders that call the layers of a list one
after another, as in transformers 5.
"""

import contextlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zobench.objective.layers import Backbone, Layers, Stop, device_of
from zobench.objective.rows import Layout, Tail, TokenRows


class Cut(Protocol):
    """A place in a model, and how the parts below and above it are run."""

    #: where the model is cut, in words: what runs anew in each forward pass
    place: str
    #: how sequences are laid out
    lay: Layout

    def key(self, tail: Tail) -> Hashable:
        """What the entry of a request depends on: requests with equal keys share one entry."""

    def rows(self, tail: Tail) -> int:
        """How many positions of a request run through the upper part."""

    def below(self, tails: Sequence[Tail], copies: int = 1) -> list[Tensor]:
        """Run the lower part: the entry of each request, positions × features.

        Args:
            copies: the requests are so many copies of a batch, one after another.
        """

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail], copies: int = 1) -> Tensor:
        """Run the upper part: last hidden states, all requests' positions one after another (positions × width)."""


class LayerCut(Cut):
    """The cut ahead of a layer; an entry is the layer's input at every position of the sequence.

    Args:
        layers: of the model.
        backbone: of the model.
        depth: number of layers below the cut.
        lay: how sequences are laid out.
    """

    def __init__(self, layers: Layers, backbone: Backbone, depth: int, lay: Layout = TokenRows.padded):
        self.place = f"from layer {depth}"
        self.layers, self._backbone, self._depth, self.lay = layers, backbone, depth, lay

    def key(self, tail: Tail) -> Hashable:
        return tail.ids

    def rows(self, tail: Tail) -> int:
        return len(tail.ids)

    def below(self, tails: Sequence[Tail], copies: int = 1) -> list[Tensor]:
        rows = self.lay([tail.ids for tail in tails], self.layers.device, copies)
        caught: list[Tensor] = []

        def stop(out: Tensor) -> None:
            caught.append(out)
            raise Stop

        with contextlib.suppress(Stop), _on_output(self.layers.list[self._depth - 1], stop):
            rows.run(self._backbone)
        return rows.each(caught[0])

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail], copies: int = 1) -> Tensor:
        rows = self.lay([tail.ids for tail in tails], entries[0].device, copies)
        first, count = self.layers.list[self._depth], len(self.layers.list)
        with self.layers.only(self._depth, count), _replace_input(first, rows.joined(entries)):
            return rows.select(rows.run(self._backbone), tails)


class AttentionCut(Cut):
    """The cut after the attention of the last layer: nothing above it looks at other positions than those asked for.

    An entry holds the input of that layer and the output of its attention, side by side, at these positions alone.

    Args:
        layers: of the model.
        backbone: of the model.
        lay: how sequences are laid out below the cut. Above it each position is a row of its own.
    """

    place = "from the last attention"

    def __init__(self, layers: Layers, backbone: Backbone, lay: Layout = TokenRows.padded):
        self.layers, self._backbone, self.lay = layers, backbone, lay
        self.layer, self._index = layers.list[-1], len(layers.list) - 1

    @staticmethod
    def fits(layers: Layers, backbone: Backbone) -> bool:
        """Whether the last layer has an attention module, and nothing that runs up to its end trains.

        One token is run through the last layer to see the order of its modules.
        """
        *lower, last = layers.list
        attention = getattr(last, "self_attn", None)
        if attention is None or any(p.requires_grad for layer in lower for p in layer.parameters()):
            return False
        ran: list[nn.Module] = []  # in the order of their ends
        watched = [module for module in last.modules() if any(True for _ in module.parameters(recurse=False))]
        with torch.inference_mode(False), torch.no_grad(), layers.only(len(lower), len(lower) + 1):
            handles = [m.register_forward_hook(lambda m, args, out: ran.append(m)) for m in (*watched, attention)]
            try:
                backbone(torch.zeros(1, 1, dtype=torch.long, device=layers.device))
            finally:
                for handle in handles:
                    handle.remove()
        if attention not in ran:
            return False
        before = ran[: ran.index(attention)]
        # A module that did not run, such as an idle adapter, may run another time; its place is not known.
        return not any(p.requires_grad for m in watched if m in before or m not in ran for p in m.parameters())

    def key(self, tail: Tail) -> Hashable:
        return tail

    def rows(self, tail: Tail) -> int:
        return tail.last

    def below(self, tails: Sequence[Tail], copies: int = 1) -> list[Tensor]:
        rows = self.lay([tail.ids for tail in tails], self.layers.device, copies)
        inputs: list[Tensor] = []
        attended: list[Tensor] = []

        def stop(out: Tensor) -> None:
            attended.append(out)
            raise Stop

        with (
            contextlib.suppress(Stop),
            _on_input(self.layer, inputs.append),
            _on_output(self.layer.self_attn, stop),
        ):
            rows.run(self._backbone)
        entries = torch.cat((inputs[0].to(attended[0].device), attended[0]), dim=-1)
        return [part[-tail.last :] for part, tail in zip(rows.each(entries), tails, strict=True)]

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail], copies: int = 1) -> Tensor:
        entry, attended = torch.cat(list(entries))[:, None].to(device_of(self.layer)).chunk(2, dim=-1)
        attention = self.layer.self_attn
        self.layer.self_attn = _KnownAttention(attended)
        try:
            alone = self.layers.only(self._index, self._index + 1)
            with alone, _replace_input(self.layer, entry.contiguous()):
                hidden = self._backbone(torch.zeros(len(entry), 1, dtype=torch.long, device=entry.device))
        finally:
            self.layer.self_attn = attention
        return hidden[:, 0]


class LastAttention(AttentionCut):
    """The cut after the last attention, where all trains: what follows runs at the requested positions alone.

    Nothing is kept between forward passes.
    """

    @staticmethod
    def fits(layers: Layers, backbone: Backbone) -> bool:
        """Whether the last layer has an attention module, whatever trains."""
        return getattr(layers.list[-1], "self_attn", None) is not None


class _KnownAttention(nn.Module):
    """Stands in for an attention whose output is known; decoder layers unpack two values from theirs."""

    def __init__(self, output: Tensor):
        super().__init__()
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        return self.output, None


def _first_output(output: Any) -> Tensor:
    """A module's output, or the first of several."""
    return output[0] if isinstance(output, tuple) else output


def _on_output(module: nn.Module, see: Callable[[Tensor], None]) -> RemovableHandle:
    return module.register_forward_hook(lambda module, args, out: see(_first_output(out)))


def _on_input(module: nn.Module, see: Callable[[Tensor], None]) -> RemovableHandle:
    return module.register_forward_pre_hook(lambda module, args: see(args[0]))


def _replace_input(module: nn.Module, entry: Tensor) -> RemovableHandle:
    """Have a module called with ``entry`` as its first argument; ends with the handle's context."""
    return module.register_forward_pre_hook(lambda m, args, kwargs: ((entry, *args[1:]), kwargs), with_kwargs=True)
