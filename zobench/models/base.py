"""The base of all models: what zobench must know of one beyond its weights, and how it is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from zobench.errors import ModelError
from zobench.system.imports import importing
from zobench.zo.checks import at_least, within

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Loaded:
    """A causal language model of transformers in evaluation mode, and its tokenizer."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


class ModelSpec:
    """The facts of a model; subclasses know how to load it.

    Attributes:
        any_folder: whether the tokenizer may come from a folder of the user's, and so need not fit the facts.

    Args:
        max_length: longest sequence in tokens, prompt and answer together.
        start_token: the text of the token put in front of each sequence, by flavour, of which a protocol chooses one:
            ``native``, the tokenizer's own, and ``mezo``, that of the 2023 MeZO code. None for no token.
        lora_targets: names of the linear modules that LoRA adapts by default.
        parameters: how many weights the model has, a shared one counted once. For plans of sweeps, which estimate hours
            and memory before anything is loaded; None: such an estimate is not made.

    Attributes:
        any_folder: whether files of the user's choice may be loaded, which these facts need not fit.

    Raises:
        ValueError: for a length, a start token or a number of weights that cannot be one.
    """

    any_folder = False

    def __init__(
        self,
        *,
        max_length: int,
        start_token: Mapping[str, str | None],
        lora_targets: Sequence[str],
        parameters: int | None = None,
    ):
        within("[2, 16777216]", max_length=max_length)
        at_least(1, parameters=parameters)
        for flavour, token in start_token.items():
            if not (token is None or isinstance(token, str)):
                raise ValueError(f"start_token.{flavour}={token}: expected a token's text or null")
        self.max_length = max_length
        self.start_token = start_token
        self.lora_targets = list(lora_targets)
        self.parameters = parameters

    def load(self, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
        """Load model and tokenizer.

        Args:
            dtype: of the weights.
            device: where the weights go.
            attention: the attention implementation, a name that transformers knows: ``sdpa`` or ``eager``; a model
                without ``sdpa`` is loaded with ``eager``.

        Raises:
            ModelError: if either cannot be had.
        """
        raise NotImplementedError

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Load the tokenizer alone.

        Raises:
            ModelError: if it cannot be had.
        """
        raise NotImplementedError

    def start_id(self, tokenizer: Any, flavour: str) -> int | None:
        """The id of the start token of a flavour, ``native`` or ``mezo``; None for no token.

        Raises:
            ModelError: if the tokenizer does not know the token.
        """
        token = self.start_token[flavour]
        if token is None:
            return None
        token_id = tokenizer.convert_tokens_to_ids(token)
        if token_id is None or (token_id == tokenizer.unk_token_id and token != tokenizer.unk_token):
            raise ModelError(
                f"the tokenizer has no start token {token!r}; set model.start_token.{flavour} to one it has, or null"
            )
        return int(token_id)

    def start_doubt(self, tokenizer: Any, flavour: str) -> str | None:
        """Why the start token may be another family's, in one line; None where it is what the tokenizer puts in front.

        A tokenizer that puts nothing in front is taken to begin with its ``bos_token``, or with nothing.
        """
        if flavour != "native" or not self.any_folder:
            return None
        start = self.start_id(tokenizer, flavour)
        plain, whole = (tokenizer("x", add_special_tokens=special)["input_ids"] for special in (False, True))
        added = len(whole) > len(plain) and whole[0] != plain[0]
        expected = [whole[0]] if added else [None, tokenizer.bos_token_id]
        if start in expected:
            return None
        texts = ["none" if i is None else repr(tokenizer.convert_ids_to_tokens(i)) for i in (start, expected[-1])]
        here = "this tokenizer puts" if added else "this tokenizer's first token would be"
        return (
            f"warning: every prompt begins with {texts[0]} (model.start_token.native), where {here} {texts[1]}; is the "
            "model of the family that model= names?"
        )


def silence_libraries() -> None:
    """Import what loads models, with its progress bars and warnings turned off."""
    with importing():
        import transformers.modeling_utils  # noqa: F401
        from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
