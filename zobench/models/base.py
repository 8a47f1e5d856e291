"""The base of all models: what zobench must know of one beyond its weights, and how it is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from zobench.errors import ConfigError, ModelError
from zobench.models import facts
from zobench.system.imports import importing
from zobench.zo.checks import at_least, one_of, within

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Loaded:
    """A causal language model of transformers in evaluation mode, and its tokenizer."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


class ModelSpec:
    """The facts of a model; subclasses know how to load it.

    What is left open, ``complete`` takes from the model once it is loaded.

    Args:
        max_length: longest sequence in tokens, prompt and answer together; None: what model and tokenizer are made for,
            and at most 2048.
        start_token: the text of the token put in front of each sequence, by flavour, of which a protocol chooses one:
            ``native``, the tokenizer's own, and ``mezo``, that of the 2023 MeZO code. None for no token, ``auto`` for
            what the tokenizer puts in front.
        lora_targets: names of the linear modules that LoRA adapts by default; None: query and value projections.
        attention: the attention implementation, ``sdpa`` or ``eager``; None: the protocol's.
        parameters: how many weights the model has, a shared one counted once. For plans of sweeps, which estimate hours
            and memory before anything is loaded; None: such an estimate is not made.

    Attributes:
        any_folder: whether files of the user's choice may be loaded, which these facts need not fit.
        commit: of the hub, once the model is loaded from there.

    Raises:
        ValueError: for a length, a start token or a number of weights that cannot be one.
    """

    any_folder = False
    commit: str | None = None

    def __init__(
        self,
        *,
        max_length: int | None,
        start_token: Mapping[str, str | None],
        lora_targets: Sequence[str] | None,
        attention: Literal["sdpa", "eager"] | None = None,
        parameters: int | None = None,
    ):
        within("[2, 16777216]", max_length=max_length)
        if attention is not None:
            one_of(("sdpa", "eager"), attention=attention)
        at_least(1, parameters=parameters)
        for flavour, token in start_token.items():
            if not (token is None or isinstance(token, str)):
                raise ValueError(f"start_token.{flavour}={token}: expected a token's text or null")
        self._max_length = max_length
        self.start_token = dict(start_token)
        self.targets = None if lora_targets is None else list(lora_targets)
        self.attention, self.parameters = attention, parameters
        self._linears: list[str] = []

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens."""
        assert self._max_length is not None, "it is the loaded model's, see complete"
        return self._max_length

    @property
    def lora_targets(self) -> list[str]:
        """Names of the linear modules that LoRA adapts by default; ConfigError for a model that has none."""
        if self.targets is None or (self._linears and not self.targets):
            raise ConfigError(
                "tuning=lora: which modules give queries and values is not known for this model; name those to adapt, "
                f"tuning.targets=[...], of its linear modules {', '.join(self._linears) or '(it has none in layers)'}"
            )
        return self.targets

    def check(self) -> None:
        """Look at what can be seen without loading the weights; ModelError if the model cannot be used."""

    def complete(self, loaded: Loaded) -> None:
        """Take from a loaded model what its settings leave open; what they say stays."""
        self.complete_texts(loaded.model.config, loaded.tokenizer)
        if self.targets is None:
            self._linears = facts.linear_names(loaded.model)
            self.targets = facts.query_and_value(self._linears)

    def complete_texts(self, config: Any, tokenizer: Any) -> None:
        """The part of ``complete`` that texts need: the longest sequence and the start tokens."""
        if self._max_length is None:
            self._max_length = facts.longest(config, tokenizer)
        if "auto" in self.start_token.values():
            native = facts.first_token(tokenizer)
            of_2023 = "<s>" if config.model_type == "opt" and "<s>" in tokenizer.get_vocab() else native
            own = {"native": native, "mezo": of_2023}
            self.start_token = {k: own.get(k, native) if v == "auto" else v for k, v in self.start_token.items()}

    def check_length(self, config: Any) -> None:
        """Raises ConfigError if a model of this configuration has fewer positions than the longest sequence."""
        there = facts.positions(config)
        if there is not None and self.max_length > there:
            raise ConfigError(f"model.max_length={self.max_length}: the model has {there} positions; set at most that")

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
        added = facts.first_token(tokenizer)
        expected = [None, tokenizer.bos_token_id] if added is None else [tokenizer.convert_tokens_to_ids(added)]
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
