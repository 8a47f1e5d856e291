"""What a run minimises: made of its configuration, and held against its method, protocol and processes."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config import instantiate
from zobench.config.settings import no_gradient
from zobench.errors import ConfigError
from zobench.objective import Criterion, Loss, metrics
from zobench.objective.own_score import KEY, OwnScore
from zobench.protocols import Protocol
from zobench.tasks.base import Task
from zobench.zo import Method


def criterion_of(cfg: DictConfig) -> Criterion:
    """What is minimised, without a user's function; the loss, for stored configurations that knew nothing else."""
    if cfg.get("objective") is None:
        return Loss()
    node: Any = OmegaConf.to_container(cfg.objective, resolve=True)
    criterion: Criterion = instantiate.build(node, "objective", kind=Criterion)
    return criterion


def with_own_score(cfg: DictConfig) -> Criterion:
    """``criterion_of``, with the user's function imported: for runs that a user starts, never for what is read.

    Raises:
        ConfigError: if there is no such function.
    """
    criterion, path = criterion_of(cfg), cfg.objective.get("score")
    if path is not None:
        criterion.own = OwnScore(path, instantiate.function(path, KEY))
    return criterion


def check(
    criterion: Criterion, cfg: DictConfig, method: Method, task: Task, protocol: Protocol, processes: int
) -> None:
    """Refuse what does not go with a criterion without a gradient.

    Args:
        method: of the run, or a stand-in with its settings.
        processes: how many share the work.

    Raises:
        ConfigError: for a method that takes derivatives, a protocol that has losses alone, or shares of a batch where
            the score is no mean over examples.
    """
    if criterion.differentiable:
        return
    if method.differentiates:
        raise ConfigError(no_gradient(cfg.choices.method))
    if not protocol.micro_batches:
        raise ConfigError(
            f"objective={cfg.choices.objective}: protocol={cfg.choices.protocol} reproduces runs that minimise losses; "
            "set protocol=clean"
        )
    metric = criterion.metric(task)
    if processes > 1 and cfg.parallel == "data" and metric in metrics.OF_CLASSES:
        raise ConfigError(
            f"parallel=data: {metric} is no mean over examples, so that no process has its share of it; set "
            "parallel=queries, or choose a task that is measured by accuracy"
        )
