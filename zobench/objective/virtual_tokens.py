"""Virtual tokens: keys and values that train, in front of what each layer's attention sees (Li & Liang, 2101.00190).

An attention module that has some is given them in the function that transformers' registry names for it, so that all
ways to run a model are alike to them: padded and packed rows, other weights for some rows, generation with a cache.
They take up no position: the first real token is at 0, as in the MeZO code. Each token sees all of them, also where a
window or a chunk bounds how far back it sees.
"""

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zobench.errors import ConfigError

#: names of an attention module's parameters: tokens × (key-value heads · features of a head)
KEYS, VALUES = "prefix_keys", "prefix_values"
#: what the attention is called in the registry, by what it is built on
_NAMES = {"sdpa": "zobench_prefix_sdpa", "eager": "zobench_prefix_eager"}
#: the masks that a decoder makes for a kind of layer, by the setting that bounds how far back such a layer sees
_WINDOWS = {"sliding_window": "sliding_attention", "attention_chunk_size": "chunked_attention"}

#: an attention module, and the keys and values that it was given: rows × heads × length × features
Seen = tuple[Any, Tensor, Tensor]
_seen: ContextVar[list[Seen] | None] = ContextVar("_seen", default=None)
_left_out: ContextVar[bool] = ContextVar("_left_out", default=False)


def attention_configs(model: nn.Module) -> list[Any]:
    """The configurations from which a model's modules read what their attention is called."""
    found = [getattr(module, "config", None) for module in model.modules()]
    return list({id(config): config for config in found if hasattr(config, "_attn_implementation")}.values())


def has_some(module: nn.Module) -> bool:
    """Whether an attention module is run with virtual tokens."""
    return hasattr(module, KEYS) and not _left_out.get()


def prefixed(model: nn.Module) -> list[Any]:
    """The attention modules that are run with virtual tokens, the lowest layer first."""
    return [module for module in model.modules() if has_some(module)]


@contextmanager
def left_out() -> Iterator[None]:
    """A context in which models run as they came, without their virtual tokens."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


def add(model: Any, ids: Tensor) -> None:
    """Give each layer's attention virtual tokens that train, at first what real tokens are to it.

    Args:
        model: a causal language model of transformers, without virtual tokens; changed in place.
        ids: of the real tokens, int64 of shape (tokens,).

    Raises:
        ConfigError: if not every layer has one attention that transformers' registry names.
    """
    base = model.config._attn_implementation
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    seen = _activations(model, ids, base) if base in _NAMES else []
    if len(seen) != layers or len({module for module, _, _ in seen}) != layers:
        raise ConfigError(
            f"tuning=prefix: {type(model).__name__} has {layers} layers, and {len(seen)} of them an attention to which "
            "keys and values can be given; use tuning=lora, last_layers or full"
        )
    for module, keys, values in seen:
        for name, given in ((KEYS, keys), (VALUES, values)):
            module.register_parameter(name, nn.Parameter(given[0].transpose(0, 1).flatten(1).contiguous()))
        module.prefix_heads = keys.shape[1]
        own: Any = copy.copy(module.config)  # the decoder's own goes on naming what it makes its masks for
        own._attn_implementation = _NAMES[base]
        module.config = own


def _activations(model: Any, ids: Tensor, base: str) -> list[Seen]:
    """What each attention is given for a sequence, in the order of the layers.

    On one thread of a CPU, since the bits of products hang on their number, and a replay begins with these.
    """
    _register()
    found: list[Seen] = []
    token, threads = _seen.set(found), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with attention_named(attention_configs(model), _NAMES[base]), torch.no_grad():
            model(input_ids=ids[None], use_cache=False)
    finally:
        torch.set_num_threads(threads)
        _seen.reset(token)
    return found


def _register() -> None:
    """Make both attentions known to transformers, with the masks of what they are built on."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask, sdpa_mask

    for name, function, mask in (("sdpa", attend, sdpa_mask), ("eager", _attend_eager, eager_mask)):
        AttentionInterface.register(_NAMES[name], function)
        AttentionMaskInterface.register(_NAMES[name], mask)


@contextmanager
def attention_named(configs: Sequence[Any], name: str) -> Iterator[None]:
    """A context in which these configurations name another attention."""
    before = [(config, config._attn_implementation) for config in configs]
    try:
        for config in configs:
            config._attn_implementation = name
        yield
    finally:
        for config, former in before:
            config._attn_implementation = former


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """transformers' scaled-dot-product attention, with the module's virtual tokens in front, if it has some.

    Tensors of rows × heads × length × features to rows × length × heads × features.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return _attend(sdpa_attention_forward, module, query, key, value, attention_mask, **options)


def _attend_eager(module: nn.Module, *args: Any, **options: Any) -> Any:
    """The attention that the model's own file has, with virtual tokens in front."""
    return _attend(sys.modules[type(module).__module__].eager_attention_forward, module, *args, **options)


def _attend(
    function: Callable[..., Any],
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> Any:
    seen = _seen.get()
    if seen is not None and options.get("position_bias") is None:
        seen.append((module, key, value))
    if has_some(module):
        count, length = len(module.prefix_keys), query.shape[2]
        if attention_mask is None and length > 1:
            attention_mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        if attention_mask is not None:
            attention_mask = F.pad(attention_mask, (count, 0), value=float(attention_mask.dtype == torch.bool))
        key, value = _in_front(module.prefix_keys, key), _in_front(module.prefix_values, value)
    return function(module, query, key, value, attention_mask, **options)


def _in_front(prefix: Tensor, own: Tensor) -> Tensor:
    """Keys or values (rows × heads × length × features) with a layer's virtual tokens before the first, in each row.

    They are looked up, as embeddings are, so that an oracle can show other ones to some of the rows.
    """
    ids = torch.arange(len(prefix), device=own.device).expand(len(own), -1)
    tokens = F.embedding(ids, prefix).unflatten(2, (own.shape[1], own.shape[3]))
    return torch.cat((tokens.transpose(1, 2), own), dim=2)


@contextmanager
def as_past(model: Any, length: int) -> Iterator[dict[str, Any]]:
    """A context in which the model's own attention runs, and the arguments with which it sees the same virtual tokens.

    They are the past of one sequence: a cache of transformers holds them. It is how others give a model a prefix, and
    what the way above is compared with.

    Args:
        length: of the sequence, in tokens.

    Yields:
        Arguments of ``model(input_ids, ...)``; none where the model has no virtual tokens.
    """
    modules = prefixed(model)
    if not modules:
        yield {}
        return
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, module in enumerate(modules):
        cache.update(_alone(module, KEYS), _alone(module, VALUES), layer)
    device = modules[0].prefix_keys.device
    arguments = {"past_key_values": cache, "position_ids": torch.arange(length, device=device)[None]}
    masks = _masks(model, length, len(modules[0].prefix_keys), device)
    with attention_named([module.config for module in modules], model.config._attn_implementation):
        yield arguments | ({} if masks is None else {"attention_mask": masks})


def _alone(module: Any, name: str) -> Tensor:
    """A layer's virtual keys or values as a cache has them: 1 × heads × tokens × features."""
    prefix: Tensor = getattr(module, name)
    return prefix.unflatten(1, (module.prefix_heads, -1)).transpose(0, 1)[None]


def window(model: Any) -> int | None:
    """How many tokens back the layer sees that sees least; None where all see everything."""
    config = model.config.get_text_config()
    return min(filter(None, (getattr(config, name, None) for name in _WINDOWS)), default=None)


def _masks(model: Any, length: int, count: int, device: torch.device) -> Any:
    """Masks in which windows and chunks are those of real tokens alone; None for a model that has none of them."""
    config = model.config.get_text_config()
    kinds = {kind: getattr(config, name, None) for name, kind in _WINDOWS.items()}
    if not any(kinds.values()):
        return None
    place = torch.arange(length, device=device)
    back, full = place[:, None] - place, place[:, None] >= place
    own = {"full_attention": full}
    if (window := kinds["sliding_attention"]) is not None:
        own["sliding_attention"] = full & (back < window)
    if (chunk := kinds["chunked_attention"]) is not None:
        own["chunked_attention"] = full & (place[:, None] // chunk == place // chunk)
    masks = {kind: F.pad(mask, (count, 0), value=1.0)[None, None] for kind, mask in own.items()}
    if model.config._attn_implementation == "eager":
        least = torch.finfo(model.dtype).min
        masks = {kind: torch.zeros_like(m, dtype=model.dtype).masked_fill(~m, least) for kind, m in masks.items()}
    return masks if getattr(config, "layer_types", None) else masks["sliding_attention"]
