"""Which implementation of attention a model is loaded with."""

from typing import Any


def supported(config: Any, asked: str) -> str:
    """The implementation that is asked for, or ``eager`` where transformers has no scaled-dot-product attention.

    Without this, transformers refuses such models (Gemma 2, GPT-J, Bloom, Mamba) and says to open an issue.

    Args:
        config: the model's, of transformers.
        asked: ``sdpa`` or ``eager``.
    """
    from transformers import AutoModelForCausalLM

    kind = AutoModelForCausalLM._model_mapping.get(type(config), None)
    return "eager" if asked == "sdpa" and not getattr(kind, "_supports_sdpa", True) else asked
