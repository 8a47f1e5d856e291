"""The configuration: the run's signature, quick checks before anything heavy loads, thorough ones after.

The class a YAML file points at with ``_target_`` is its schema: keyword-only, typed arguments.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from zobench.conf_dir import conf_dir
from zobench.errors import ConfigError, nearest
from zobench.frontdoor import load_yaml

#: settings that do not change a run's result, left out of its signature
OUTSIDE = frozenset(
    (
        "hydra",
        "out",
        "wandb",
        "threads",
        "save_every",
        "snapshot_minutes",
        "log_every",
        "runs_dir",
        "overwrite",
        "tags",
        "keep_weights",
        "parallel",
    )
)

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


def signature(*, _root_: DictConfig) -> str:
    """Eight hex digits that name everything which can change a run's result."""
    kept = {}
    for key in _root_:
        if key not in OUTSIDE:
            node = _root_._get_node(key)
            kept[str(key)] = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else _root_[key]
    return digest(kept)


def digest(settings: Mapping[str, Any]) -> str:
    """The signature of settings that are plain dictionaries, lists and values, resolved."""
    kept = {key: value for key, value in settings.items() if key not in OUTSIDE}
    # A preset is its settings: the same ones typed out are the same run.
    choices = kept.get("choices")
    if isinstance(choices, dict):
        kept["choices"] = {name: option for name, option in choices.items() if name != "experiment"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:8]


def register() -> None:
    """Make ``${signature:}`` known to OmegaConf; harmless when repeated."""
    OmegaConf.register_new_resolver("signature", signature, replace=True)


def compose(*overrides: str) -> DictConfig:
    """The configuration a command line would give: ``compose("method=mezo", "steps=3")``.

    For notebooks and tests; ``run(compose(...))`` is what ``python -m zobench`` does.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    del cfg._content["hydra"]  # type: ignore[union-attr]
    return cfg


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
        if not (value is None and nullable) and (not _is_int(value) or not low <= value < 2**32):
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
    if minutes is not None and not ((_is_int(minutes) or isinstance(minutes, float)) and minutes >= 0):
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


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
        elif _is_int(value) and not _is_int(given):
            problems.append(f"{where}.{key}={given}: expected an integer")
        elif isinstance(value, float) and not (_is_int(given) or isinstance(given, float)):
            problems.append(f"{where}.{key}={given}: expected a number")
        elif isinstance(given, float) and not math.isfinite(given):
            problems.append(f"{where}.{key}={given}: expected a finite number")
    return problems


def locate(target: str, where: str) -> Any:
    """The object a dotted path names.

    Raises:
        ConfigError: if there is none.
    """
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}._target_={target}: cannot be imported: {error}") from error


def build(node: Mapping[str, Any], where: str, *positional: Any, **extra: Any) -> Any:
    """Instantiate what a node's ``_target_`` names, nested nodes first.

    ``extra`` arguments are passed if the class (or the base it hands ``**common`` to) takes them.

    Raises:
        ConfigError: all unknown and missing keys at once, or the reason the class gives for refusing a value.
    """
    if "_target_" not in node:
        raise ConfigError(f"{where}: its YAML file needs a _target_, the dotted path of a class")
    cls = locate(node["_target_"], where)
    known = accepted(cls)
    given = {k: v for k, v in node.items() if k != "_target_"}
    for key, value in given.items():
        if isinstance(value, Mapping) and "_target_" in value:
            given[key] = build(value, f"{where}.{key}")
    hints = get_type_hints(cls.__init__)
    problems = [
        f"{where}.{key}={value}: expected {_said(hints[key])}"
        for key, value in given.items()
        if key in hints and not _fits(value, hints[key])
    ]
    for key in given:
        if key not in known:
            near = nearest(key, known)
            hint = f"; did you mean {where}.{near}?" if near else ""
            problems.append(f"{where}.{key}: {cls.__name__} has no {key}{hint}")
    given.update({k: v for k, v in extra.items() if k in known})
    problems += [
        f"{where}.{name}: {cls.__name__} needs a value"
        for name, p in known.items()
        if p.default is p.empty and name not in given
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        return cls(*positional, **given)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}.{error}" if isinstance(error, ValueError) else f"{where}: {error}") from error


_SIMPLE = {int: "an integer", float: "a number", str: "text", bool: "true or false", NoneType: "null"}


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type that consists of simple ones; other types are left to the class."""
    kinds = _kinds(hint)
    if not all(kind in _SIMPLE for kind in kinds):
        return True
    return type(value) in kinds or (float in kinds and _is_int(value))


def _said(hint: Any) -> str:
    return " or ".join(_SIMPLE[kind] for kind in _kinds(hint))


def accepted(cls: Any) -> dict[str, inspect.Parameter]:
    """Keyword-only arguments of a class, its bases' included where it passes ``**`` on."""
    found: dict[str, inspect.Parameter] = {}
    for base in inspect.getmro(cls):
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        found |= {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found
