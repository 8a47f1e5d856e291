"""What zobench must know of a model beyond its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from zobench.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Loaded:
    """A causal language model in evaluation mode, and its tokenizer."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


class ModelSpec:
    """Facts of a model; subclasses know how to load it.

    Args:
        max_length: longest sequence in tokens, prompt and answer together.
        start_token: the token put in front of each sequence, by protocol: ``native`` and ``mezo``; None for none.
        lora_targets: names of the linear modules that LoRA adapts by default.
    """

    def __init__(self, *, max_length: int, start_token: Mapping[str, str | None], lora_targets: Sequence[str]):
        if max_length < 2:
            raise ValueError(f"max_length={max_length}: must be at least 2")
        for flavour, token in start_token.items():
            if not (token is None or isinstance(token, str)):
                raise ValueError(f"start_token.{flavour}={token}: expected a token's text or null")
        self.max_length = max_length
        self.start_token = start_token
        self.lora_targets = list(lora_targets)

    def load(self, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
        """Load model and tokenizer.

        Raises:
            ModelError: if either cannot be had.
        """
        raise NotImplementedError

    def start_id(self, tokenizer: Any, flavour: str) -> int | None:
        """The id of the start token.

        Raises:
            ModelError: if the tokenizer does not know it.
        """
        token = self.start_token[flavour]
        if token is None:
            return None
        found = tokenizer.convert_tokens_to_ids(token)
        if found is None or (found == tokenizer.unk_token_id and token != tokenizer.unk_token):
            raise ModelError(
                f"the tokenizer has no start token {token!r}; set model.start_token.{flavour} to one it has, or null"
            )
        return int(found)


def quiet() -> None:
    """No progress bars and warnings from model libraries."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
