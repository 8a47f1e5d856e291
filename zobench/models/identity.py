"""What a loaded model is, for the row of a run."""

from typing import TYPE_CHECKING

from zobench.models.adapters import adapted

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def model_family(model: "PreTrainedModel") -> str:
    """The model's architecture by transformers' name, its ``config.model_type``: ``opt``, ``llama``."""
    return str(model.config.model_type)


def model_parameters(model: "PreTrainedModel") -> int:
    """How many weights a model has: a shared one counted once, the adapters of LoRA left out."""
    adapters = {id(p) for m in adapted(model).values() for part in (m.lora_A, m.lora_B) for p in part.parameters()}
    return sum(param.numel() for param in model.parameters() if id(param) not in adapters)
