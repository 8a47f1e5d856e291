"""What a run is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zobench.models.base import Loaded
from zobench.objective import Criterion, Encoded, Objective
from zobench.protocols import Protocol
from zobench.run.parallel import Division
from zobench.system.memory import PeakMemory
from zobench.tasks.base import Task
from zobench.zo import Method


@dataclass(frozen=True)
class LoopSettings:
    """What the training loop goes by, in steps and examples; the names are those of the run's settings."""

    total_steps: int
    batch_size: int
    micro_batch_size: int | None
    eval_batch_size: int
    eval_every: int
    save_every: int | None
    snapshot_minutes: float | None
    log_every: int
    order_seed: int
    lens_every: int | None
    lens_draws: int
    lens_gradient: bool


@dataclass(frozen=True)
class TrainedModel:
    """A loaded model with what trains in it marked, and the method that trains it."""

    loaded: Loaded
    method: Method
    settings: LoopSettings
    #: the model's parameters by name as it was loaded, without what the tuning added
    as_loaded: Mapping[str, nn.Parameter]


@dataclass(frozen=True)
class Parts:
    """Everything a run is made of; ``facts`` are columns of its row."""

    device: torch.device
    peak: PeakMemory
    division: Division
    protocol: Protocol
    task: Task
    model: nn.Module
    as_loaded: Mapping[str, nn.Parameter]
    method: Method
    objective: Objective
    criterion: Criterion
    settings: LoopSettings
    train: list[Encoded]
    dev: list[Encoded]
    test: list[Encoded]
    facts: Mapping[str, Any]

    @property
    def cached(self) -> list[list[Encoded]]:
        """What the cache of frozen layers is filled with: rows drawn by ``data_seed``, and test rows, kept apart."""
        return [[*(self.train if self.settings.total_steps else []), *self.dev], self.test]

    @property
    def metric(self) -> str:
        """The measure by which dev chooses weights, and which is the result on test."""
        return self.criterion.metric(self.task)
