"""The layers of a decoder: where their list is, and forward passes in which some of them do nothing."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: token ids (rows × length), and ``TokenRows`` where sequences are packed → last hidden states, rows × length × width
Backbone = Callable[..., Tensor]
#: what the list of a decoder's layers is called: by most families; GPT-2, Falcon and Bloom; MPT
LISTS = ("layers", "h", "blocks")


class Stop(Exception):
    """Ends a forward pass that has given what it was run for."""


def list_name(decoder: Any) -> str | None:
    """What the list of a decoder's layers is called; None if it has none."""
    for name in LISTS:
        found = getattr(decoder, name, None)
        if found is not None:
            return name if isinstance(found, nn.ModuleList) and len(found) else None
    return None


class Layers:
    """A decoder and the list of its layers.

    Args:
        decoder: the module that holds the list.
        name: what the list is called there.
        extras: how many values a layer gives beside its output, −1 for a bare tensor.

    Attributes:
        device: of the decoder's first parameter.
    """

    def __init__(self, decoder: Any, name: str, extras: int):
        self.decoder, self.name, self._extras = decoder, name, extras
        self.device = next(decoder.parameters()).device
        self._parts: dict[tuple[int, int], nn.ModuleList] = {}

    @staticmethod
    def of(model: Any, backbone: Backbone) -> "Layers | None":
        """The layers of a causal language model; None where ``get_decoder()`` has no list of them.

        One token is run through the first layer, to see what a layer gives.

        Args:
            backbone: token ids (rows × length) → last hidden states (rows × length × width).
        """
        decoder: Any = model.get_decoder() if hasattr(model, "get_decoder") else None
        name = list_name(decoder)
        if name is None:
            return None
        found: list[int] = []

        def see(module: nn.Module, args: Any, out: Any) -> None:
            found.append(len(out) - 1 if isinstance(out, tuple) else -1)
            raise Stop

        with contextlib.suppress(Stop), torch.no_grad(), getattr(decoder, name)[0].register_forward_hook(see):
            backbone(torch.zeros(1, 1, dtype=torch.long, device=device_of(decoder)))
        return Layers(decoder, name, found[0]) if found else None

    @property
    def list(self) -> Any:
        """The layers, the lowest first: a ``ModuleList``."""
        return getattr(self.decoder, self.name)

    @contextmanager
    def only(self, first: int, last: int) -> Iterator[None]:
        """A context in which the layers from ``first`` up to and without ``last`` run, and all others do nothing."""
        whole = self.list
        if (first, last) not in self._parts:
            chosen = [layer if first <= i < last else _Idle(layer, self._extras) for i, layer in enumerate(whole)]
            self._parts[first, last] = nn.ModuleList(chosen)
        setattr(self.decoder, self.name, self._parts[first, last])
        try:
            yield
        finally:
            setattr(self.decoder, self.name, whole)


class _Idle(nn.Module):
    """Stands in for a layer that is not run: hands on its input, and has the layer's attributes.

    Args:
        layer: whose place it takes; a decoder may read its kind of attention from it.
        extras: how many values the layer gives beside its output, −1 for a bare tensor.
    """

    def __init__(self, layer: nn.Module, extras: int):
        super().__init__()
        self._layer = (layer,)  # in a tuple, so as not to be a submodule
        self._extras = extras

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        return hidden if self._extras < 0 else (hidden, *[None] * self._extras)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_layer"][0], name)


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's first parameter."""
    return next(module.parameters()).device
