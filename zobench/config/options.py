"""What conf/ holds, read as files: groups are folders, options YAML files whose first comment describes them.

Standard library and PyYAML only.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_OUTSIDE = ("hydra",)
#: the folder of sweeps' grids in conf/
GRIDS = "sweep"


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a node by dotted key, without its list of defaults.

    >>> dict(leaves({"defaults": [], "lr": 1, "rule": {"beta": 0.9}}))
    {'lr': 1, 'rule.beta': 0.9}
    """
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        elif key != "defaults":
            yield f"{prefix}{key}", value


def groups(conf: Path) -> dict[str, list[str]]:
    """The options of each group: of every folder of conf/ except Hydra's own and the grids of sweeps.

    Args:
        conf: a folder like conf/.

    Returns:
        Option names, sorted, by group name; a group within a group has a path, such as ``method/rule``.
    """
    options: dict[str, list[str]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        group = path.parent.relative_to(conf).as_posix()
        if group != "." and group.split("/")[0] not in (*_OUTSIDE, GRIDS):
            options.setdefault(group, []).append(path.stem)
    return options


def describe(path: Path) -> str:
    """What a YAML file says of itself: its first comment line without the mark; empty if there is none."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ").strip()
    return ""


def load_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file, read once as long as the file does not change; callers must not write to it."""
    return _load(path, path.stat().st_mtime_ns)


@cache
def _load(path: Path, changed: int) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def defaults(config: Path) -> dict[str, list[str]]:
    """The options that a YAML file's list of defaults names, by group."""
    options = {}
    for entry in load_yaml(config).get("defaults", []):
        for group, option in entry.items() if isinstance(entry, dict) else ():
            options[group.removeprefix("override ").lstrip("/")] = [str(option)]
    return options


def config_dirs(arguments: list[str]) -> list[Path]:
    """The folders that a command line gives with ``--config-dir`` or ``-cd``.

    Example:
        >>> [str(folder) for folder in config_dirs(["task=rte", "--config-dir=mine", "-cd", "ours"])]
        ['mine', 'ours']
    """
    folders = []
    for i, argument in enumerate(arguments):
        if argument.startswith("--config-dir="):
            folders.append(Path(argument.split("=", 1)[1]))
        elif argument in ("--config-dir", "-cd") and i + 1 < len(arguments):
            folders.append(Path(arguments[i + 1]))
    return folders
