"""A run's model and batches for loops that are not the runner's."""

from pathlib import Path
from typing import Any

from zobench.config.signature import compose
from zobench.objective import Encoded
from zobench.record.checkpoint import checksum
from zobench.run.build import build
from zobench.run.parts import Parts
from zobench.run.runner import run
from zobench.system.console import Console
from zobench.zo import Team, make_slots

WORDS = ("model=tiny-llama", "task=sst2", "data=mini", "wandb=disabled", "batch_size=4", "eval_every=100", "threads=1")


def settings_of(runs: Path, *words: str) -> Any:
    """The configuration of a small run."""
    return compose(*WORDS, f"runs_dir={runs}", *words)


def row_of(cfg: Any) -> dict[str, Any]:
    """The row of ``python -m zobench`` with this configuration."""
    return run(cfg)


def parts_of(cfg: Any) -> Parts:
    """The parts that such a run is made of, with its weights before the first step."""
    return build(cfg, Console(quiet=True), Team())


def batch_of(parts: Parts, step: int) -> list[Encoded]:
    """The examples of a step of the run."""
    s = parts.settings
    return [parts.train[i] for i in parts.protocol.batch(step, len(parts.train), s.batch_size, s.order_seed)]


def checksum_of(parts: Parts) -> str:
    """The hash of the trainable weights, as a row has it."""
    return checksum(make_slots(parts.model.named_parameters()))
