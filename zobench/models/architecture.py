"""What a ``config.json`` describes: whether it is a causal language model, and one as large as its weights."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zobench.errors import first_line, shown
from zobench.models.folder import Stored, Unusable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: numbers that a description may claim whatever the weights are: memory for them is no matter
_HARMLESS = 10**9
#: families whose attention goes both ways unless ``is_decoder`` is set, beside those that transformers lists as such
_MASKED = ("bert-generation",)
#: what the classes of models with another head than that over the vocabulary end with
_OTHER_HEADS = ("Classification", "QuestionAnswering")


def causal_config(folder: Path, settings: dict[str, Any]) -> Any:
    """The configuration of a folder's model by transformers, which must be of a causal language model.

    Args:
        settings: the content of ``config.json``.

    Raises:
        Unusable: if it is of another kind of model, or of one that comes with its own code.
    """
    import transformers
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoConfig

    family = settings.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        code = "; its own code (auto_map) is not run" if settings.get("auto_map") else ""
        raise Unusable(
            f"config.json has model_type={shown(family)}, which transformers {transformers.__version__} does not "
            f"know{code}"
        )
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each family reads its settings in its own way
        raise Unusable(f"config.json cannot be used: {first_line(error)}") from error
    kind = type(config)
    if getattr(config, "is_encoder_decoder", False):
        raise Unusable(f"{shown(family)} is an encoder with a decoder; expected a causal language model")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise Unusable(f"{shown(family)} is no causal language model, so it cannot be used")
    named = config.architectures if isinstance(config.architectures, list) else []
    classes = [name for name in named if str(name).endswith(_OTHER_HEADS)]
    if classes:
        raise Unusable(f"it is a {shown(classes[0])}, whose head chooses no tokens; expected a causal language model")
    both_ways = getattr(config, "use_bidirectional_attention", False) or getattr(config, "is_causal", True) is False
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING or family in _MASKED
    if both_ways or (masked and not getattr(config, "is_decoder", False)):
        raise Unusable(f"{shown(family)} sees tokens to its right as this one is set; expected a causal language model")
    return config


def outline(config: Any, stored: dict[str, Stored], attention: str) -> "PreTrainedModel":
    """The model of a configuration without any weights, after a check that it is about as large as the stored ones.

    It holds back what would take the machine's memory or hours: ``hidden_size`` of a billion, a billion layers.

    Args:
        stored: the tensors of the folder.
        attention: the attention implementation.

    Raises:
        Unusable: if it is not, or if transformers cannot build such a model.
    """
    from transformers import AutoModelForCausalLM

    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > len(stored):
        raise Unusable(f"config.json has num_hidden_layers={shown(layers)}, and there are {len(stored)} tensors in all")
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                copy.deepcopy(config), attn_implementation=attention, trust_remote_code=False
            )
    except Exception as error:  # each family builds its modules in its own way
        raise Unusable(f"no model can be built as config.json says: {first_line(error)}") from error
    described = sum(tensor.numel() for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
    held = sum(tensor.numel for tensor in stored.values())
    if described > _HARMLESS and described > 2 * held:
        raise Unusable(f"config.json describes a model of {described:,} numbers, its weights hold {held:,}")
    return model
