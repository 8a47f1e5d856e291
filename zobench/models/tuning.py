"""Tunings: which parameters train.

A tuning marks them with ``requires_grad`` and may add modules; all else is frozen.
"""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from zobench.config import layers as choices
from zobench.errors import ConfigError
from zobench.models.adapters import inject, is_transposed, named_parameters
from zobench.models.base import ModelSpec
from zobench.objective.layers import list_name
from zobench.objective.prefix import FINAL_NORM
from zobench.zo.checks import not_negative, positive, within
from zobench.zo.keys import mix, tag


def decoder_layers(model: Any) -> nn.ModuleList:
    """The list of a model's transformer layers, the lowest first.

    Raises:
        ConfigError: if the model's decoder has no list of them.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    name = list_name(decoder)
    if name is None:
        raise ConfigError(f"{type(model).__name__} does not keep its layers in one list; use tuning=full")
    return getattr(decoder, name)


def _chosen(model: Any, layers: choices.LayerChoice) -> dict[int, nn.Module]:
    """The chosen layers of a model by their places; ConfigError if it has no such layers."""
    there = decoder_layers(model)
    try:
        return {place: there[place] for place in choices.chosen(layers, len(there))}
    except ValueError as error:
        raise ConfigError(f"tuning.{error}") from error


class Tuning:
    """The base of all tunings: freezes the model, then lets ``choose`` mark what trains.

    Attributes:
        cache_gib: memory for cached activations of the frozen part, in GiB; 0 for no cache.
    """

    cache_gib: float = 0.0

    def apply(self, model: Any, spec: ModelSpec, init_seed: int) -> list[tuple[str, nn.Parameter]]:
        """Prepare the model for training.

        Args:
            model: of transformers; changed in place.
            spec: the model's facts.
            init_seed: draws the initial values of modules that are added.

        Returns:
            The trainable (name, parameter) pairs as records name them, in the model's order.

        Raises:
            ConfigError: if the choice does not fit the model.
        """
        model.requires_grad_(False)
        self.choose(model, spec, init_seed)
        named = [(n, p) for n, p in named_parameters(model) if p.requires_grad]
        if not named:
            raise ConfigError("tuning: no parameter is left to train; loosen tuning.only or tuning.targets")
        return named

    def choose(self, model: Any, spec: ModelSpec, init_seed: int) -> None:
        """Mark what trains in a model of which nothing does. Takes the arguments of ``apply``."""
        raise NotImplementedError


class Full(Tuning):
    """Full tuning: every parameter trains."""

    def choose(self, model: Any, spec: ModelSpec, init_seed: int) -> None:
        model.requires_grad_(True)


class LastLayers(Tuning):
    """Some transformer layers train, or some parameters of them: the last ones, or any that are named.

    What lies below the first of them is computed once per sequence; frozen layers above it run and are not perturbed.

    Args:
        layers: k, the last k; or places from 0: a range such as ``4-7``, both ends included, or a list.
        only: regular expression searched in parameter names within these layers; None for all.
        final_norm: whether the norm before the head trains too.
        cache_gib: memory for the cached activations of the frozen part, in GiB.

    Raises:
        ValueError: for a number out of range, or if ``only`` is no regular expression.
    """

    def __init__(
        self,
        *,
        layers: choices.LayerChoice = 4,
        only: str | None = None,
        final_norm: bool = False,
        cache_gib: float = 4.0,
    ):
        choices.check(layers)
        not_negative(cache_gib=cache_gib)
        try:
            self.only = re.compile(only or "")
        except re.error as error:
            raise ValueError(f"only={only}: not a regular expression: {error}") from error
        self.layers, self.final_norm, self.cache_gib = layers, final_norm, cache_gib

    def choose(self, model: Any, spec: ModelSpec, init_seed: int) -> None:
        for layer in _chosen(model, self.layers).values():
            for name, param in layer.named_parameters():
                param.requires_grad_(self.only.search(name) is not None)
        if self.final_norm:
            for name, child in model.get_decoder().named_children():
                if FINAL_NORM.search(name):
                    child.requires_grad_(True)


class LoRA(Tuning):
    """Low-rank adapters on linear modules train, and nothing else (LoRA, arXiv:2106.09685).

    Args:
        r: rank.
        alpha: the adapter is scaled by ``alpha / r``.
        targets: last parts of module names; None for the model's query and value projections.
        layers: which are adapted: k, the last k; or places from 0, a range or a list; None for all.
        cache_gib: memory for the cached activations of the frozen part, in GiB.

    Raises:
        ValueError: for a number out of range, or targets that are no list.
    """

    def __init__(
        self,
        *,
        r: int = 8,
        alpha: float = 16.0,
        targets: list[str] | None = None,
        layers: choices.LayerChoice | None = None,
        cache_gib: float = 4.0,
    ):
        within("[1, 65536]", r=r)
        if layers is not None:
            choices.check(layers)
        positive(alpha=alpha)
        not_negative(cache_gib=cache_gib)
        if targets is not None and not (isinstance(targets, list) and all(isinstance(name, str) for name in targets)):
            raise ValueError(f"targets={targets}: expected a list of names, [{targets}]")
        self.r, self.alpha, self.targets, self.layers, self.cache_gib = r, alpha, targets, layers, cache_gib

    def choose(self, model: Any, spec: ModelSpec, init_seed: int) -> None:
        targets = self.targets or spec.lora_targets
        layers = dict(enumerate(decoder_layers(model))) if self.layers is None else _chosen(model, self.layers)
        names = {id(module): name for name, module in model.named_modules()}
        seeds = {}
        for index, layer in layers.items():
            for name, linear in _linears(layer, targets):
                weight: Any = linear.weight
                if self.r > (longest := max(weight.shape)):
                    raise ConfigError(f"tuning.r={self.r}: {name} has sides of at most {longest}; give at most that")
                seeds[names[id(linear)]] = mix(init_seed, index, tag(name))
        if not seeds:
            raise ConfigError(f"tuning.targets={targets}: no linear module with such a name in the model's layers")
        inject(model, seeds, r=self.r, alpha=self.alpha)


def _linears(layer: nn.Module, targets: list[str]) -> Iterator[tuple[str, nn.Module]]:
    """The linear modules of a layer with these names: (last part of the name, module)."""
    for path, module in layer.named_modules():
        name = path.rpartition(".")[2]
        if name in targets and (isinstance(module, nn.Linear) or is_transposed(module)):
            yield name, module
