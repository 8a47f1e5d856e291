"""Configurations of many cells, as Hydra would compose them, without composing each.

Groups that touch nothing but their own node are composed once per option and put together; single values are set on
copies. Each assumption is checked against Hydra's own composition; where one fails, Hydra composes the cell.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from zobench.config.signature import digest

#: gives the configuration of a list of overrides, the node ``hydra`` included
Load = Callable[[list[str]], DictConfig]
_REFERENCE = re.compile(r"\$\{([^${}]*)\}")
_PATH = re.compile(r"^[A-Za-z_]\w*(\.\w+)*$")
_CHOICE = "hydra:runtime.choices."


class NotSimple(Exception):
    """Something that only Hydra can compose."""


@dataclass
class Composed:
    """Settings with their interpolations, and the options that were chosen."""

    raw: dict[str, Any]
    choices: dict[str, Any]
    params: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cfg: DictConfig) -> "Composed":
        raw = _plain(cfg, resolve=False)
        hydra = raw.pop("hydra")
        params = hydra["sweeper"].get("params") or {}
        return cls(raw, dict(hydra["runtime"]["choices"]), {str(k): str(v) for k, v in params.items()})

    def set(self, path: str, value: Any) -> None:
        """Raises NotSimple unless the value takes the place of a single one."""
        *parents, last = path.split(".")
        node = self.raw
        for name in parents:
            if not isinstance(node.get(name), dict):
                raise NotSimple
            node[name] = dict(node[name])  # others share it
            node = node[name]
        if last not in node or isinstance(node[last], dict) or isinstance(value, dict):
            raise NotSimple
        node[last] = value

    def settled(self) -> tuple[str, dict[str, Any]]:
        """The run's signature, and its settings with all interpolations resolved."""
        settings = {key: self._resolve(value) for key, value in self.raw.items() if key != "out"}
        signature = digest(settings)
        settings["out"] = self._resolve(self.raw["out"], signature)
        return signature, settings

    def _resolve(self, value: Any, signature: str | None = None) -> Any:
        if isinstance(value, dict):
            return {key: self._resolve(child, signature) for key, child in value.items()}
        if isinstance(value, list):
            return [self._resolve(child, signature) for child in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        if "\\" in value:
            raise NotSimple
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return self._referred(whole[1], signature)
        text = _REFERENCE.sub(lambda match: str(self._referred(match[1], signature)), value)
        if "${" in text:
            raise NotSimple
        return text

    def _referred(self, name: str, signature: str | None) -> Any:
        if name == "signature:" and signature:
            return signature
        if name.startswith(_CHOICE) and name.removeprefix(_CHOICE) in self.choices:
            return self.choices[name.removeprefix(_CHOICE)]
        if not _PATH.match(name):
            raise NotSimple
        node: Any = self.raw
        for part in name.split("."):
            if not isinstance(node, dict) or part not in node:
                raise NotSimple
            node = node[part]
        return self._resolve(node, signature)


class Family:
    """All cells that share everything but options of groups and single values.

    Args:
        load: Hydra's composition.
        fixed: the overrides that all cells share.
    """

    def __init__(self, load: Load, fixed: Sequence[str]):
        self._load, self._fixed = load, list(fixed)
        self.base = Composed.of(load(self._fixed))
        self._options: dict[str, Composed | None] = {}
        self._proved: dict[frozenset[str], bool] = {}

    def settled(self, groups: Mapping[str, str], values: Mapping[str, Any], overrides: Sequence[str]):
        """Signature and settings of one cell.

        Args:
            groups: option of each group, by name.
            values: parsed values, by key.
            overrides: all of the cell's overrides, for Hydra.
        """
        try:
            which = frozenset(groups)
            if which not in self._proved:
                chosen = [f"{group}={option}" for group, option in groups.items()]
                self._proved[which] = self._together(groups) == Composed.of(self._load([*self._fixed, *chosen]))
            if not self._proved[which]:
                raise NotSimple
            found = self._together(groups)
            for path, value in values.items():
                found.set(path, value)
            return found.settled()
        except NotSimple:
            return composed_by_hydra(self._load, overrides)

    def _together(self, groups: Mapping[str, str]) -> Composed:
        found = Composed(dict(self.base.raw), dict(self.base.choices), self.base.params)
        for group, option in groups.items():
            override = f"{group}={option}"
            if override not in self._options:
                self._options[override] = self._alone(group, override)
            own = self._options[override]
            if own is None:
                raise NotSimple
            found.raw[group] = own.raw[group]
            for name in [name for name in found.choices if _within(name, group)]:
                del found.choices[name]
            found.choices |= {name: choice for name, choice in own.choices.items() if _within(name, group)}
        return found

    def _alone(self, group: str, override: str) -> Composed | None:
        """What an option gives to the base, or None if it touches more than its own group."""
        found = Composed.of(self._load([*self._fixed, override]))
        outside = [
            {key: value for key, value in side.raw.items() if key != group}
            | {name: choice for name, choice in side.choices.items() if not _within(name, group)}
            for side in (found, self.base)
        ]
        return found if outside[0] == outside[1] and found.params == self.base.params else None


def _within(name: str, group: str) -> bool:
    return name == group or name.startswith(f"{group}/")


def composed_by_hydra(load: Load, overrides: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The same, the slow way."""
    cfg = load(list(overrides))
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        with open_dict(cfg):
            del cfg["hydra"]
        settings = _plain(cfg, resolve=True)
    finally:
        HydraConfig.instance().cfg = before
    return digest(settings), settings


def _plain(cfg: DictConfig, *, resolve: bool) -> dict[str, Any]:
    found = OmegaConf.to_container(cfg, resolve=resolve)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def single_values(override: Override) -> list[Any] | None:
    """What an override gives its key, one after another; None for what is not a plain setting of a key that exists."""
    key = override.get_key_element()
    if key[0] in "+~" or any(mark in key for mark in "/@:") or key.split(".")[0] == "hydra":
        return None
    values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    return None if any(isinstance(value, dict) or "${" in str(value) for value in values) else values
