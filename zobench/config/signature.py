"""A run's name: the signature of the settings that can change its result."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config.folders import conf_dir

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
