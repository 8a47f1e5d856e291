"""What is compared: pairs of forward passes, and steps of methods, of plain torch and of the official code."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from zobench.bench import models
from zobench.bench.official import OfficialStep
from zobench.bench.plain import PlainStep
from zobench.bench.spec import Shape, Spec, overrides
from zobench.config import instantiate
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.objective import Objective, check
from zobench.objective.rows import TokenRows
from zobench.zo import Method

TRIMMED, PLAIN, PLAIN_STEP = "two trimmed forwards", "two plain forwards", "plain torch step"
OFFICIAL, OFFICIAL_OPTIONS = "official step", "official step, row per option"
#: so small that no step changes what the next one costs
_LR = 1e-8
Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Subject:
    """One thing to measure.

    Attributes:
        name: as the table has it.
        loss: a function that runs one forward pass and gives the loss.
        work: does the thing once, with the loss it is given.
        passes: how often it goes over the weights, from its number of forward passes; 0 where that means nothing.
        state_bytes: bytes that it holds between steps beside the weights.
        fed: what the model is given, as ``rows x columns`` of tokens.
    """

    name: str
    loss: Loss
    work: Callable[[Loss], object]
    passes: Callable[[int], int] = lambda forwards: 0
    state_bytes: Callable[[], int] = lambda: 0
    fed: str = ""


def names(spec: Spec) -> list[str]:
    """The names of all subjects, in the order of the table."""
    return [TRIMMED, PLAIN, *spec.methods, PLAIN_STEP, *([OFFICIAL, OFFICIAL_OPTIONS] if spec.official else [])]


def make(spec: Spec, name: str, model: Any, shape: Shape) -> Subject:
    """Make the subject of a name, for a model and a batch of a shape.

    Args:
        spec: what is asked for.
        name: one of ``names``.
        model: a causal language model.
        shape: of the batch.

    Raises:
        ConfigError: for a setting that a method refuses, or a shape that the model does.
    """
    if spec.official and name in (OFFICIAL, OFFICIAL_OPTIONS):
        return _official(Path(spec.official), name, model, shape)
    fed = str(shape)
    trimmed, plain = losses(model, shape)
    if name == TRIMMED:
        return Subject(name, trimmed, _two_forwards, fed=fed)
    if name == PLAIN:
        return Subject(name, plain, _two_forwards, fed=fed)
    if name == PLAIN_STEP:
        step = PlainStep(model.named_parameters(), lr=_LR)
        return Subject(name, plain, step.step, lambda forwards: step.passes, fed=fed)
    method = build_method(name, model.named_parameters())
    return Subject(name, trimmed, method.step, _passes(method), method.state_bytes, fed)


def _official(checkout: Path, name: str, model: Any, shape: Shape) -> Subject:
    batch = models.random_batch(model, shape)
    step = OfficialStep(checkout, model, batch, row_per_option=name == OFFICIAL_OPTIONS, lr=_LR)
    return Subject(name, step.loss, step.step, lambda forwards: step.passes, fed=step.fed)


def losses(model: Any, shape: Shape) -> tuple[Loss, Loss]:
    """A loss computed in two ways: as zobench does, and from the logits of every position.

    Args:
        model: a causal language model.
        shape: of the batch, which is made of random tokens.
    """
    batch = models.random_batch(model, shape)
    objective = Objective(model, None, models.task())
    check.settle(objective, batch)
    device = objective.device
    prompts = [example.rows[0].ids[:-1] for example in batch]
    options = torch.tensor([[row.ids[-1] for row in example.rows] for example in batch], device=device)
    gold = torch.tensor([example.gold for example in batch], device=device)

    def trimmed() -> Tensor:
        total, weight = objective.loss_sum(batch)
        return total / weight

    def plain() -> Tensor:
        logits = model(input_ids=TokenRows.padded(prompts, device).ids, use_cache=False).logits
        scores = F.log_softmax(logits, dim=-1)[:, -1].gather(-1, options)
        return F.cross_entropy(scores, gold)

    return trimmed, plain


def build_method(text: str, named_parameters: Any) -> Method:
    """Make the method that a text such as ``mezo:probes=2`` asks for.

    Args:
        text: ``name`` or ``name:setting=value+setting=value``.
        named_parameters: (name, tensor) pairs to train.

    Raises:
        ConfigError: for a setting it refuses, or a method that takes no steps.
    """
    asked = overrides(text)
    node: Any = OmegaConf.to_container(compose(*asked).method, resolve=True)
    if not instantiate.locate(node["_target_"], "method").trains:
        raise ConfigError(f"--methods {text}: it takes no steps; there is nothing to measure")
    if not any(part.startswith("method.lr=") for part in asked):
        node["lr"] = _LR
    return instantiate.build(node, "method", named_parameters, seed=0, total_steps=1000)


def _two_forwards(loss: Loss) -> None:
    with torch.inference_mode():
        for _ in range(2):
            loss()


def _passes(method: Method) -> Callable[[int], int]:
    """A walk moves the weights before each forward pass, and once more to update them."""
    return lambda forwards: 0 if method.backwards_per_step else forwards + 1
