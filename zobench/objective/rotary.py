"""Rotary embeddings whose frequencies depend on the longest sequence of a batch."""

from collections.abc import Collection, Mapping
from typing import Any


def mixes_frequencies(model: Any, lengths: Collection[int]) -> bool:
    """Whether a batch of these lengths gives some of its sequences other frequencies than they have alone.

    LongRoPE (arXiv:2402.13753) has two sets of frequencies, and transformers takes one of them for a whole batch: the
    long ones as soon as one sequence is longer than the model was first trained with.

    Args:
        model: of transformers.
        lengths: of all sequences that may be in one batch, in tokens.

    Example:
        >>> from transformers import Phi3Config
        >>> from types import SimpleNamespace
        >>> rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
        >>> sizes = {"hidden_size": 32, "num_attention_heads": 4, "original_max_position_embeddings": 16}
        >>> config = Phi3Config(**sizes, pad_token_id=0, rope_parameters=rope)
        >>> [mixes_frequencies(SimpleNamespace(config=config), lengths) for lengths in ([9, 16], [9, 17], [17, 40])]
        [False, True, False]
    """
    config = model.config.get_text_config() if hasattr(model, "config") else None
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, Mapping))]  # one for each kind of layer, or one
    switches = [part.get("original_max_position_embeddings") for part in parts if part.get("rope_type") == "longrope"]
    return any(switch and min(lengths) <= switch < max(lengths) for switch in switches)
