"""Hydra plugins that come with extras: which choice needs which, and what to type when it is not installed."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from zobench.config.options import load_yaml
from zobench.errors import ConfigError, nearest

#: group → option of a Hydra plugin → (module that must be there, extra of zobench that brings it)
_PLUGINS: dict[str, dict[str, tuple[str, str]]] = {
    "hydra/launcher": {
        "basic": ("", ""),
        "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
        "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
        "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    },
    "hydra/sweeper": {
        "basic": ("", ""),
        "zobench": ("", ""),
        "optuna": ("hydra_plugins.hydra_optuna_sweeper", "search"),
    },
}


def check_plugin(group: str, option: str, folders: Iterable[Path]) -> None:
    """Refuse an option of one of Hydra's own groups that is misspelt or whose plugin is not installed.

    Args:
        group: such as ``hydra/launcher``; groups that need no plugin pass.
        option: the name that was chosen.
        folders: where options are defined; an option belongs to the plugin whose option its ``defaults`` name.

    Raises:
        ConfigError: with the command that installs the plugin, or the nearest option there is.
    """
    plugins = _PLUGINS.get(group)
    if plugins is None:
        return
    presets = {path.stem: path for folder in reversed(list(folders)) for path in (folder / group).glob("*.yaml")}
    if option not in {*presets, *plugins}:
        near = nearest(option, {*presets, *plugins})
        if near is None:
            return  # a plugin of the user's; Hydra says if there is none
        known = ", ".join(sorted({*presets, *plugins}))
        raise ConfigError(
            f"{group}={option}: no such {group}; did you mean {group}={near}?\n{group} is one of: {known}"
        )
    module, extra = plugins.get(_base(option, presets), ("", ""))
    if module and not (find_spec("hydra_plugins") and find_spec(module)):
        raise ConfigError(f"{group}={option}: its Hydra plugin is not installed; pip install 'zobench[{extra}]'")


def _base(option: str, presets: dict[str, Path]) -> str:
    """The plugin's option on which a preset builds, through any number of presets."""
    while option in presets:
        defaults = load_yaml(presets[option]).get("defaults") or []
        named = [entry for entry in defaults if isinstance(entry, str) and entry not in ("_self_", option)]
        if not named:
            break
        option = named[0]
    return option


def with_search(arguments: Sequence[str]) -> list[str]:
    """A command line with what ``search=<method>`` implies: a multirun with the sweeper ``search``.

    Example:
        >>> with_search(["search=mezo", "task=rte"])
        ['--multirun', 'search=mezo', 'task=rte', 'hydra/sweeper=search']
        >>> with_search(["task=rte"])
        ['task=rte']
    """
    completed = list(arguments)
    if not any(a.startswith("search=") and a not in ("search=", "search=null") for a in completed):
        return completed
    if not {"-m", "--multirun"} & set(completed):
        completed.insert(0, "--multirun")
    if not any(a.startswith("hydra/sweeper=") for a in completed):
        completed.append("hydra/sweeper=search")
    return completed
