"""What conf/ holds, read as files: groups are folders, options YAML files whose first comment describes them.

Standard library and PyYAML only.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from zobench.errors import ConfigError

#: the folder of sweeps' grids in conf/
GRIDS = "sweep"
#: the folder of what a tuning sets in a method, ``defaults/<tuning>/<method>.yaml``
TUNED = "defaults"
#: the folder of entries and workloads for zobench.rules, in a folder of one's own
RULES = "rules"
_OUTSIDE = ("hydra", GRIDS, TUNED, RULES)
_LARGEST_BYTES, _MOST_NODES = 1_000_000, 20_000
_MERGE = "tag:yaml.org,2002:merge"


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
    """The options of each group: of every folder of conf/ except Hydra's own, grids of sweeps and defaults of tunings.

    Args:
        conf: a folder like conf/.

    Returns:
        Option names, sorted, by group name; a group within a group has a path, such as ``method/rule``.
    """
    options: dict[str, list[str]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        group = path.parent.relative_to(conf).as_posix()
        if group != "." and group.split("/")[0] not in _OUTSIDE:
            options.setdefault(group, []).append(path.stem)
    return options


def describe(path: Path) -> str:
    """What a YAML file says of itself: its first comment line without the mark; empty if there is none."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ").strip()
    return ""


def load_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file, read once as long as the file does not change; callers must not write to it.

    Raises:
        ConfigError: for a file that is no mapping in plain YAML: other types, a key twice, another encoding than UTF-8,
            or more than options can need, also where aliases make it so.
    """
    return _load(path, path.stat().st_mtime_ns)


@cache
def _load(path: Path, changed: int) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes, expected at most {_LARGEST_BYTES:,}")
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return {}
        _size(node, {}, loader)
        content = loader.construct_document(node)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ConfigError(f"{path}: not YAML: {reason}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected settings, such as lr: 1.0e-6, found a {type(content).__name__}")
    return content


def _size(node: yaml.Node, known: dict[int, int], loader: yaml.SafeLoader) -> int:
    """The nodes in and below one, aliases written out; raises YAMLError for too many, for a circle, and a key twice."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = _MOST_NODES  # met again below itself: a circle
        if isinstance(node, yaml.MappingNode):
            seen: dict[Any, str] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                meant = loader.construct_object(key) if key.tag != _MERGE else key.value  # yes is true, 1 is 1.0
                if (before := seen.get(key.value, seen.get(meant))) is not None:
                    twice = (
                        f"{key.value} is there twice" if before == key.value else f"{before} and {key.value} are one"
                    )
                    raise yaml.MarkedYAMLError(problem=twice, problem_mark=key.start_mark)
                seen |= {key.value: key.value, meant: key.value}
            inner = [part for pair in node.value for part in pair]
        else:
            inner = node.value
        known[id(node)] = 1 + sum(_size(part, known, loader) for part in inner)
    if known[id(node)] >= _MOST_NODES:
        raise yaml.MarkedYAMLError(problem=f"over {_MOST_NODES:,} values", problem_mark=node.start_mark)
    return known[id(node)]


def defaults(config: Path) -> dict[str, list[str]]:
    """The options that a YAML file's list of defaults names, by group."""
    options = {}
    entries = load_yaml(config).get("defaults") or []
    if not isinstance(entries, list):
        raise ConfigError(f"{config}: defaults: expected a list, each entry with - in front")
    for entry in entries:
        for group, option in entry.items() if isinstance(entry, dict) else ():
            options[str(group).removeprefix("override ").lstrip("/")] = [str(option)]
    return options


def texts(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """The texts in a file's content, each with the dotted path of its place."""
    if isinstance(node, str):
        yield where, node
    inner = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield from texts(value, f"{where}.{key}" if where else str(key))


def config_dirs(arguments: list[str]) -> list[Path]:
    """The folders that a command line gives with ``--config-dir`` or ``-cd``: none or one.

    Raises:
        ConfigError: if it is not there, or if there are several.
    """
    folders = []
    for i, argument in enumerate(arguments):
        if argument.startswith(("--config-dir=", "-cd=")):
            folders.append(argument.split("=", 1)[1])
        elif argument in ("--config-dir", "-cd") and i + 1 < len(arguments):
            folders.append(arguments[i + 1])
    if len(folders) > 1:
        raise ConfigError(f"--config-dir {' and '.join(folders)}: expected one folder")
    return [own_folder(folder) for folder in folders]


def own_folder(given: str) -> Path:
    """A folder of options of a user's own, as ``--config-dir`` gives it.

    Raises:
        ConfigError: if there is none.
    """
    folder = Path(given)
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {given}: no such folder")
    return folder
