"""Prefix tuning: keys and values of a few virtual tokens train in each layer, and nothing else."""

from typing import Any

import torch

from zobench.errors import ConfigError
from zobench.models import facts
from zobench.models.base import ModelSpec
from zobench.models.tuning import Tuning
from zobench.objective import virtual_tokens
from zobench.zo.checks import within


class PrefixTuning(Tuning):
    """Virtual tokens before each layer's own, by their keys and values (arXiv:2101.00190), as MeZO has them.

    The parameters are the keys and values themselves, tokens × width, two of each layer: nothing reparametrises them.
    At first they are what the layers make of random tokens of the vocabulary (arXiv:2305.17333, Appendix E.5), drawn as
    princeton-nlp/MeZO @552cb1b draws them under the same seed. They take up no position. Nothing lies below the first
    layer's, so nothing is cached.

    Args:
        tokens: how many.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(self, *, tokens: int = 5):
        within("[1, 65536]", tokens=tokens)
        self.tokens = tokens

    def choose(self, model: Any, spec: ModelSpec, init_seed: int) -> None:
        there = facts.positions(model.config)
        if there is not None and self.tokens > there:
            raise ConfigError(f"tuning.tokens={self.tokens}: the model has {there} positions; give at most that")
        generator = torch.Generator().manual_seed(init_seed)
        vocabulary = model.config.get_text_config().vocab_size
        ids = torch.randint(0, vocabulary, (1, self.tokens), generator=generator)[0]
        virtual_tokens.add(model, ids.to(next(model.parameters()).device))
