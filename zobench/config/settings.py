"""The configuration: the run's signature, quick checks before anything heavy loads, thorough ones after.

The class a YAML file points at with ``_target_`` is its schema: keyword-only, typed arguments.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config.folders import conf_dir
from zobench.config.instantiate import is_int
from zobench.config.options import load_yaml
from zobench.errors import ConfigError, nearest

#: the budget of a run that sets none, the MeZO suite's: 20,000 steps of two forward passes
DEFAULT_FORWARDS = 40_000

_INTS = {  # key: (lowest value, may be null)
    "seed": (0, False), "data_seed": (0, False), "noise_seed": (0, False), "order_seed": (0, False),
    "init_seed": (0, False), "steps": (0, True), "forwards": (0, True), "batch_size": (1, False),
    "micro_batch_size": (1, True), "eval_batch_size": (1, False), "eval_every": (1, True), "save_every": (1, True),
    "log_every": (1, False), "threads": (1, True), "length_buckets": (1, False),
    "lens.every": (1, True), "lens.draws": (3, False),
}  # fmt: skip
_CHOICES = {"dtype": ("float32", "bfloat16", "float16"), "parallel": ("null", "data", "queries")}


def check_settings(cfg: DictConfig, folders: Sequence[Path] | None = None) -> None:
    """Check types and ranges without importing torch, a model library or a method.

    Args:
        folders: where options are defined; conf/ if None.

    Raises:
        ConfigError: with one line per problem.
    """
    problems = _missing(cfg) or [*_settings(cfg), *_types(cfg, folders or [conf_dir()])]
    if problems:
        raise ConfigError("\n".join(problems))


def _missing(cfg: DictConfig) -> list[str]:
    keys = sorted(OmegaConf.missing_keys(cfg))
    hint = {"data.dir": "data=local needs data.dir=DIR, a folder with <task>/train.parquet and validation.parquet"}
    return [hint.get(key, f"{key}: a value is needed; set {key}=...") for key in keys]


def _settings(cfg: DictConfig) -> list[str]:
    problems = []
    for key, (low, nullable) in _INTS.items():
        value = OmegaConf.select(cfg, key)
        if not (value is None and nullable) and (not is_int(value) or not low <= value < 2**32):
            problems.append(f"{key}={value}: expected an integer of at least {low}{' or null' * nullable}")
    for key, allowed in _CHOICES.items():
        given = "null" if cfg[key] is None else str(cfg[key])
        if given not in allowed:
            near = nearest(given, allowed)
            hint = f"; did you mean {key}={near}?" if near else ""
            problems.append(f"{key}={given}: expected one of {', '.join(allowed)}{hint}")
    known = set(load_yaml(conf_dir() / "config.yaml")) | set(cfg.choices) | {"wandb"}
    for key in map(str, cfg):
        if key not in known:
            near = nearest(key, known)
            problems.append(f"{key}: no such setting" + (f"; did you mean {near}?" if near else ""))
    if cfg.wandb.mode not in ("offline", "online", "disabled"):
        problems.append(f"wandb.mode={cfg.wandb.mode}: expected offline, online or disabled")
    minutes = cfg.snapshot_minutes
    if minutes is not None and not ((is_int(minutes) or isinstance(minutes, float)) and minutes >= 0):
        problems.append(f"snapshot_minutes={minutes}: expected a number of at least 0 or null")
    device = str(cfg.device)
    if device not in ("auto", "cpu", "cuda") and not (device.startswith("cuda:") and device[5:].isdigit()):
        problems.append(f"device={device}: expected auto, cpu, cuda or cuda:N")
    if not OmegaConf.is_list(cfg.tags):
        problems.append(f"tags={cfg.tags}: expected a list, tags=[{cfg.tags}]")
    for key in ("overwrite", "keep_weights", "lens.gradient"):
        if not isinstance(OmegaConf.select(cfg, key), bool):
            problems.append(f"{key}={OmegaConf.select(cfg, key)}: expected true or false")
    return problems


def _types(cfg: DictConfig, folders: Sequence[Path]) -> list[str]:
    """A number given where the option's own file has a number, and so on."""
    problems = []
    for group in ("model", "task", "method", "tuning", "data"):
        option = cfg.choices[group]
        found = [p for folder in folders if (p := folder / group / f"{option}.yaml").is_file()]
        for path in found[:1]:
            problems += _compare(load_yaml(path), cfg[group], group)
    return problems


def _compare(default: Mapping[str, Any], node: Any, where: str) -> list[str]:
    problems = []
    for key, value in default.items():
        if key in ("defaults", "_target_") or key not in node:
            continue
        given = node[key]
        if isinstance(value, Mapping) and OmegaConf.is_dict(given):
            problems += _compare(value, given, f"{where}.{key}")
        elif isinstance(value, bool) and not isinstance(given, bool):
            problems.append(f"{where}.{key}={given}: expected true or false")
        elif is_int(value) and not is_int(given):
            problems.append(f"{where}.{key}={given}: expected an integer")
        elif isinstance(value, float) and not (is_int(given) or isinstance(given, float)):
            problems.append(f"{where}.{key}={given}: expected a number")
        elif isinstance(given, float) and not math.isfinite(given):
            problems.append(f"{where}.{key}={given}: expected a finite number")
    return problems
