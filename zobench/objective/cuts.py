"""Cuts: a model in two parts, so that a forward pass need not run all of it at all positions.

A *cut* is a place in the model. What lies below it is run once per sequence if nothing of it trains; what lies above it
is run in every forward pass, but maybe at a few positions alone. A *tail* is what is asked of a sequence: the last
hidden states at its last positions. What the lower part hands to the upper part for one tail is its *entry*.

The model's own code does all the arithmetic: its list of layers is swapped for the part that is needed, and the entry
is put in where the upper part begins. It works for decoders whose layers are a ``ModuleList`` named ``layers``, called
one after another, as in transformers 5.
"""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Ids = tuple[int, ...]
Backbone = Callable[[Tensor], Tensor]


class Tail(NamedTuple):
    """A request for last hidden states: at the last ``last`` positions of the tokens ``ids``."""

    ids: Ids
    last: int


class Cut(Protocol):
    """A place in a model, and how the parts below and above it are run."""

    #: where the model is cut, in words: what runs anew in each forward pass
    place: str

    def key(self, tail: Tail) -> Hashable:
        """What the entry of a request depends on: requests with equal keys share one entry."""

    def below(self, tails: Sequence[Tail]) -> list[Tensor]:
        """Run the lower part: the entry of each request, positions × features."""

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail]) -> Tensor:
        """Run the upper part: last hidden states, all requests' positions one after another (positions × width)."""


def pad_right(sequences: Sequence[Ids], device: torch.device) -> Tensor:
    """Token ids as a rectangle, int64 of sequences × longest length, with zeros after the shorter ones.

    Under a causal mask no real token sees the padding, so that no attention mask is needed.
    """
    width = max(len(ids) for ids in sequences)
    return torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in sequences], device=device)


def select_positions(hidden: Tensor, tails: Sequence[Tail]) -> Tensor:
    """The hidden states that are asked for, one request after another (positions × width).

    Args:
        hidden: of all positions, requests × length × width.
    """
    places = [(i, p) for i, tail in enumerate(tails) for p in range(len(tail.ids) - tail.last, len(tail.ids))]
    return hidden[[i for i, _ in places], [p for _, p in places]]


class LayerCut(Cut):
    """The cut ahead of a layer; an entry is the layer's input at every position of the sequence.

    Args:
        decoder: the module that holds the list of layers.
        backbone: token ids (rows × length) → last hidden states (rows × length × width).
        depth: number of layers below the cut.
    """

    def __init__(self, decoder: Any, backbone: Backbone, depth: int):
        self.place = f"from layer {depth}"
        self._decoder, self._backbone = decoder, backbone
        self._lower = nn.ModuleList(list(decoder.layers)[:depth])
        self._upper = nn.ModuleList(list(decoder.layers)[depth:])

    def key(self, tail: Tail) -> Hashable:
        return tail.ids

    def below(self, tails: Sequence[Tail]) -> list[Tensor]:
        caught: list[Tensor] = []
        with _with_layers(self._decoder, self._lower), _on_output(self._lower[-1], caught.append):
            self._backbone(pad_right([tail.ids for tail in tails], _device(self._decoder)))
        return [caught[0][i, : len(tail.ids)] for i, tail in enumerate(tails)]

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail]) -> Tensor:
        with _with_layers(self._decoder, self._upper), _replace_input(self._upper[0], _pad_entries(entries)):
            padded = self._backbone(pad_right([tail.ids for tail in tails], entries[0].device))
        return select_positions(padded, tails)


class AttentionCut(Cut):
    """The cut after the attention of the last layer: nothing above it looks at other positions than those asked for.

    An entry holds the input of that layer and the output of its attention, side by side, at these positions alone.

    Args:
        decoder: the module that holds the list of layers.
        backbone: token ids (rows × length) → last hidden states (rows × length × width).
    """

    place = "from the last attention"

    def __init__(self, decoder: Any, backbone: Backbone):
        self._decoder, self._backbone = decoder, backbone
        self._layer = decoder.layers[-1]
        self._upper = nn.ModuleList([self._layer])

    @staticmethod
    def fits(decoder: Any, backbone: Backbone) -> bool:
        """Whether the last layer has an attention module, and nothing that runs up to its end trains.

        One token is run through the last layer to see the order of its modules.
        """
        layers = decoder.layers
        attention = getattr(layers[-1], "self_attn", None)
        if attention is None or any(p.requires_grad for layer in layers[:-1] for p in layer.parameters()):
            return False
        ran: list[nn.Module] = []  # in the order of their ends
        watched = [module for module in layers[-1].modules() if any(True for _ in module.parameters(recurse=False))]
        with torch.inference_mode(False), torch.no_grad(), _with_layers(decoder, nn.ModuleList([layers[-1]])):
            handles = [m.register_forward_hook(lambda m, args, out: ran.append(m)) for m in (*watched, attention)]
            try:
                backbone(torch.zeros(1, 1, dtype=torch.long, device=_device(decoder)))
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

    def below(self, tails: Sequence[Tail]) -> list[Tensor]:
        inputs: list[Tensor] = []
        attended: list[Tensor] = []

        def stop(out: Tensor) -> None:
            attended.append(out)
            raise _Stop

        with (
            contextlib.suppress(_Stop),
            _on_input(self._layer, inputs.append),
            _on_output(self._layer.self_attn, stop),
        ):
            self._backbone(pad_right([tail.ids for tail in tails], _device(self._decoder)))
        entries = torch.cat((inputs[0].to(attended[0].device), attended[0]), dim=-1)
        return [entries[i, len(t.ids) - t.last : len(t.ids)] for i, t in enumerate(tails)]

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail]) -> Tensor:
        entry, attended = _pad_entries(entries).to(_device(self._layer)).chunk(2, dim=-1)
        attention = self._layer.self_attn
        self._layer.self_attn = _KnownAttention(attended)
        try:
            with _with_layers(self._decoder, self._upper), _replace_input(self._layer, entry.contiguous()):
                rows, width = entry.shape[:2]
                hidden = self._backbone(torch.zeros(rows, width, dtype=torch.long, device=entry.device))
        finally:
            self._layer.self_attn = attention
        return select_positions(hidden, [Tail((0,) * tail.last, tail.last) for tail in tails])


class LastAttention(AttentionCut):
    """The cut after the last attention, where all trains: what follows runs at the requested positions alone.

    Nothing is kept between forward passes.
    """

    @staticmethod
    def fits(decoder: Any, backbone: Backbone) -> bool:
        """Whether the two parts give what the whole model gives, tried on two short sequences to 2 % of the norm."""
        if not isinstance(getattr(decoder, "layers", None), nn.ModuleList) or not len(decoder.layers):
            return False
        if getattr(decoder.layers[-1], "self_attn", None) is None:
            return False
        tails = [Tail((0, 1, 2, 3), 2), Tail((3, 1, 0), 1)]
        with torch.inference_mode():
            whole = select_positions(backbone(pad_right([tail.ids for tail in tails], _device(decoder))), tails).float()
            try:
                cut = LastAttention(decoder, backbone)
                in_parts = cut.above(cut.below(tails), tails).float()
            except Exception:  # layers of another build fail in ways of their own
                return False
        return bool((in_parts - whole).norm() <= 2e-2 * whole.norm())


class _Stop(Exception):
    """Ends a forward pass that has given what it was run for."""


class _KnownAttention(nn.Module):
    """Stands in for an attention whose output is known; decoder layers unpack two values from theirs."""

    def __init__(self, output: Tensor):
        super().__init__()
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        return self.output, None


def _pad_entries(entries: Sequence[Tensor]) -> Tensor:
    """Entries as one tensor, sequences × longest × features, with zeros after the shorter ones."""
    return nn.utils.rnn.pad_sequence(list(entries), batch_first=True)


def _first_output(output: Any) -> Tensor:
    """A module's output, or the first of several."""
    return output[0] if isinstance(output, tuple) else output


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


@contextmanager
def _with_layers(decoder: Any, layers: nn.ModuleList) -> Iterator[None]:
    """A context in which the decoder has these layers and no others."""
    whole = decoder.layers
    decoder.layers = layers
    try:
        yield
    finally:
        decoder.layers = whole


def _on_output(module: nn.Module, see: Callable[[Tensor], None]) -> RemovableHandle:
    return module.register_forward_hook(lambda module, args, out: see(_first_output(out)))


def _on_input(module: nn.Module, see: Callable[[Tensor], None]) -> RemovableHandle:
    return module.register_forward_pre_hook(lambda module, args: see(args[0]))


def _replace_input(module: nn.Module, entry: Tensor) -> RemovableHandle:
    """Have a module called with ``entry`` as its first argument; ends with the handle's context."""
    return module.register_forward_pre_hook(lambda m, args, kwargs: ((entry, *args[1:]), kwargs), with_kwargs=True)
