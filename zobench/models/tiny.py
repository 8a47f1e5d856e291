"""Models of random weights with a small tokenizer, built offline in a second: for code paths and tests."""

from pathlib import Path
from typing import Any

import torch

from zobench.models.base import Loaded, ModelSpec, silence_libraries
from zobench.zo.checks import within

#: a Hugging Face tokenizer file
TOKENIZER = Path(__file__).parent / "tiny_tokenizer.json"
_WEIGHT_SEED = 20260101
_HEADS = 4


class _Tiny(ModelSpec):
    """A model with weights from a fixed seed and 4 attention heads.

    Args:
        layers: number of transformer layers.
        hidden: their width.
        facts: the arguments of ``ModelSpec``.

    Raises:
        ValueError: for a shape that cannot be one, or that is not tiny.
    """

    def __init__(self, *, layers: int, hidden: int, **facts: Any):
        super().__init__(**facts)
        within("[1, 64]", layers=layers)
        within("[4, 4096]", hidden=hidden)
        if hidden % _HEADS:
            raise ValueError(f"hidden={hidden}: must be a multiple of {_HEADS}, the number of attention heads")
        self.layers, self.hidden = layers, hidden

    def load(self, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
        silence_libraries()
        from transformers import AutoModelForCausalLM

        tokenizer = tiny_tokenizer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_WEIGHT_SEED)
            model = AutoModelForCausalLM.from_config(self.config(len(tokenizer)), attn_implementation=attention)
        return Loaded(model.to(device=device, dtype=dtype).eval(), tokenizer)

    def tokenizer(self) -> Any:
        silence_libraries()
        return tiny_tokenizer()

    def config(self, vocabulary: int) -> Any:
        """The configuration of transformers for so many tokens."""
        raise NotImplementedError


class TinyOPT(_Tiny):
    """A random model of the OPT architecture (arXiv:2205.01068), with a tied head."""

    def config(self, vocabulary: int) -> Any:
        from transformers import OPTConfig

        return OPTConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden,
            word_embed_proj_dim=self.hidden,
            num_hidden_layers=self.layers,
            ffn_dim=2 * self.hidden,
            num_attention_heads=_HEADS,
            max_position_embeddings=self.max_length,
            dropout=0.0,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )


class TinyLlama(_Tiny):
    """A random model of the Llama architecture (arXiv:2302.13971), with grouped key-value heads and an untied head."""

    def config(self, vocabulary: int) -> Any:
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            intermediate_size=2 * self.hidden,
            num_attention_heads=_HEADS,
            num_key_value_heads=2,
            max_position_embeddings=self.max_length,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )


def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer of 1,024 tokens, trained on the texts in ``data/mini``.

    Its special tokens are <s> 0, <pad> 1, </s> 2 and <unk> 3, OPT's ids.

    Example:
        >>> tokenizer = tiny_tokenizer()
        >>> ids = tokenizer("It was great", add_special_tokens=False)["input_ids"]
        >>> tokenizer.decode(ids), tokenizer.convert_tokens_to_ids("</s>")
        ('It was great', 2)
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(TOKENIZER), bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
