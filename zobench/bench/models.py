"""The models that are measured, and batches of random tokens for them."""

from typing import Any

import torch
from omegaconf import OmegaConf

from zobench.bench.spec import RANDOM_MODELS, Shape
from zobench.config import instantiate
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.models.base import silence_libraries
from zobench.objective import Encoded
from zobench.objective.encode import Row
from zobench.tasks.base import Example

_SEED = 20260101


def load(name: str, dtype: str, device: torch.device) -> Any:
    """Load a causal language model in evaluation mode, with PyTorch's scaled-dot-product attention.

    Args:
        name: one of ``spec.models()``: a shape with random weights, or an option of conf/model.
        dtype: of the weights, as torch names it: ``float32``, ``bfloat16`` or ``float16``.
        device: where the weights lie.

    Raises:
        UserError: if it cannot be had.
    """
    kind = getattr(torch, dtype)
    if name not in RANDOM_MODELS:
        spec = instantiate.build(_node("model", name), "model")
        return spec.load(dtype=kind, device=device, attention="sdpa").model
    from transformers import AutoModelForCausalLM

    silence_libraries()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = AutoModelForCausalLM.from_config(random_config(name), attn_implementation="sdpa")
    return model.to(device=device, dtype=kind).eval()


def _node(group: str, name: str) -> Any:
    return OmegaConf.to_container(compose(f"{group}={name}")[group], resolve=True)


def random_config(name: str) -> Any:
    """The shape of a model with random weights: OPT-125M (arXiv:2205.01068) or SmolLM2-135M (arXiv:2502.02737)."""
    from transformers import LlamaConfig, OPTConfig

    if name == "opt-125m-random":
        return OPTConfig(
            vocab_size=50272,
            hidden_size=768,
            word_embed_proj_dim=768,
            num_hidden_layers=12,
            ffn_dim=3072,
            num_attention_heads=12,
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
    return instantiate.build(_node("task", "sst2"), "task")


def random_batch(model: Any, shape: Shape) -> list[Encoded]:
    """A batch of examples, each of a random prompt of ``shape.tokens`` tokens and two options of one token.

    Args:
        model: gives the vocabulary and the number of positions.
        shape: of the batch.

    Raises:
        ConfigError: if the model has fewer positions.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and shape.tokens > positions:
        raise ConfigError(f"--shape {shape}: the model has {positions} positions; give at most so many tokens")
    generator = torch.Generator().manual_seed(_SEED)
    # Above the special tokens, which a model may treat as padding.
    ids = torch.randint(4, model.config.vocab_size, (shape.batch, shape.tokens), generator=generator).tolist()
    options = [(4 + torch.randperm(model.config.vocab_size - 4, generator=generator)[:2]).tolist() for _ in ids]
    return [
        Encoded(Example(i, "", ("", ""), i % 2), tuple(Row((*prompt, option), 1) for option in pair))
        for i, (prompt, pair) in enumerate(zip(ids, options, strict=True))
    ]
