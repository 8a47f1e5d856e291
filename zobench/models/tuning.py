"""Tunings: which parameters train.

A tuning marks them with ``requires_grad`` and may add modules; all else is frozen.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zobench.errors import ConfigError
from zobench.models.base import ModelSpec
from zobench.objective.layers import list_name
from zobench.objective.prefix import FINAL_NORM
from zobench.zo.checks import at_least, not_negative, positive, within
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


def _last_layers(model: Any, count: int) -> list[nn.Module]:
    """The model's last ``count`` layers; ConfigError if it has fewer."""
    layers = decoder_layers(model)
    if not 1 <= count <= len(layers):
        raise ConfigError(f"tuning.layers={count}: the model has {len(layers)} layers; give 1 to {len(layers)}")
    return list(layers)[-count:]


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
            The trainable (name, parameter) pairs, in the model's order.

        Raises:
            ConfigError: if the choice does not fit the model.
        """
        model.requires_grad_(False)
        self.choose(model, spec, init_seed)
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
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
    """The last transformer layers train, or some parameters of them.

    Args:
        layers: how many.
        only: regular expression searched in parameter names within these layers; None for all.
        final_norm: whether the norm before the head trains too.
        cache_gib: memory for the cached activations of the frozen part, in GiB.

    Raises:
        ValueError: for a number out of range, or if ``only`` is no regular expression.
    """

    def __init__(self, *, layers: int = 4, only: str | None = None, final_norm: bool = False, cache_gib: float = 4.0):
        at_least(1, layers=layers)
        not_negative(cache_gib=cache_gib)
        try:
            self.only = re.compile(only or "")
        except re.error as error:
            raise ValueError(f"only={only}: not a regular expression: {error}") from error
        self.layers, self.final_norm, self.cache_gib = layers, final_norm, cache_gib

    def choose(self, model: Any, spec: ModelSpec, init_seed: int) -> None:
        for layer in _last_layers(model, self.layers):
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
        layers: adapt the last so many layers; None for all.
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
        layers: int | None = None,
        cache_gib: float = 4.0,
    ):
        within("[1, 65536]", r=r)
        at_least(1, layers=layers)
        positive(alpha=alpha)
        not_negative(cache_gib=cache_gib)
        if targets is not None and not (isinstance(targets, list) and all(isinstance(name, str) for name in targets)):
            raise ValueError(f"targets={targets}: expected a list of names, [{targets}]")
        self.r, self.alpha, self.targets, self.layers, self.cache_gib = r, alpha, targets, layers, cache_gib

    def choose(self, model: Any, spec: ModelSpec, init_seed: int) -> None:
        targets = self.targets or spec.lora_targets
        layers = decoder_layers(model)
        first = len(layers) - len(_last_layers(model, self.layers)) if self.layers is not None else 0
        adapted = 0
        for index, layer in list(enumerate(layers))[first:]:
            for parent, name, linear in _linears(layer, targets):
                weight: Any = linear.weight
                if self.r > (longest := max(weight.shape)):
                    raise ConfigError(f"tuning.r={self.r}: {name} has sides of at most {longest}; give at most that")
                setattr(parent, name, LoRALinear(linear, self.r, self.alpha, mix(init_seed, index, tag(name))))
                adapted += 1
        if not adapted:
            raise ConfigError(f"tuning.targets={targets}: no linear module with such a name in the model's layers")


def _linears(layer: nn.Module, targets: list[str]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """The linear modules of a layer with these names: (parent, name, module)."""
    for parent in list(layer.modules()):
        for name, child in list(parent.named_children()):
            if name in targets and (isinstance(child, nn.Linear) or _is_transposed(child)):
                yield parent, name, child


def _is_transposed(module: nn.Module) -> bool:
    """Whether a module is GPT-2's ``Conv1D``, a linear map that keeps its weight as inputs × outputs."""
    return type(module).__name__ == "Conv1D"


class LoRALinear(nn.Module):
    """A linear module with its adapter: ``W x + (alpha / r) B A x`` (arXiv:2106.09685, equation 3).

    ``A ~ U(−1/√in, 1/√in)``, the Kaiming initialisation (a = √5) of the paper's code, and ``B = 0``: at first the
    module computes what ``linear`` does.

    Args:
        linear: the module that is adapted; its weight W stays.
        r: rank.
        alpha: the adapter is scaled by ``alpha / r``.
        seed: draws A.

    Example:
        >>> adapted = LoRALinear(nn.Linear(8, 4), r=2, alpha=16.0, seed=0)
        >>> x = torch.ones(3, 8)
        >>> adapted(x).equal(adapted.linear(x)), adapted.lora_a.shape, adapted.lora_b.shape
        (True, torch.Size([2, 8]), torch.Size([4, 2]))
    """

    def __init__(self, linear: Any, r: int, alpha: float, seed: int):
        super().__init__()
        self.linear = linear
        weight = linear.weight
        outputs, inputs = reversed(weight.shape) if _is_transposed(linear) else weight.shape
        bound = (1.0 / inputs) ** 0.5
        generator = torch.Generator().manual_seed(seed)
        a = torch.empty(r, inputs).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(a.to(weight))
        self.lora_b = nn.Parameter(torch.zeros(outputs, r).to(weight))
        self.scale = alpha / r

    def forward(self, x: Tensor) -> Tensor:
        """The adapted map of inputs (… × in) to outputs (… × out)."""
        return self.linear(x) + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale

    def merged(self) -> nn.Module:
        """The inner linear module, after the adapter was added to its weight in fp64 and rounded once to its dtype."""
        change = self.lora_b.detach().double() @ self.lora_a.detach().double() * self.scale
        change = change.T if _is_transposed(self.linear) else change
        weight = self.linear.weight
        with torch.no_grad():
            weight.copy_(weight.double() + change)
        return self.linear


def merge_lora(model: nn.Module) -> None:
    """Put a plain linear module with the same function in the place of each adapted one."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())
