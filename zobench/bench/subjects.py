"""What is compared: pairs of forward passes, and steps of methods, of plain torch and of the official code."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from zobench.bench import models
from zobench.bench.models import Tuned
from zobench.bench.official import OfficialStep
from zobench.bench.plain import PlainStep
from zobench.bench.spec import Shape, Spec, overrides, way_of
from zobench.config import instantiate
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.models.adapters import named_parameters
from zobench.objective import Encoded, MeanLoss, Objective, check
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
        state_bytes: bytes that it holds between steps beside the weights, memory for draws included.
        fed: what the model is given, as ``rows x columns`` of tokens.
        evaluation: how its offsets are evaluated; empty where there are none. Known once it has taken a step.
    """

    name: str
    loss: Loss
    work: Callable[[Loss], object]
    passes: Callable[[int], int] = lambda forwards: 0
    state_bytes: Callable[[], int] = lambda: 0
    fed: str = ""
    evaluation: Callable[[], str] = lambda: ""


def names(spec: Spec) -> list[str]:
    """The names of all subjects, in the order of the table.

    Plain forwards and steps run the whole model: they say nothing about a tuning of a part of it.
    """
    if spec.tuning != "full":
        return [TRIMMED, *spec.methods]
    return [TRIMMED, PLAIN, *spec.methods, PLAIN_STEP, *([OFFICIAL, OFFICIAL_OPTIONS] if spec.official else [])]


def make_all(spec: Spec, tuned: Tuned, shape: Shape) -> list[Subject]:
    """All subjects, which share their losses; takes and raises what ``make`` does."""
    both = losses(tuned, shape)
    return [make(spec, name, tuned, shape, both) for name in names(spec)]


def make(spec: Spec, name: str, tuned: Tuned, shape: Shape, both: tuple[Loss, Loss] | None = None) -> Subject:
    """Make the subject of a name, for a model and a batch of a shape.

    Args:
        spec: what is asked for.
        name: one of ``names``.
        tuned: a causal language model and what trains in it.
        shape: of the batch.
        both: what ``losses`` gives for them; None to make it.

    Raises:
        ConfigError: for a setting that a method refuses, or a shape that the model does.
    """
    if spec.official and name in (OFFICIAL, OFFICIAL_OPTIONS):
        return _official(Path(spec.official), name, tuned.model, shape)
    fed = str(shape)
    trimmed, plain = both or losses(tuned, shape)
    if name == TRIMMED:
        return Subject(name, trimmed, _two_forwards, fed=fed)
    if name == PLAIN:
        return Subject(name, plain, _two_forwards, fed=fed)
    if name == PLAIN_STEP:
        plain_step = PlainStep(trained(tuned.model), lr=_LR)
        return Subject(name, plain, plain_step.step, lambda forwards: plain_step.passes, fed=fed)
    method = build_method(name, named_parameters(tuned.model), spec.tuning)
    step = _forced(method, name)
    return Subject(
        name,
        trimmed,
        _with_further_batches(method, step),
        _passes(method),
        lambda: method.state_bytes() + method.held.bytes,
        fed,
        lambda: method.oracle.evaluation,
    )


def trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """The (name, parameter) pairs of a model that train."""
    return [(name, param) for name, param in model.named_parameters() if param.requires_grad]


def _official(checkout: Path, name: str, model: Any, shape: Shape) -> Subject:
    batch = models.random_batch(model, shape)
    step = OfficialStep(checkout, model, batch, row_per_option=name == OFFICIAL_OPTIONS, lr=_LR)
    return Subject(name, step.loss, step.step, lambda forwards: step.passes, fed=step.fed)


def settled(tuned: Tuned, batch: Sequence[Encoded]) -> Objective:
    """The objective that a run would take for a batch, its frozen layers' activations in the cache."""
    objective = Objective(tuned.model, None, models.task(), cache_gib=tuned.cache_gib)
    check.settle(objective, batch)
    objective.prepare(batch)
    return objective


def losses(tuned: Tuned, shape: Shape) -> tuple[Loss, Loss]:
    """A loss computed in two ways: as zobench does, and from the logits of every position.

    Args:
        tuned: a causal language model and what trains in it.
        shape: of the batch, which is made of random tokens.
    """
    model, batch = tuned.model, models.random_batch(tuned.model, shape)
    objective = settled(tuned, batch)
    device = objective.device
    trimmed = MeanLoss(objective, batch, objective.loss_rows(batch), load=objective.loss_load(batch))
    prompts = [example.rows[0].ids[:-1] for example in batch]
    options = torch.tensor([[row.ids[-1] for row in example.rows] for example in batch], device=device)
    gold = torch.tensor([example.gold for example in batch], device=device)

    def plain() -> Tensor:
        logits = model(input_ids=TokenRows.padded(prompts, device).ids, use_cache=False).logits
        scores = F.log_softmax(logits, dim=-1)[:, -1].gather(-1, options)
        return F.cross_entropy(scores, gold)

    return trimmed, plain


def build_method(text: str, named_parameters: Any, tuning: str = "full") -> Method:
    """Make the method that a text such as ``mezo:probes=2`` asks for.

    Args:
        text: ``name`` or ``name:setting=value+setting=value``.
        named_parameters: (name, tensor) pairs to train.
        tuning: in the same form; a method's defaults may depend on it.

    Raises:
        ConfigError: for a setting it refuses, or a method that takes no steps.
    """
    asked = overrides(text)
    node: Any = OmegaConf.to_container(compose(*overrides(tuning, "tuning"), *asked).method, resolve=True)
    if not instantiate.locate(node["_target_"], "method").trains:
        raise ConfigError(f"--methods {text}: it takes no steps; there is nothing to measure")
    if not any(part.startswith("method.lr=") for part in asked):
        node["lr"] = _LR
    return instantiate.build(node, "method", named_parameters, seed=0, total_steps=1000)


def _two_forwards(loss: Loss) -> None:
    with torch.inference_mode():
        for _ in range(2):
            loss()


def _forced(method: Method, name: str) -> Callable[[Loss], object]:
    """The step of a method whose oracle evaluates offsets in the way of a name, or in its own where it has none.

    The step raises ConfigError if that way is none for the method: directions without factors walk.
    """
    way = way_of(name)
    if not way:
        return method.step
    if way == "walk":
        method.oracle.stack_rows = 0
        method.oracle.begin(lambda: 0.0, [slot.name for slot in method.slots])
    elif way == "stacked":
        method.oracle.stack_rows = sys.maxsize

    def step(loss: Loss) -> None:
        # Of a plain function nothing is known that speaks for another way than the side path.
        method.step((lambda: loss()) if way == "side" else loss)
        if way not in method.oracle.evaluation:
            does = f"evaluates offsets by {method.oracle.evaluation}" if method.oracle.evaluation else "has no offsets"
            raise ConfigError(f"--methods {name}: with this model and batch it {does}; leave @{way} out")

    return step


def _with_further_batches(method: Method, step: Callable[[Loss], object]) -> Callable[[Loss], object]:
    """The step of a method whose further batches of a step are its own batch again."""

    def work(loss: Loss) -> None:
        method.oracle.further = lambda first, count: lambda: torch.stack([loss() for _ in range(count)]).mean()
        step(loss)

    return work


def _passes(method: Method) -> Callable[[int], int]:
    """A walk moves the weights before each forward pass, and once more to update them."""
    return lambda forwards: forwards + 1 if method.oracle.evaluation == "walk" else 0
