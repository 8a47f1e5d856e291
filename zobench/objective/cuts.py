"""Where a model is cut in two: what lies below the cut is frozen and run once per sequence, what lies above anew.

The model's own code does all the arithmetic: its list of layers is swapped for the part that is needed, and what the
lower part gave is put in where the upper part begins.
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
    """A request: hidden states at the last ``last`` of the tokens ``ids``."""

    ids: Ids
    last: int


class Cut(Protocol):
    """Tensors of one sequence are 2-D: positions × features."""

    def key(self, tail: Tail) -> Hashable:
        """Requests with one key share what lies below."""

    def below(self, tails: Sequence[Tail]) -> list[Tensor]:
        """Run the lower part: what the upper part needs, for each request."""

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail]) -> Tensor:
        """Run the upper part: last hidden states, all requests' positions one after another (positions × width)."""


def pad_right(sequences: Sequence[Ids], device: torch.device) -> Tensor:
    """Token ids as a rectangle. Under a causal mask, padding on the right is seen by no real token."""
    width = max(len(ids) for ids in sequences)
    return torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in sequences], device=device)


def pick(hidden: Tensor, tails: Sequence[Tail]) -> Tensor:
    """The requested positions of rows × length × width."""
    at = [(i, p) for i, tail in enumerate(tails) for p in range(len(tail.ids) - tail.last, len(tail.ids))]
    return hidden[[i for i, _ in at], [p for _, p in at]]


class LayerCut:
    """Before a layer. What is kept is the input of the layer, for every token.

    Args:
        backbone: token ids (rows × length) → last hidden states (rows × length × width).
        depth: number of layers below the cut.
    """

    def __init__(self, decoder: Any, backbone: Backbone, depth: int):
        self._decoder, self._backbone = decoder, backbone
        self._lower = nn.ModuleList(list(decoder.layers)[:depth])
        self._upper = nn.ModuleList(list(decoder.layers)[depth:])

    def key(self, tail: Tail) -> Hashable:
        return tail.ids

    def below(self, tails: Sequence[Tail]) -> list[Tensor]:
        caught: list[Tensor] = []
        with _only(self._decoder, self._lower), _see_output(self._lower[-1], caught.append):
            self._backbone(pad_right([tail.ids for tail in tails], _device(self._decoder)))
        return [caught[0][i, : len(tail.ids)] for i, tail in enumerate(tails)]

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail]) -> Tensor:
        with _only(self._decoder, self._upper), _input(self._upper[0], _rectangle(entries)):
            padded = self._backbone(pad_right([tail.ids for tail in tails], entries[0].device))
        return pick(padded, tails)


class AttentionCut:
    """Behind the attention of the last layer. What is kept are the input of that layer and the output of its
    attention, side by side, at the requested positions alone: nothing above looks at other positions."""

    def __init__(self, decoder: Any, backbone: Backbone):
        self._decoder, self._backbone = decoder, backbone
        self._layer = decoder.layers[-1]
        self._upper = nn.ModuleList([self._layer])

    @staticmethod
    def fits(decoder: Any, backbone: Backbone) -> bool:
        """Whether nothing below the end of the last layer's attention trains."""
        layers = decoder.layers
        attention = getattr(layers[-1], "self_attn", None)
        if attention is None or any(p.requires_grad for layer in layers[:-1] for p in layer.parameters()):
            return False
        ran: list[nn.Module] = []
        watched = [module for module in layers[-1].modules() if any(True for _ in module.parameters(recurse=False))]
        with torch.inference_mode(False), torch.no_grad(), _only(decoder, nn.ModuleList([layers[-1]])):
            handles = [m.register_forward_hook(lambda m, args, out: ran.append(m)) for m in (*watched, attention)]
            try:
                backbone(torch.zeros(1, 1, dtype=torch.long, device=_device(decoder)))
            finally:
                for handle in handles:
                    handle.remove()
        if attention not in ran:
            return False
        early = ran[: ran.index(attention)]
        # A module that did not run, such as an idle adapter, may run another time; its place is not known.
        return not any(p.requires_grad for m in watched if m in early or m not in ran for p in m.parameters())

    def key(self, tail: Tail) -> Hashable:
        return tail

    def below(self, tails: Sequence[Tail]) -> list[Tensor]:
        entry: list[Tensor] = []
        attended: list[Tensor] = []

        def stop(out: Tensor) -> None:
            attended.append(out)
            raise _Stop

        with (
            contextlib.suppress(_Stop),
            _see_input(self._layer, entry.append),
            _see_output(self._layer.self_attn, stop),
        ):
            self._backbone(pad_right([tail.ids for tail in tails], _device(self._decoder)))
        both = torch.cat((entry[0].to(attended[0].device), attended[0]), dim=-1)
        return [both[i, len(t.ids) - t.last : len(t.ids)] for i, t in enumerate(tails)]

    def above(self, entries: Sequence[Tensor], tails: Sequence[Tail]) -> Tensor:
        entry, attended = _rectangle(entries).to(_device(self._layer)).chunk(2, dim=-1)
        attention = self._layer.self_attn
        self._layer.self_attn = _Recorded(attended)
        try:
            with _only(self._decoder, self._upper), _input(self._layer, entry.contiguous()):
                rows, width = entry.shape[:2]
                hidden = self._backbone(torch.zeros(rows, width, dtype=torch.long, device=entry.device))
        finally:
            self._layer.self_attn = attention
        return pick(hidden, [Tail((0,) * tail.last, tail.last) for tail in tails])


class LastAttention(AttentionCut):
    """The same cut where all trains: what follows the last attention runs at the requested positions alone."""

    @staticmethod
    def fits(decoder: Any, backbone: Backbone) -> bool:
        """Whether the two parts give what the whole gives."""
        if not isinstance(getattr(decoder, "layers", None), nn.ModuleList) or not len(decoder.layers):
            return False
        if getattr(decoder.layers[-1], "self_attn", None) is None:
            return False
        tails = [Tail((0, 1, 2, 3), 2), Tail((3, 1, 0), 1)]
        with torch.inference_mode():
            whole = pick(backbone(pad_right([tail.ids for tail in tails], _device(decoder))), tails).float()
            try:
                cut = LastAttention(decoder, backbone)
                found = cut.above(cut.below(tails), tails).float()
            except Exception:  # layers of another build fail in ways of their own
                return False
        return bool((found - whole).norm() <= 2e-2 * whole.norm())


class _Stop(Exception):
    """Leaves a forward pass that has given what it was run for."""


class _Recorded(nn.Module):
    """Stands for an attention whose output is known. Decoder layers unpack two values from theirs."""

    def __init__(self, output: Tensor):
        super().__init__()
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        return self.output, None


def _rectangle(entries: Sequence[Tensor]) -> Tensor:
    """Sequences' tensors as rows × longest × features, zeros behind the shorter ones."""
    return nn.utils.rnn.pad_sequence(list(entries), batch_first=True)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


@contextmanager
def _only(decoder: Any, layers: nn.ModuleList) -> Iterator[None]:
    whole = decoder.layers
    decoder.layers = layers
    try:
        yield
    finally:
        decoder.layers = whole


def _see_output(module: nn.Module, see: Callable[[Tensor], None]) -> RemovableHandle:
    return module.register_forward_hook(lambda module, args, out: see(_first(out)))


def _see_input(module: nn.Module, see: Callable[[Tensor], None]) -> RemovableHandle:
    return module.register_forward_pre_hook(lambda module, args: see(args[0]))


def _input(module: nn.Module, entry: Tensor) -> RemovableHandle:
    """Replace the first argument of a module."""
    return module.register_forward_pre_hook(lambda m, args, kwargs: ((entry, *args[1:]), kwargs), with_kwargs=True)
