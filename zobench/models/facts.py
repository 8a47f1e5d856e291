"""What zobench must know of a model beyond its weights, read off the model and its tokenizer."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from zobench.objective.layers import list_name

#: the longest sequences that a model is used with, where nothing else is asked for
LONGEST = 2048
#: what a tokenizer says where it knows no limit is far above this
_SANE = 2**24
_QUERIES = ("q_proj", "query", "q_b_proj", "receptance", "q_lin")
_VALUES = ("v_proj", "value", "kv_b_proj", "v_lin")
#: one map that gives queries, keys and values
_FUSED = ("query_key_value", "qkv_proj", "c_attn", "Wqkv", "W_pack", "qkv")


def positions(config: Any) -> int | None:
    """How many positions a model has; None where there is no such limit."""
    for each in (config, config.get_text_config()):
        for name in ("max_position_embeddings", "n_positions", "max_seq_len", "context_length"):
            if isinstance(found := getattr(each, name, None), int):
                return found
    return None


def longest(config: Any, tokenizer: Any) -> int:
    """The longest sequence that model and tokenizer are made for, at most 2048 tokens."""
    limits = (positions(config), getattr(tokenizer, "model_max_length", None))
    return int(min([LONGEST, *(limit for limit in limits if limit is not None and 2 <= limit < _SANE)]))


def first_token(tokenizer: Any) -> str | None:
    """The text of the token that a tokenizer puts in front of a sequence; None where it puts none."""
    plain, whole = (tokenizer("x", add_special_tokens=special)["input_ids"] for special in (False, True))
    if len(whole) == len(plain) or whole[0] == plain[0]:
        return None
    return str(tokenizer.convert_ids_to_tokens(whole[0]))


def layers_of(model: Any) -> Sequence[nn.Module]:
    """A model's transformer layers, the lowest first; none where its decoder keeps no list of them."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    name = list_name(decoder)
    return getattr(decoder, name) if name else ()


def linear_names(model: Any) -> list[str]:
    """The names of the linear modules in a model's layers, by their last part, each once."""
    kinds = {
        name.rpartition(".")[2]: None
        for layer in layers_of(model)
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
    return list(kinds)


def query_and_value(names: Sequence[str]) -> list[str]:
    """Those of some linear modules that give queries and values, which LoRA adapts (arXiv:2106.09685, section 7.1).

    >>> query_and_value(["q_proj", "k_proj", "v_proj", "out_proj"]), query_and_value(["c_attn", "c_proj", "c_fc"])
    (['q_proj', 'v_proj'], ['c_attn'])

    Returns:
        Two names, or one where queries, keys and values are one map; an empty list where there is neither.
    """
    pair = [next((name for name in known if name in names), None) for known in (_QUERIES, _VALUES)]
    if None not in pair:
        return [name for name in pair if name]
    return [name for name in _FUSED if name in names][:1]
