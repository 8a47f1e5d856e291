"""A tuned prefix in peft's format, whose virtual tokens take up positions where zobench's do not."""

import warnings
from typing import Any

import torch
from torch import Tensor

from zobench.errors import ConfigError, first_line
from zobench.objective.reference import plain_logits
from zobench.objective.virtual_tokens import left_out, prefixed, window

#: tokens of the sequence for which both ways must give the same
_TRIED = (5, 9, 6, 3, 8, 4, 7)


def peft_prefix(model: Any) -> tuple[dict[str, Any], Tensor]:
    """The settings of peft's ``PREFIX_TUNING``, and its prompt embeddings (tokens × layers · 2 · width).

    In peft real tokens begin after the virtual ones. With rotary embeddings a key that is turned as many places further
    gives the same, since attention sees differences of places alone. Whether it does is tried with peft.

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
    if (longest := same_up_to(model)) is not None and longest < len(_TRIED):
        raise _refusal(model, f"it counts virtual tokens into the attention's window of {window(model)} tokens")
    settings = {
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
    with torch.no_grad():
        keys = [_turned(model, module, count) for module in modules]
        rows = [
            part for each, module in zip(keys, modules, strict=True) for part in (_flat(each), module.prefix_values)
        ]
        prompt = torch.cat([row.detach() for row in rows], dim=1)
        expected = plain_logits(model, _TRIED, 0)
        found = _by_peft(model, settings, prompt)
    bound = torch.finfo(model.dtype).eps ** 0.5 * float(expected.std())
    if not float((found - expected).abs().max()) <= bound:
        raise _refusal(model, "its positions would shift by them")
    return {"peft_type": "PREFIX_TUNING", "task_type": "CAUSAL_LM", **settings}, prompt.cpu()


def same_up_to(model: Any) -> int | None:
    """The longest sequence, in tokens, for which peft gives the same logits; None where there is no such bound.

    It counts virtual tokens among those that an attention window holds.
    """
    modules, there = prefixed(model), window(model)
    return there - len(modules[0].prefix_keys) if modules and there else None


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


def _by_peft(model: Any, settings: dict[str, Any], prompt: Tensor) -> Tensor:
    """Logits of the tried tokens as peft runs the model with these virtual tokens in place of its own."""
    from peft import PeftModelForCausalLM, PrefixTuningConfig

    try:
        with left_out(), warnings.catch_warnings(action="ignore"):
            ours: Any = PeftModelForCausalLM(model, PrefixTuningConfig(**settings))
            weight = ours.prompt_encoder["default"].embedding.weight
            if weight.shape != prompt.shape:
                raise ValueError(
                    f"by config.json it takes {list(weight.shape)} numbers, and they are {list(prompt.shape)}"
                )
            weight.copy_(prompt)
            ids = torch.tensor([_TRIED], device=prompt.device)
            logits: Tensor = ours(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float()
    except Exception as error:  # peft knows families by their settings, and fails in any way
        raise _refusal(model, first_line(error)) from error
    return logits


def _flat(keys: Tensor) -> Tensor:
    """Keys as a parameter has them: tokens × width."""
    return keys[0].transpose(0, 1).flatten(1)


def _refusal(model: Any, why: str) -> ConfigError:
    return ConfigError(
        f"--adapter: peft cannot run this prefix of {type(model).__name__}: {why}; tuning=lora gives an adapter for it"
    )
