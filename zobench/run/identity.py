"""Whether a finished run that a command finds was made of data, prompts and model that the command names."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from zobench.errors import DataError
from zobench.models.adapters import named_parameters
from zobench.models.tokenizer import tokenizer_hash
from zobench.record import checkpoint, inputs, tensors
from zobench.record.inputs import changed, in_words, known_model, other_score, remember_model, remember_same
from zobench.record.lookup import place_of
from zobench.run.build import build_trained, load_splits, specs
from zobench.system.console import Console
from zobench.system.devices import pick_device

_MODEL = {"model_checksum": "weights", "tokenizer_hash": "tokenizer"}


def check_found(cfg: DictConfig, summary: Mapping[str, Any], directory: Path, console: Console) -> None:
    """Compare by content what a name leaves out, wherever it may be another than when the run was made.

    Args:
        cfg: what was asked for.
        summary: the row of the run that was found.
        directory: where it lies.

    Raises:
        DataError: if rows, prompts, tokenizer, weights or the user's own score are not those of the run; says which.
    """
    if why := other_score(summary, cfg):
        raise DataError(f"{why}, {directory}; give it another runs_dir, or overwrite=true")
    kinds = changed(directory, summary, cfg)
    if not kinds:
        return
    if kinds & {"data", "prompts"} and summary.get("rows_hash"):
        _compare_rows(cfg, summary, directory, kinds, console)
    if "model" in kinds:
        _compare_model(cfg, summary, directory, console)
    remember_same(directory, cfg)


def _compare_rows(
    cfg: DictConfig, summary: Mapping[str, Any], directory: Path, kinds: Collection[str], console: Console
) -> None:
    try:
        rows_hash = load_splits(cfg, specs(cfg)[0]).rows_hash
    except DataError as error:
        if "data" in kinds:
            raise
        console.say(f"the code of the prompts changed, and they could not be compared: {str(error).splitlines()[0]}")
        return
    if rows_hash != summary["rows_hash"]:
        key = "data.dir" if cfg.data.dir else "task.files"
        asked = f"{key}={place_of(cfg, 'data')}" if "data" in kinds else f"task={cfg.choices.task}"
        raise _other(directory, asked, in_words(kinds), summary["rows_hash"], rows_hash)


def _compare_model(cfg: DictConfig, summary: Mapping[str, Any], directory: Path, console: Console) -> None:
    digest = inputs.digests(cfg)["inputs.model"]
    now = known_model(cfg, digest) if "tokenizer_hash" in summary else None
    if now is None:
        console.say(f"model.dir={cfg.model.dir}: comparing it with the model of the finished run")
        now = _model_now(cfg, summary, digest)
    for name, words in _MODEL.items():
        if name in now and summary.get(name) not in (None, now[name]):
            raise _other(directory, f"model.dir={cfg.model.dir}", words, summary[name], now[name])


def _model_now(cfg: DictConfig, summary: Mapping[str, Any], digest: str | None) -> dict[str, Any]:
    device, (protocol, spec, tuning) = pick_device(str(cfg.device)), specs(cfg)
    if "tokenizer_hash" in summary:
        attention = spec.attention or protocol.attention
        loaded = spec.load(dtype=getattr(torch, cfg.dtype), device=device, attention=attention)
        weights = tensors.checksum(dict(loaded.model.named_parameters()))
        facts = {"model_checksum": weights, "tokenizer_hash": tokenizer_hash(loaded.tokenizer)}
        remember_model(cfg, digest, facts)
        return facts
    # Versions that recorded no tokenizer hashed what trains, and adapters with the model.
    trained = build_trained(cfg, device, protocol, spec, tuning)
    base = checkpoint.checksum(trained.method.slots)
    if summary.get("base_checksum") not in (None, base):
        return {"model_checksum": base}
    return {"model_checksum": tensors.checksum(dict(named_parameters(trained.loaded.model)))}


def _other(directory: Path, asked: str, what: str, then: Any, now: Any) -> DataError:
    return DataError(
        f"{asked}: the finished run in {directory} was made of other {what} ({then}, these are {now}); a run's name "
        "does not hold them, so give this one another runs_dir, or overwrite=true"
    )
