"""What conf/ holds, read as files: groups are folders, options YAML files whose first comment describes them.

Standard library and PyYAML only.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_OUTSIDE = ("hydra",)
GRIDS = "sweep"


def groups(conf: Path) -> dict[str, list[str]]:
    """Group name → option names, for every folder of conf/ except Hydra's own and the grids of sweeps."""
    found: dict[str, list[str]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        group = path.parent.relative_to(conf).as_posix()
        if group != "." and group.split("/")[0] not in (*_OUTSIDE, GRIDS):
            found.setdefault(group, []).append(path.stem)
    return found


def describe(path: Path) -> str:
    """The first comment line of a YAML file, without its mark."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ").strip()
    return ""


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file, read once as long as it does not change; not to be written to."""
    return _load(path, path.stat().st_mtime_ns)


@cache
def _load(path: Path, changed: int) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def defaults(config: Path) -> dict[str, list[str]]:
    """Group → options that a YAML file's list of defaults names."""
    found = {}
    for entry in load_yaml(config).get("defaults", []):
        for group, option in entry.items() if isinstance(entry, dict) else ():
            found[group.removeprefix("override ").lstrip("/")] = [str(option)]
    return found


def config_dirs(arguments: list[str]) -> list[Path]:
    """Folders given with ``--config-dir`` or ``-cd``."""
    found = []
    for i, argument in enumerate(arguments):
        if argument.startswith("--config-dir="):
            found.append(Path(argument.split("=", 1)[1]))
        elif argument in ("--config-dir", "-cd") and i + 1 < len(arguments):
            found.append(Path(arguments[i + 1]))
    return found
