"""A run's weights, made again from its record: the base model, the configuration and the trajectory."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from zobench.config.arguments import check_step
from zobench.config.signature import SCHEMA, digest
from zobench.errors import ConfigError, DataError, UserError
from zobench.models.adapters import named_parameters
from zobench.models.base import Loaded
from zobench.models.tuning import Tuning
from zobench.objective.virtual_tokens import prefixed
from zobench.record import archive, checkpoint, configs, environments, summaries, tensors, trajectory
from zobench.record.archive import Place
from zobench.record.reading import Missing, Unreadable
from zobench.record.trajectory import Trajectory
from zobench.run import trust
from zobench.run.build import build_trained, specs
from zobench.run.parts import TrainedModel
from zobench.system.console import Console
from zobench.system.devices import pick_device
from zobench.zo import Method

#: at most so many threads, whatever a record says
_THREADS = 1024


@dataclass(frozen=True)
class Rebuilt:
    """A model as it was after a step of a run."""

    trained: TrainedModel
    tuning: Tuning
    cfg: DictConfig
    summary: dict[str, Any]
    step: int
    #: the hash of the trainable weights that the record holds for this step, or None
    expected: str | None
    #: what the weights were made of; None where they were kept, or are those before any step
    followed: Trajectory | None

    @property
    def loaded(self) -> Loaded:
        """Model and tokenizer."""
        return self.trained.loaded

    @property
    def method(self) -> Method:
        """The run's method, after that step."""
        return self.trained.method

    @property
    def model(self) -> nn.Module:
        """The model with the weights of that step."""
        return self.loaded.model

    @cached_property
    def checksum(self) -> str:
        """The hash of the trainable weights as they were made again."""
        return checkpoint.checksum(self.method.slots)


class OtherModel(DataError):
    """The base model at hand is another one than that of the record."""


class NotReplayed(UserError):
    """The losses of the run's method do not give its weights."""


def rebuild(
    address: str | os.PathLike[str],
    step: str,
    console: Console,
    *,
    device: str | None = None,
    replay: bool = False,
    allow: Sequence[str] = (),
    unverified: bool = False,
    folders: Mapping[str, str] | None = None,
) -> Rebuilt:
    """Make the model as it was after a step of a run.

    Args:
        address: the run's directory, or its path in a zip of records, ``FILE.zip/<path inside>``.
        step: ``best``, ``last`` or a number.
        device: where to do it; where the run was, if None.
        replay: go along the trajectory from the base model even where weights were kept.
        allow: packages beside zobench whose classes the record may name; they are imported.
        unverified: take kept weights whose checksum does not fit, on whatever base model there is.
        folders: of ``data`` and ``model``, where they are elsewhere than the record says; of the hub's model, and of
            data that ship with zobench, nothing is moved.

    Raises:
        UserError: if the directory holds no run, or not what is asked for; if kept weights or the trajectory are
            damaged.
        NotReplayed: if nothing gives the weights.
        OtherModel: if the base model is another one.
    """
    run = archive.locate(address)
    cfg, summary = _read(run, allow, folders or {})
    wanted = _step(run, step, summary)
    file = run / "checkpoint" / f"best-{wanted:08d}.safetensors"  # weights stay out of zips
    kept = file if isinstance(file, Path) and file.is_file() and not replay else None
    protocol, spec, tuning = specs(cfg)
    trained = build_trained(cfg, pick_device(device or str(cfg.device)), protocol, spec, tuning)
    slots = trained.method.slots
    expected = _expected(wanted, summary)
    followed = None
    if not unverified:
        base, model = checkpoint.checksums(trained.as_loaded, slots)
        if "model_family" not in summary and summary.get("model_checksum") not in (None, model):
            # Versions that did not record the family hashed adapters with the model.
            model = tensors.checksum(dict(named_parameters(trained.loaded.model)))
        _check_base(run, "weights", summary.get("model_checksum"), model)
        with_prefix = bool(prefixed(trained.loaded.model))
        if kept is None or not with_prefix:  # which is all that trains: where it is kept, its first values are not used
            also = ", or the processor that computed the first prefix" if with_prefix else ""
            _check_base(run, "trainable weights", summary.get("base_checksum"), base, also)
    if kept is not None:
        weights = _kept(kept, wanted, expected, unverified, made_again=trained.method.replays)
        checkpoint.restore(slots, weights)
    elif not trained.method.replays:
        by = "takes directions from activations" if trained.method.taps else "steps by gradients"
        raise NotReplayed(
            f"{run}: method={cfg.choices.method} {by}, which the trajectory does not hold; run it with "
            "keep_weights=true"
        )
    else:
        with threads_of(run), console.task("replaying", wanted) as bar:
            followed = trajectory.replay(trained.method, run, wanted, bar.advance)
    return Rebuilt(trained, tuning, cfg, summary, wanted, expected, followed)


@contextmanager
def threads_of(run: Place) -> Iterator[None]:
    """A context with as many of torch's threads as the run had: the last bits of its products hang on their number."""
    before = torch.get_num_threads()
    try:
        had = environments.read(run).get("threads")
    except (Missing, Unreadable):
        had = None
    torch.set_num_threads(min(had or before, _THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kept(path: Path, step: int, expected: str | None, unverified: bool, *, made_again: bool) -> dict[str, Tensor]:
    """The weights in a file, by name."""
    try:
        return checkpoint.load_best(path.parent, step, expected, check=not unverified)
    except DataError as error:
        todo = "remove it, and the trajectory makes the weights again" if made_again else "nothing makes it again"
        raise DataError(f"{error}; {todo}") from error


def _read(run: Place, allow: Sequence[str], folders: Mapping[str, str]) -> tuple[DictConfig, dict[str, Any]]:
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
    for group, folder in folders.items():
        if settings[group].get("dir") not in ((None,) if group == "model" else ("mini",)):
            settings[group]["dir"] = folder
    return OmegaConf.create(settings), summary


def _step(run: Place, step: str, summary: dict[str, Any]) -> int:
    check_step(step)
    best, last = summary.get("best_step"), summary.get("steps")
    found = {"best": best, "last": last}[step] if step in ("best", "last") else int(step)
    if found is None:
        state = summary.get("state", "not there")
        raise ConfigError(f"step={step}: it has none yet; the run is {state}, best {best}, last {last}")
    if best is not None and last is not None and best > last:
        raise DataError(f"{run / 'summary.json'}: best_step is {best} of {last} steps; it is damaged")
    if last is not None and found > last:
        raise ConfigError(f"step={step}: the run has {last} steps")
    return found


def _expected(step: int, summary: dict[str, Any]) -> str | None:
    """The record's checksum of a step. A step that diverged or failed half-way has left its rounding in the weights."""
    if step == summary.get("best_step"):
        return summary.get("best_weights_checksum")
    ended_after_it = step == summary.get("steps") and summary.get("state") in ("finished", "interrupted")
    return summary.get("weights_checksum") if ended_after_it else None


def _check_base(run: Place, what: str, then: str | None, now: str, also: str = "") -> None:
    if then not in (None, now):
        raise (DataError if also else OtherModel)(
            f"{run} started from a base model whose {what} hash to {then}, these to {now}: model files, dtype or "
            f"library changed since{also}"
        )
