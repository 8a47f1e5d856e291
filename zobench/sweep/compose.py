"""Configurations of many cells: Hydra composes what they share, and OmegaConf sets their values, as in Hydra itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

#: gives the configuration of a list of overrides, the node ``hydra`` included
Load = Callable[[list[str]], DictConfig]
_HYDRA = "${hydra:"


class Family:
    """Cells that share everything but the values of single settings.

    Args:
        load: Hydra's composition.
        shared: the overrides that all cells share.
        composed: the configuration that they give; it is copied.

    Attributes:
        presets: overrides with commas that the shared options bring along, as an experiment may, by key.
    """

    def __init__(self, load: Load, shared: Sequence[str], composed: DictConfig):
        self._load, self._shared = load, list(shared)
        self._cfg = cfg = deepcopy(composed)
        self.presets = {str(key): str(value) for key, value in (cfg.hydra.sweeper.get("params") or {}).items()}
        with _as_hydras_own(cfg):
            choices: Any = OmegaConf.to_container(cfg.choices, resolve=True)
            choices["model"] = f"${{model_label:{cfg.hydra.runtime.choices.model}}}"  # by each cell's own folder
        with open_dict(cfg):
            del cfg["hydra"]
            cfg.choices = choices  # Hydra's node is asked for them once, not for each cell
        # What else is asked of Hydra's node, such as the list of overrides, may differ from cell to cell.
        self._alike = _HYDRA not in str(OmegaConf.to_container(cfg))

    def settings(self, values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
        """The settings of one cell, resolved.

        Args:
            values: parsed values by key; the same keys for all cells of the family, or a cell has another's values.
            overrides: the same values as overrides, for Hydra where it has to compose the cell.
        """
        try:
            for key, value in values.items() if self._alike else ():
                OmegaConf.update(self._cfg, key, value)
        except OmegaConfBaseException:
            return self._composed(overrides)  # where Hydra says what is wrong
        return _plain(self._cfg) if self._alike else self._composed(overrides)

    def _composed(self, overrides: Sequence[str]) -> dict[str, Any]:
        cfg = self._load([*self._shared, *overrides])
        with _as_hydras_own(cfg):
            with open_dict(cfg):
                del cfg["hydra"]
            return _plain(cfg)


@contextmanager
def _as_hydras_own(cfg: DictConfig) -> Iterator[None]:
    """``${hydra:...}`` means this configuration's node."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _plain(cfg: DictConfig) -> dict[str, Any]:
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def is_value(override: Override) -> bool:
    """Whether an override gives plain values to a key that exists, one after another, and does nothing else."""
    key = override.get_key_element()
    if key[0] in "+~" or any(mark in key for mark in "/@:") or key.split(".")[0] == "hydra":
        return False
    discrete = override.is_discrete_sweep()
    values = override.sweep_iterator() if discrete else () if override.is_sweep_override() else [override.value()]
    return not any(isinstance(value, dict) or _HYDRA in str(value) for value in values)
