"""A tiny causal language model and rows for it, so that the examples run anywhere in seconds."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def model() -> LlamaForCausalLM:
    """Two layers with random weights, the same ones each time."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=32, **sizes))


def rows(n: int = 32) -> list[dict[str, torch.Tensor]]:
    """Sequences of eight tokens of which the last repeats the first; only that one has a label."""
    draw = torch.Generator().manual_seed(1)
    ids = [torch.randint(0, 64, (8,), generator=draw) for _ in range(n)]
    for each in ids:
        each[-1] = each[0]
    return [{"input_ids": each, "labels": torch.where(torch.arange(8) < 7, -100, each)} for each in ids]
