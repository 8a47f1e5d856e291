"""Checks of a composed configuration: types and ranges, before torch, a model library or a method is imported."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config.folders import conf_dir
from zobench.config.options import load_yaml
from zobench.config.schema import SETTINGS, OneOf, is_int
from zobench.errors import ConfigError, did_you_mean

_WANDB_MODES = ("offline", "online", "disabled")


def check_settings(cfg: DictConfig, folders: Sequence[Path] | None = None) -> None:
    """Check types and ranges of a whole configuration.

    Args:
        cfg: what Hydra composed.
        folders: where options are defined; conf/ if None.

    Raises:
        ConfigError: with one line per problem.
    """
    problems = _missing(cfg) or [*_run_settings(cfg), *_options(cfg, folders or [conf_dir()])]
    if problems:
        raise ConfigError("\n".join(problems))


def _missing(cfg: DictConfig) -> list[str]:
    keys = sorted(OmegaConf.missing_keys(cfg))
    hint = {"data.dir": "data=local needs data.dir=DIR, a folder with <task>/train.parquet and validation.parquet"}
    return [hint.get(key, f"{key}: a value is needed; set {key}=...") for key in keys]


def _run_settings(cfg: DictConfig) -> list[str]:
    """What is wrong with the settings of the run, and with its top-level keys."""
    problems = [f"lens={cfg.lens}: expected its keys, such as lens.every=200"] * (not OmegaConf.is_dict(cfg.lens))
    for setting in SETTINGS:
        if problems and setting.key.startswith("lens."):
            continue
        value = OmegaConf.select(cfg, setting.key)
        plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if not setting.kind.accepts(plain) and not _follows(setting.default, value, cfg):
            shown = "null" if value is None and isinstance(setting.kind, OneOf) else value
            problems.append(f"{setting.key}={shown}: expected {setting.kind.expected(setting.key, value)}")
    known = {s.key.partition(".")[0] for s in SETTINGS} | set(load_yaml(conf_dir() / "config.yaml"))
    known |= set(cfg.choices) | {"wandb"}
    problems += [f"{key}: no such setting{did_you_mean(key, known)}" for key in map(str, cfg) if key not in known]
    if cfg.wandb.mode not in _WANDB_MODES:
        problems.append(f"wandb.mode={cfg.wandb.mode}: expected offline, online or disabled")
    return problems


def _follows(default: Any, value: Any, cfg: DictConfig) -> bool:
    """Whether a setting only repeats another, which is complained about itself."""
    return isinstance(default, str) and default.startswith("${") and value == OmegaConf.select(cfg, default[2:-1])


def _options(cfg: DictConfig, folders: Sequence[Path]) -> list[str]:
    """A number is to be given where the option's own file has a number, and so on."""
    problems = []
    for group in ("model", "task", "method", "tuning", "data"):
        files = [path for folder in folders if (path := folder / group / f"{cfg.choices[group]}.yaml").is_file()]
        for path in files[:1]:
            default = load_yaml(path)
            problems += [*_compared(default, cfg[group], group), *_folder(default, cfg[group], group)]
    return problems


def _folder(default: Mapping[str, Any], node: Any, group: str) -> list[str]:
    """What is wrong with an option's ``dir``: without one the hub would be asked, which is to be said by null alone."""
    if "dir" not in default or "dir" not in node:
        return []
    given = node["dir"]
    if (given is None and default["dir"] is None) or (isinstance(given, str) and given.strip()):
        return []
    shown = "null" if given is None else given
    return [f"{group}.dir={shown}: expected a folder{', or null for the hub' * (default['dir'] is None)}"]


def _compared(default: Mapping[str, Any], node: Any, where: str) -> list[str]:
    problems = []
    for key, value in default.items():
        if key in ("defaults", "_target_") or key not in node:
            continue
        given = node[key]
        if isinstance(value, Mapping) and OmegaConf.is_dict(given):
            problems += _compared(value, given, f"{where}.{key}")
        elif isinstance(value, bool) and not isinstance(given, bool):
            problems.append(f"{where}.{key}={given}: expected true or false")
        elif is_int(value) and not is_int(given):
            problems.append(f"{where}.{key}={given}: expected an integer")
        elif isinstance(value, float) and not (is_int(given) or isinstance(given, float)):
            problems.append(f"{where}.{key}={given}: expected a number")
        elif isinstance(given, float) and not math.isfinite(given):
            problems.append(f"{where}.{key}={given}: expected a finite number")
    return problems
