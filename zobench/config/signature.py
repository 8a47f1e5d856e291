"""A run's name: eight hex digits over what can change its result, and over nothing else.

Two commands that would compute the same have one name, so that a finished run is found again, whichever machine, folder
or version of zobench asks for it. Out of the name are therefore:

- paths (``data.dir``, ``task.files``, ``model.dir``): what they stand for is compared by content when a run is found
  (``run.identity``); a model of one's own is in the name by its label, which has a checksum (``config.labels``);
- the device, and settings of evaluation batches, logs, checkpoints and trackers;
- split sizes that were not chosen, and the name of those that were;
- import paths of options that ship: their classes may move. Nothing but the path tells a class of a user's own from
  another of the same name, so that one is in the name;
- ``length_buckets=auto`` from 1, the default that it took the place of: only rounding differs;
- a setting that equals the default it was introduced with: a new option renames no run. ``named.json`` lists the
  settings that are always in the name, those there were when names became what they are. Any other setting of these
  options came later, and is in the name where it differs from the default it came with. Null is no value. Options
  that are not listed, such as those of a folder of one's own, have all their values in the name.

Numbers count by value: 1 and 1.0 are one.
"""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config.folders import conf_dir
from zobench.config.former import TEMPLATE
from zobench.config.labels import model_label, option_of
from zobench.config.layers import places
from zobench.config.options import leaves, load_yaml
from zobench.config.schema import DEFAULT_FORWARDS, SETTINGS, defaults_of_run
from zobench.config.words import of_hydra
from zobench.tasks.base import one_set

#: counts how often the rule of names changed; records say by which rule they were named
SCHEMA = 2
#: groups whose option is in the name
GROUPS = ("model", "task", "method", "tuning", "protocol")
#: groups that came later, with the option that is not in the name: what runs were before there was a choice
LATER = {"objective": "loss"}
#: settings of options that change no result: where files lie and GPUs share a model, and facts for planners
_OUTSIDE = frozenset(
    (
        "model.dir",
        "model.device_map",
        "model.parameters",
        "model.allow_pickle",
        "task.files",
        "task.splits",
        "task.tokens",
    )
)
#: the attention of the protocols that ship, which a model has whether it is written out or not
_ATTENTION = {"clean": "sdpa", "mezo_exact": "eager"}
_NAMED = Path(__file__).parent / "named.json"


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's name is made of: settings by dotted key, in plain values.

    Args:
        settings: a resolved configuration as plain dictionaries, lists and values.
    """
    choices = settings["choices"]
    groups = (*GROUPS, *(group for group, first in LATER.items() if choices.get(group, first) != first))
    kept = {"schema": SCHEMA} | {group: choices[group] for group in groups}
    kept |= _of_run(settings)
    for group in groups:
        kept |= dict(_of_option(group, choices[group], settings[group]))
    kept |= _of_splits(settings)
    if kept.get("model.attention") == _ATTENTION.get(choices["protocol"]):
        kept.pop("model.attention", None)
    if isinstance(layers := kept.get("tuning.layers"), str | list):
        with contextlib.suppress(ValueError):  # what names no layers is refused elsewhere
            kept["tuning.layers"] = places(layers)  # 4-5 and [4, 5] are one
    return {key: _by_value(value) for key, value in kept.items() if value is not None}


def digest(settings: Mapping[str, Any]) -> str:
    """The name of a run with these settings; see ``identity``."""
    text = json.dumps(identity(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of two configurations names their runs differently, as ``method.lr=1e-06, now 1e-05``.

    Seeds that only follow ``seed`` are not named beside it.
    """
    before, after = identity(then), identity(now)
    keys = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if "seed" in keys:
        pair = (before.get("seed"), after.get("seed"))
        keys = [key for key in keys if key == "seed" or (before.get(key), after.get(key)) != pair]
    return [f"{key}={before.get(key)}, now {after.get(key)}" for key in keys]


def signature(*, _root_: DictConfig) -> str:
    """The name of a run, as ``${signature:}`` in a configuration."""
    settings = {}
    for key in _root_:
        if key not in ("hydra", "out"):  # ``out`` holds the name
            node = _root_._get_node(key)
            settings[str(key)] = (
                OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else _root_[key]
            )
    return digest(settings)


def _of_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own settings; the default budget is the same written out, and no lens needs no settings."""
    outside = {setting.key for setting in SETTINGS if not setting.names_run} | {"out"}
    defaults = defaults_of_run()
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping) or key in defaults}
    kept = {key: value for key, value in leaves(plain) if key not in outside}
    kept = dict(_introduced("run", kept, defaults, settings))
    if kept.get("length_buckets") == "auto":
        kept["length_buckets"] = 1
    if settings.get("steps") is None and settings.get("forwards") == DEFAULT_FORWARDS:
        kept.pop("forwards", None)
    if kept.get("lens.every") is None:
        kept = {key: value for key, value in kept.items() if not key.startswith("lens.")}
    return kept


def _of_option(group: str, option: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings of a group's option, and of the options within it, such as a method's rule."""
    option = option_of(group, option, node)
    path = conf_dir() / group / f"{option}.yaml"
    default = load_yaml(path) if path.is_file() else {}
    if not _is_class_of(node, default):
        yield f"{group}.class", node.get("_target_")
    inner = {key: value for key, value in node.items() if isinstance(value, Mapping) and "_target_" in value}
    own = dict(leaves({k: v for k, v in node.items() if k not in inner}))
    kept = {key: value for key, value in own.items() if key != "_target_" and not is_outside(group, key)}
    for key, value in _introduced(f"{group}/{option}", kept, default, None):
        yield f"{group}.{key}", value
    for name, value in inner.items():
        within = _option_of(f"{group}/{name}", value)
        yield f"{group}.{name}", within
        yield from _of_option(f"{group}/{name}", within, value)


def _of_splits(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that the run draws; all there are, where a protocol of one's own chooses among them."""
    splits = settings["task"].get("splits") or {}
    if not isinstance(splits, Mapping):  # which the task refuses
        return {"splits": splits}
    protocol = settings["choices"]["protocol"]
    # Protocols that ship have the name of the sizes that they draw; one of a user's own may not.
    asked = settings.get("data", {}).get("splits")
    chosen = asked or (protocol if f"protocol/{protocol}" in _named() else None)
    drawn = splits if one_set(splits) else splits.get(chosen)
    if drawn:
        return {f"splits.{part}": _share(size) for part, size in drawn.items()}
    return {f"splits.{key}": _share(size) for key, size in leaves(splits)} | {"splits": asked}


def _share(size: Any) -> Any:
    """A size of a split: 1.0 is all rows, where 1 is one row."""
    return f"{size:g} of the rows" if isinstance(size, float) else size


def _introduced(
    option: str, kept: Mapping[str, Any], default: Mapping[str, Any], settings: Mapping[str, Any] | None
) -> Iterator[tuple[str, Any]]:
    """The settings that are in the name: those of old, and those that differ from what they were introduced with."""
    listed = _named().get(option)
    now = dict(leaves(default))
    for key, value in kept.items():
        if listed is not None and key not in listed["always"] and (key in listed["introduced"] or key in now):
            first = listed["introduced"].get(key, now.get(key))
            if _by_value(value) == _by_value(_referred(first, settings)):
                continue
        yield key, value


def _referred(value: Any, settings: Mapping[str, Any] | None) -> Any:
    """A default such as ``${seed}`` as the value it stands for."""
    if settings is not None and isinstance(value, str) and value.startswith("${") and value.endswith("}"):
        return settings.get(value[2:-1], value)
    return value


def is_outside(group: str, key: str) -> bool:
    """Whether a setting of an option changes no result."""
    return any(f"{group}.{key}" == name or f"{group}.{key}".startswith(f"{name}.") for name in _OUTSIDE)


def _is_class_of(node: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    """Whether a node's class is that of a file, also if it has moved within zobench since the node was stored."""
    given, shipped = str(node.get("_target_")), str(default.get("_target_", TEMPLATE))
    return given == shipped or (given.startswith("zobench.") and given.rpartition(".")[2] == shipped.rpartition(".")[2])


def _option_of(group: str, node: Mapping[str, Any]) -> str:
    """The option whose file names a node's class; the class's dotted path if none does."""
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        if _is_class_of(node, load_yaml(path)):
            return path.stem
    return str(node["_target_"])


@cache
def _named() -> dict[str, Any]:
    return json.loads(_NAMED.read_text(encoding="utf-8"))


def _by_value(value: Any) -> Any:
    """A whole float as an integer, also within lists."""
    if isinstance(value, list | tuple):
        return [_by_value(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def register() -> None:
    """Make ``${signature:}``, ``${model_label:}`` and a run's settings known to Hydra; harmless when repeated."""
    from hydra.core.config_store import ConfigStore

    OmegaConf.register_new_resolver("signature", signature, replace=True)
    OmegaConf.register_new_resolver("model_label", model_label, replace=True)
    # the preset bears its plugin's name on purpose, so that it is what hydra/launcher=joblib chooses
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/joblib' is validated against ConfigStore schema")
    ConfigStore.instance().store("run_settings", defaults_of_run())


def compose(*overrides: str) -> DictConfig:
    """The configuration a command line would give.

    For notebooks and tests: ``run(compose("method=mezo", "steps=3"))`` is what ``python -m zobench method=mezo
    steps=3`` does.

    Raises:
        ConfigError: for what Hydra cannot read or compose.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException

    register()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
    except HydraException as error:
        raise of_hydra(error) from error
    HydraConfig.instance().set_config(cfg)
    del cfg._content["hydra"]  # type: ignore[union-attr]
    return cfg
