"""The models that are measured, what trains in them, and batches of random tokens for them."""

from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf

from zobench.bench.spec import RANDOM_MODELS, Shape, overrides
from zobench.config import instantiate
from zobench.config.settings import check_settings
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.models import facts
from zobench.models.base import ModelSpec, silence_libraries
from zobench.models.own import check_chosen
from zobench.objective import Encoded
from zobench.objective.encode import Row
from zobench.tasks.base import Example

_SEED = 20260101
#: width, layers and heads of published OPT models (arXiv:2205.01068, Table 1)
_OPT = {"opt-125m-random": (768, 12, 12), "opt-1.3b-random": (2048, 24, 32), "opt-13b-random": (5120, 40, 40)}


class Tuned(NamedTuple):
    """A model with what trains in it marked, and the memory for activations of what does not, in GiB."""

    model: Any
    cache_gib: float


def load(name: str, dtype: str, device: torch.device, tuning: str = "full") -> Tuned:
    """Load a causal language model in evaluation mode, with PyTorch's scaled-dot-product attention.

    Args:
        name: one of ``spec.models()``: a shape with random weights, or an option of conf/model with its settings.
        dtype: of the weights, as torch names it: ``float32``, ``bfloat16`` or ``float16``.
        device: where the weights lie, and are made if they are random.
        tuning: what trains, an option of conf/tuning with its settings.

    Raises:
        UserError: if it cannot be had.
    """
    kind = getattr(torch, dtype)
    chosen = instantiate.build(_node("tuning", *overrides(tuning, "tuning")), "tuning")
    if name not in RANDOM_MODELS:
        cfg = compose(*overrides(name, "model"))
        check_settings(cfg)
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        check_chosen(settings)
        spec = instantiate.build(settings["model"], "model")
        model = spec.load(dtype=kind, device=device, attention=spec.attention or "sdpa").model
    else:
        spec = ModelSpec(max_length=2048, start_token={}, lora_targets=["q_proj", "v_proj"])
        model = _random(name, kind, device)
    chosen.apply(model, spec, 0)
    return Tuned(model, chosen.cache_gib)


def _random(name: str, kind: torch.dtype, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    silence_libraries()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        torch.manual_seed(_SEED)
        config = random_config(name)
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=kind).eval()


def _node(group: str, *options: str) -> Any:
    return OmegaConf.to_container(compose(*options)[group], resolve=True)


def random_config(name: str) -> Any:
    """The shape of a model with random weights: one of OPT's (arXiv:2205.01068), or SmolLM2-135M (arXiv:2502.02737)."""
    from transformers import LlamaConfig, OPTConfig

    if name in _OPT:
        width, layers, heads = _OPT[name]
        return OPTConfig(
            vocab_size=50272,
            hidden_size=width,
            word_embed_proj_dim=width,
            num_hidden_layers=layers,
            ffn_dim=4 * width,
            num_attention_heads=heads,
            max_position_embeddings=2048,
        )
    return LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        num_hidden_layers=30,
        intermediate_size=1536,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )


def task() -> Any:
    """A task whose loss is the classification loss; nothing else of it is used."""
    return instantiate.build(_node("task", "task=sst2"), "task")


def random_batch(model: Any, shape: Shape) -> list[Encoded]:
    """A batch of examples, each of a random prompt of ``shape.tokens`` tokens and two options of one token.

    Args:
        model: gives the vocabulary and the number of positions.
        shape: of the batch.

    Raises:
        ConfigError: if the model has fewer positions.
    """
    positions, vocabulary = facts.positions(model.config), model.config.get_text_config().vocab_size
    if positions is not None and shape.tokens > positions:
        raise ConfigError(f"--shape {shape}: the model has {positions} positions; give at most so many tokens")
    generator = torch.Generator().manual_seed(_SEED)
    # Above the special tokens, which a model may treat as padding.
    ids = torch.randint(4, vocabulary, (shape.batch, shape.tokens), generator=generator).tolist()
    options = [(4 + torch.randperm(vocabulary - 4, generator=generator)[:2]).tolist() for _ in ids]
    return [
        Encoded(Example(i, "", ("", ""), i % 2), tuple(Row((*prompt, option), 1) for option in pair))
        for i, (prompt, pair) in enumerate(zip(ids, options, strict=True))
    ]
