"""Checks of a composed configuration: types and ranges, before torch, a model library or a method is imported."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zobench.config import layers
from zobench.config.folders import conf_dir
from zobench.config.instantiate import function
from zobench.config.labels import option_of
from zobench.config.options import leaves, load_yaml, texts
from zobench.config.ranges import out_of_range
from zobench.config.schema import SETTINGS, Below, as_yaml, is_int
from zobench.errors import ConfigError, did_you_mean, in_one_line, printable, shown

_WANDB_MODES = ("offline", "online", "disabled")
_OPTIONS = ("model", "task", "method", "tuning", "data", "protocol", "objective")
#: methods that ship and take derivatives of the loss; those of a user's own are asked when they are made
DIFFERENTIATE = ("zobench.methods.adamw.AdamW", "zobench.methods.forward_gradient.ForwardGradient")
#: folders beside the settings of the run
_FOLDERS = {"out": Below()}
#: an integer beyond it is no exact number to everyone who reads the record
_LARGEST = 2**53


def check_settings(cfg: DictConfig, folders: Sequence[Path] | None = None) -> None:
    """Check types and ranges of a whole configuration.

    Args:
        cfg: what Hydra composed.
        folders: where options are defined; conf/ if None.

    Raises:
        ConfigError: with one line per problem.
    """
    problems = _missing(cfg) or _unresolved(cfg)
    problems = problems or [*_run_settings(cfg), *_options(cfg, folders or [conf_dir()])]
    problems = problems or _layers(cfg) or _score(cfg) or _unresolved(cfg, "out") or _folders(cfg)
    if problems:
        raise ConfigError("\n".join(map(printable, problems)))


def _unresolved(cfg: DictConfig, key: str | None = None) -> list[str]:
    """What ``${...}`` stands for and cannot be had: that of one key, or all but of ``out``, which names the whole."""
    raw = texts(OmegaConf.to_container(cfg, resolve=False))
    wanted = [(k, text) for k, text in raw if "${" in text and (k == key if key else k != "out")]
    problems = []
    for place, text in wanted:
        try:
            stands_for = OmegaConf.select(cfg, place)
        except OmegaConfBaseException as error:
            apart = "; a text needs something between $ and {" if place.startswith("task.") else ""
            problems.append(f"{place}={text}: {in_one_line(error)}{apart}")
            continue
        if isinstance(stands_for, str) and "${" in stands_for:  # whoever reads it again would look for what it names
            problems.append(f"{place}={text}: expected no ${{ in a text; put something between $ and {{")
    return problems[:1]  # the others may only follow it


def _folders(cfg: DictConfig) -> list[str]:
    values = {key: OmegaConf.select(cfg, key) for key in _FOLDERS}
    return [
        f"{key}={as_yaml(value)}: expected {_FOLDERS[key].expected(key, value)}"
        for key, value in values.items()
        if not _FOLDERS[key].accepts(value)
    ]


def _layers(cfg: DictConfig) -> list[str]:
    """Layers that are none, or that a model whose settings say how many it has does not have."""
    node: Any = OmegaConf.to_container(cfg.tuning, resolve=True)
    asked, there = node.get("layers"), cfg.model.get("layers")
    if asked is None:
        return []
    try:
        layers.check(asked) if not is_int(there) else layers.chosen(asked, there)
    except ValueError as error:
        return [f"tuning.{error}"]
    return []


def _score(cfg: DictConfig) -> list[str]:
    """What does not go with a score that is maximised; its function is imported, if it is a user's own."""
    if cfg.choices.objective != "metric":
        return []
    problems = [no_gradient(cfg.choices.method)] * (cfg.method.get("_target_") in DIFFERENTIATE)
    if cfg.lens.every is not None and cfg.lens.gradient:
        problems.append(
            f"lens.every={cfg.lens.every}: it compares with a gradient, and objective=metric has none; add "
            "lens.gradient=false, or leave it out"
        )
    if not problems and (path := cfg.objective.score) is not None:
        function(path, "objective.score")
    return problems


def no_gradient(method: str) -> str:
    """Why a method that takes derivatives cannot maximise a score."""
    return (
        f"objective=metric: a score has no derivative, and method={method} takes one; choose a method of forward "
        "passes, such as method=mezo"
    )


def _missing(cfg: DictConfig) -> list[str]:
    keys = sorted(key for key, text in texts(OmegaConf.to_container(cfg, resolve=False)) if text == "???")
    hint = {
        "data.dir": "data=local needs data.dir=DIR, a folder with <task>/train.parquet and validation.parquet",
        "model.dir": f"model={cfg.choices.model} needs model.dir=DIR, a model's folder in Hugging Face format",
        "model.id": "model=hub needs model.id=ORG/NAME, a model's repository, and may have model.revision=COMMIT",
    }
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
            problems.append(f"{setting.key}={as_yaml(value)}: expected {setting.kind.expected(setting.key, value)}")
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
    for group in _OPTIONS:
        if not OmegaConf.is_dict(cfg[group]):
            problems.append(f"{group}={cfg[group]}: expected the name of an option, {group}=NAME")
            continue
        option = option_of(group, str(cfg.choices[group]), cfg[group])
        files = [path for folder in folders if (path := folder / group / f"{option}.yaml").is_file()]
        of_types: list[str] = []
        for path in files[:1]:
            default = load_yaml(path)
            found = [*_compared(default, cfg[group], group), *_folder(default, cfg[group], group)]
            of_types += {problem.partition("=")[0]: problem for problem in found}.values()  # one for a key
        node: Any = OmegaConf.to_container(cfg[group], resolve=True)
        problems += of_types or [*_too_large(node, group), *out_of_range(node, group)]
    return problems


def _too_large(node: Mapping[str, Any], where: str) -> Iterator[str]:
    for key, value in leaves(node, f"{where}."):
        if is_int(value) and abs(value) > _LARGEST:
            yield f"{key}={shown(value)}: expected an integer of at most {_LARGEST}"


def _folder(default: Mapping[str, Any], node: Any, group: str) -> list[str]:
    """What is wrong with an option's ``dir``: without one the hub would be asked, which is to be said by null alone."""
    if "dir" not in default or "dir" not in node:
        return []
    given = node["dir"]
    if (given is None and default["dir"] is None) or (isinstance(given, str) and given.strip()):
        return []
    return [f"{group}.dir={as_yaml(given)}: expected a folder{', or null for the hub' * (default['dir'] is None)}"]


def _compared(default: Mapping[str, Any], node: Any, where: str) -> list[str]:
    problems = []
    for key, value in default.items():
        if key in ("defaults", "_target_") or key not in node or f"{where}.{key}" == "tuning.layers":
            continue
        given = node[key]
        if isinstance(value, Mapping):
            if OmegaConf.is_dict(given):
                problems += _compared(value, given, f"{where}.{key}")
            else:
                inner = next(iter(value), "KEY")
                problems.append(f"{where}.{key}={given}: expected its keys, such as {where}.{key}.{inner}=...")
        elif isinstance(value, bool) and not isinstance(given, bool):
            problems.append(f"{where}.{key}={as_yaml(given)}: expected true or false")
        elif is_int(value) and not is_int(given):
            problems.append(f"{where}.{key}={as_yaml(given)}: expected an integer")
        elif isinstance(value, float) and not (is_int(given) or isinstance(given, float)):
            problems.append(f"{where}.{key}={as_yaml(given)}: expected a number")
        elif isinstance(value, list) and not OmegaConf.is_list(given):
            problems.append(f"{where}.{key}={as_yaml(given)}: expected a list, {where}.{key}=[{as_yaml(given)}]")
        elif isinstance(given, float) and not math.isfinite(given):
            problems.append(f"{where}.{key}={given}: expected a finite number")
    return problems
