"""A tuned prefix in peft's format, whose virtual tokens take up positions where zobench's do not."""

from typing import Any

import torch
from torch import Tensor

from zobench.errors import ConfigError
from zobench.objective.reference import plain_logits
from zobench.objective.virtual_tokens import as_past, prefixed

#: tokens of the sequence for which both ways must give the same
_TRIED = (5, 9, 6, 3, 8, 4, 7)


def peft_prefix(model: Any) -> tuple[dict[str, Any], Tensor]:
    """The settings of peft's ``PREFIX_TUNING``, and its prompt embeddings (tokens × layers · 2 · width).

    In peft real tokens begin after the virtual ones. With rotary embeddings a key that is turned as many places further
    gives the same, since attention sees differences of places alone. Whether it does is tried on a few tokens.

    Args:
        model: of transformers, with virtual tokens.

    Raises:
        ConfigError: if peft cannot hold the prefix, or would compute other logits with it.
    """
    modules = prefixed(model)
    shapes = {tuple(p.shape) for m in modules for p in (m.prefix_keys, m.prefix_values)}
    if len(shapes) > 1 or len({m.prefix_heads for m in modules}) > 1:
        raise _refusal(model, "its layers have keys and values of several widths")
    ((count, width),) = shapes
    with torch.no_grad():
        turned = [_turned(model, module, count) for module in modules]
        expected = plain_logits(model, _TRIED, 0)
        found = _with_places(model, turned)
    bound = torch.finfo(model.dtype).eps ** 0.5 * float(expected.std())
    if not float((found - expected).abs().max()) <= bound:
        raise _refusal(model, "its positions would shift by them")
    rows = [part for keys, module in zip(turned, modules, strict=True) for part in (_flat(keys), module.prefix_values)]
    settings = {
        "peft_type": "PREFIX_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name_or_path,
        "num_virtual_tokens": count,
        "token_dim": width,
        "num_attention_heads": modules[0].prefix_heads,
        "num_layers": len(modules),
        "num_transformer_submodules": 1,
        "encoder_hidden_size": width,
        "prefix_projection": False,
        "inference_mode": True,
    }
    return settings, torch.cat([row.detach().cpu() for row in rows], dim=1)


def _turned(model: Any, module: Any, places: int) -> Tensor:
    """A layer's virtual keys, 1 × heads × tokens × features, turned by so many places where keys are turned at all."""
    keys: Tensor = module.prefix_keys.unflatten(1, (module.prefix_heads, -1)).transpose(0, 1)[None]
    rotary = getattr(model.get_decoder(), "rotary_emb", None)
    if rotary is None:
        return keys
    try:
        cos, sin = (x.float() for x in rotary(keys, torch.tensor([[places]], device=keys.device)))
    except TypeError:  # several kinds of layers, each with its own
        return keys
    size = (cos.square() + sin.square()).sqrt()  # some families scale what they turn
    plain, rest = keys[..., : cos.shape[-1]].float(), keys[..., cos.shape[-1] :]
    first, second = plain.chunk(2, dim=-1)
    moved = (plain * cos + torch.cat((-second, first), dim=-1) * sin) / size
    return torch.cat((moved.to(keys.dtype), rest), dim=-1)


def _with_places(model: Any, keys: list[Tensor]) -> Tensor:
    """Logits of the tried tokens as peft runs them: the keys as a past whose tokens have places."""
    ids = torch.tensor([_TRIED], device=next(model.parameters()).device)
    with as_past(model, len(_TRIED)) as past:
        del past["position_ids"]
        for layer, turned in zip(past["past_key_values"].layers, keys, strict=True):
            layer.keys = turned
        return model(input_ids=ids, use_cache=True, **past).logits[0].float()


def _flat(keys: Tensor) -> Tensor:
    """Keys as a parameter has them: tokens × width."""
    return keys[0].transpose(0, 1).flatten(1)


def _refusal(model: Any, why: str) -> ConfigError:
    return ConfigError(
        f"--adapter: peft cannot run this prefix of {type(model).__name__}: {why}; tuning=lora gives an adapter for it"
    )
