"""``config.yaml``: the configuration that a run was started with, resolved; nothing in it is run or looked up.

A record may come from a stranger. So the file is plain YAML: no tags, no aliases (a few bytes of them unfold without
end), no ``${...}``, which OmegaConf would resolve from the environment among others.
"""

import math
import re
from typing import Any

import yaml

from zobench.config import renamed
from zobench.config.former import renewed
from zobench.record import digests
from zobench.record.archive import Place
from zobench.record.reading import Unreadable, shown, text
from zobench.record.schema import is_plain

NAME = "config.yaml"
_LIMIT = 2**20
_DEEPEST = 32
_TEXT = 10_000  # characters
#: groups that are made of the class that ``_target_`` names
CLASSES = ("model", "task", "tuning", "method", "protocol")
#: one that configurations of earlier versions lack
LATER = "objective"
_GROUPS = ("choices", *CLASSES, "data")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as OmegaConf reads it: ``1e-6`` is a number, and nothing is a date. A key that is there twice is refused."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(set(map(str, keys))) < len(keys):
            raise yaml.YAMLError(f"the key {next(shown(key) for key in keys if keys.count(key) > 1)} is there twice")
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DATE, _NUMBER = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in (_DATE, _NUMBER)]
    for first, known in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_NUMBER, re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+0123456789."))


def read(directory: Place) -> dict[str, Any]:
    """Read the configuration of a run as plain dictionaries, lists and values.

    Raises:
        Missing: if there is none.
        Unreadable: if it is not the configuration of a run, or was changed.
    """
    path = directory / NAME
    written = text(path, _LIMIT)
    digests.check(path, written.encode())
    try:
        _check_shape(written)
        settings = yaml.load(written, Loader=_Loader)
        if not isinstance(settings, dict):
            raise ValueError(f"expected the settings of a run, not {shown(settings)}")
        _check_values(settings, "")
        _check_groups(settings)
        settings["task"] = renewed(settings["task"])
        settings = renamed.stored(settings)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise Unreadable(path, f"not the configuration of a run: {_said(error)}") from None
    return settings


def _check_shape(written: str) -> None:
    """Refuse what would unfold, by the events of the parser, before anything is made. Raises ValueError."""
    depth = 0
    for event in yaml.parse(written, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {line}: an alias; a record has none")
        if tag := getattr(event, "tag", None):
            raise ValueError(f"line {line}: the tag {shown(tag)}; a record has none")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"line {line}: nested deeper than {_DEEPEST} levels")


def _check_values(node: Any, where: str) -> None:
    """Raises ValueError for a value that no setting has."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not is_plain(str(key)) or "${" in str(key):
                raise ValueError(f"the key {shown(key)}{f' in {where}' * bool(where)}")
            _check_values(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            _check_values(value, f"{where}[{i}]")
    elif isinstance(node, str):
        if "${" in node or node == "???":
            raise ValueError(f"{where}={shown(node)}: an interpolation; records are written resolved")
        if len(node) > _TEXT:
            raise ValueError(f"{where}: a text of {len(node):,} characters")
    elif isinstance(node, float) and not math.isfinite(node):
        raise ValueError(f"{where}={node}; expected a finite number")
    elif isinstance(node, int) and abs(node) >= 2**63:
        raise ValueError(f"{where}={shown(node)}; expected an integer below 2^63")
    elif node is not None and not isinstance(node, bool | int | float):
        raise ValueError(f"{where}: a {type(node).__name__}; expected a number, a text, true, false or null")


def _check_groups(settings: dict[str, Any]) -> None:
    """Raises ValueError unless the groups of a run are there, with the names of their options and of their classes."""
    later = [LATER] if LATER in settings else []
    for group in (*_GROUPS, *later):
        if not isinstance(settings.get(group), dict):
            raise ValueError(f"{group}={shown(settings.get(group))}; expected its settings")
    classes = (*CLASSES, *later)
    for group in (*classes, "data"):
        if not is_name(option := settings["choices"].get(group)):
            raise ValueError(f"choices.{group}={shown(option)}; expected the name of an option")
    for group in classes:
        if not isinstance(target := settings[group].get("_target_"), str):
            raise ValueError(f"{group}._target_={shown(target)}; expected the dotted path of a class")


def is_name(value: object) -> bool:
    """Whether a value names an option or a set of data, and leads to no other folder.

    >>> is_name("opt-125m"), is_name("../x"), is_name("/etc"), is_name(None)
    (True, False, False, False)
    """
    return isinstance(value, str) and is_plain(value) and not {"/", "\\"} & set(value) and value.strip(". ") != ""


def _said(error: Exception) -> str:
    """An error of YAML in one line."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return where + " ".join((getattr(error, "problem", None) or str(error) or "nested too deeply").split())[:300]
