"""From a node with a ``_target_`` to the object it describes.

The class a YAML file points at is its schema: keyword-only, typed arguments.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from zobench.config.schema import is_int
from zobench.errors import ConfigError, did_you_mean


def locate(target: str, where: str) -> Any:
    """The object a dotted path names.

    Raises:
        ConfigError: if there is none.
    """
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}._target_={target}: cannot be imported: {error}") from error


def build(node: Mapping[str, Any], where: str, *positional: Any, **extra: Any) -> Any:
    """Instantiate what a node's ``_target_`` names, nested nodes first.

    ``extra`` arguments are passed if the class (or the base it hands ``**common`` to) takes them.

    Raises:
        ConfigError: all unknown and missing keys at once, or the reason the class gives for refusing a value.
    """
    if "_target_" not in node:
        raise ConfigError(f"{where}: its YAML file needs a _target_, the dotted path of a class")
    cls = locate(node["_target_"], where)
    known = accepted(cls)
    given = {k: v for k, v in node.items() if k != "_target_"}
    for key, value in given.items():
        if isinstance(value, Mapping) and "_target_" in value:
            given[key] = build(value, f"{where}.{key}")
    hints = get_type_hints(cls.__init__)
    problems = [
        f"{where}.{key}={value}: expected {_said(hints[key])}"
        for key, value in given.items()
        if key in hints and not _fits(value, hints[key])
    ]
    for key in given:
        if key not in known:
            problems.append(f"{where}.{key}: {cls.__name__} has no {key}{did_you_mean(key, known, f'{where}.')}")
    given.update({k: v for k, v in extra.items() if k in known})
    problems += [
        f"{where}.{name}: {cls.__name__} needs a value"
        for name, p in known.items()
        if p.default is p.empty and name not in given
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        return cls(*positional, **given)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}.{error}" if isinstance(error, ValueError) else f"{where}: {error}") from error


_SIMPLE = {int: "an integer", float: "a number", str: "text", bool: "true or false", NoneType: "null"}


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type that consists of simple ones; other types are left to the class."""
    kinds = _kinds(hint)
    if not all(kind in _SIMPLE for kind in kinds):
        return True
    return type(value) in kinds or (float in kinds and is_int(value))


def _said(hint: Any) -> str:
    return " or ".join(_SIMPLE[kind] for kind in _kinds(hint))


def accepted(cls: Any) -> dict[str, inspect.Parameter]:
    """Keyword-only arguments of a class, its bases' included where it passes ``**`` on."""
    found: dict[str, inspect.Parameter] = {}
    for base in inspect.getmro(cls):
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        found |= {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found
