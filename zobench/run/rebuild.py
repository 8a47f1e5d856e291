"""A run's weights, made again from its record: the base model, the configuration and the trajectory."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from zobench.config.signature import SCHEMA, digest
from zobench.errors import ConfigError, DataError, UserError
from zobench.models.base import Loaded
from zobench.models.tuning import Tuning
from zobench.record import archive, checkpoint, configs, summaries, trajectory
from zobench.record.archive import Place
from zobench.record.reading import Missing, Unreadable
from zobench.run import trust
from zobench.run.build import build_trained, specs
from zobench.system.console import Console
from zobench.system.devices import pick_device
from zobench.zo import Method


@dataclass(frozen=True)
class Rebuilt:
    """A model as it was after a step of a run."""

    loaded: Loaded
    method: Method
    tuning: Tuning
    cfg: DictConfig
    summary: dict[str, Any]
    step: int
    #: the hash of the trainable weights that the record holds for this step, or None
    expected: str | None

    @property
    def model(self) -> nn.Module:
        """The model with the weights of that step."""
        return self.loaded.model

    @cached_property
    def checksum(self) -> str:
        """The hash of the trainable weights as they were made again."""
        return checkpoint.checksum(self.method.slots)


def rebuild(
    address: str | os.PathLike[str],
    step: str,
    console: Console,
    *,
    device: str | None = None,
    replay: bool = False,
    allow: Sequence[str] = (),
) -> Rebuilt:
    """Make the model as it was after a step of a run.

    Args:
        address: the run's directory, or its path in a zip of records, ``FILE.zip/<path inside>``.
        step: ``best``, ``last`` or a number.
        device: where to do it; where the run was, if None.
        replay: go along the trajectory from the base model even where weights were kept.
        allow: packages beside zobench whose classes the record may name; they are imported.

    Raises:
        UserError: if the directory holds no run, or not what is asked for; if the base model is another one.
    """
    run = archive.locate(address)
    cfg, summary = _read(run, allow)
    wanted = _step(step, summary)
    kept = run / "checkpoint" / f"best-{wanted:08d}.safetensors"  # weights stay out of zips
    protocol, spec, tuning = specs(cfg)
    trained = build_trained(cfg, pick_device(device or str(cfg.device)), protocol, spec, tuning)
    slots = trained.method.slots
    if isinstance(kept, Path) and kept.is_file() and not replay:
        checkpoint.restore(slots, checkpoint.load_best(kept.parent, wanted))
    elif trained.method.backwards_per_step:
        raise UserError(
            f"{run}: method={summary['method']} steps by gradients, which the trajectory does not hold; run it with "
            "keep_weights=true"
        )
    else:
        base, model = checkpoint.checksums(trained.loaded.model, slots)
        _check_base(run, "trainable weights", summary.get("base_checksum"), base)
        _check_base(run, "weights", summary.get("model_checksum"), model)
        with console.task("replaying", wanted) as bar:
            trajectory.replay(trained.method, run, wanted, bar.advance)
    return Rebuilt(trained.loaded, trained.method, tuning, cfg, summary, wanted, _expected(wanted, summary))


def _read(run: Place, allow: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    try:
        settings = trust.read(run, allow)
    except Missing:
        raise UserError(
            f"{run}: no config.yaml there; give a run's directory, runs/<task>/<model>/<method>/<signature>, or its "
            "path in a zip of records, FILE.zip/<task>/<model>/<method>/<signature>"
        ) from None
    try:
        summary = summaries.read(run)
    except Missing:
        summary = {}
    if summary.get("schema") == SCHEMA and (name := digest(settings)) != summary.get("config_hash"):
        reason = f"its settings are those of a run {name}, but the run is named {summary.get('config_hash')}"
        raise Unreadable(run / configs.NAME, reason)
    return OmegaConf.create(settings), summary


def _step(step: str, summary: dict[str, Any]) -> int:
    known = {"best": summary.get("best_step"), "last": summary.get("steps")}
    found = known[step] if step in known else int(step) if step.isdecimal() and len(step) < 19 else None
    if found is None:
        state = summary.get("state", "not there")
        said = "it has none yet" if step in known else "expected best, last or a number"
        raise ConfigError(f"step={step}: {said}; the run is {state}, best {known['best']}, last {known['last']}")
    if found > (known["last"] or found):
        raise ConfigError(f"step={step}: the run has {known['last']} steps")
    return found


def _expected(step: int, summary: dict[str, Any]) -> str | None:
    """The record's checksum of a step. A step that diverged or failed half-way has left its rounding in the weights."""
    if step == summary.get("best_step"):
        return summary.get("best_weights_checksum")
    ended_after_it = step == summary.get("steps") and summary.get("state") in ("finished", "interrupted")
    return summary.get("weights_checksum") if ended_after_it else None


def _check_base(run: Place, what: str, then: str | None, now: str) -> None:
    if then not in (None, now):
        raise DataError(
            f"{run} started from a base model whose {what} hash to {then}, these to {now}: model files, dtype or "
            "library changed since"
        )
