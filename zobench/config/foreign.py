"""What an option file may have Hydra build: zobench's sweepers and the launchers of known plugins, and nothing else.

A file of a ``--config-dir`` can set any key, those of Hydra itself included, whose callbacks and plugins are code that
runs before zobench does.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zobench.config.folders import conf_dir
from zobench.config.options import config_dirs
from zobench.config.words import ALLOW_FOREIGN, flags_first, overrides
from zobench.errors import ConfigError

_KNOWN = (
    "hydra._internal.core_plugins.", "hydra_plugins.zobench_sweeper.", "hydra_plugins.hydra_joblib_launcher.",
    "hydra_plugins.hydra_submitit_launcher.", "hydra_plugins.hydra_optuna_sweeper.", "optuna.samplers.",
)  # fmt: skip


def check_foreign(arguments: Sequence[str]) -> None:
    """Refuse callbacks of Hydra, and launchers and sweepers of unknown packages, wherever they are set.

    The configuration is composed once for that, which runs nothing; without a ``--config-dir`` or a key of Hydra's on
    the command line there is nothing to look for.

    Args:
        arguments: a command line that the front door has passed.

    Raises:
        ConfigError: naming what would run.
    """
    arguments = flags_first(arguments)
    words, own = overrides(arguments), config_dirs(list(arguments))
    if not own and not any("hydra" in word.partition("=")[0] for word in words):
        return
    for key, target in _targets(_hydras_node(words, [str(folder.resolve()) for folder in own]), "hydra"):
        if key.startswith("hydra.callbacks") or not (isinstance(target, str) and target.startswith(_KNOWN)):
            raise ConfigError(
                f"{key}._target_={target}: code of others, which Hydra would run; if you trust it, add {ALLOW_FOREIGN}"
            )


def _targets(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """The ``_target_`` of all nodes, by the nodes' dotted paths."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield where, node["_target_"]
        for key, value in node.items():
            yield from _targets(value, f"{where}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{where}.{i}")


def _hydras_node(words: Sequence[str], folders: Sequence[str]) -> Any:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from zobench.config.signature import register

    register()
    search = [f"hydra.searchpath=[{','.join(repr(f'file://{folder}') for folder in folders)}]"] * bool(folders)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        composed = hydra.compose_config(
            "config", [*search, *words], run_mode=RunMode.MULTIRUN, from_shell=False, validate_sweep_overrides=False
        )
    return OmegaConf.to_container(composed.hydra, resolve=False)
