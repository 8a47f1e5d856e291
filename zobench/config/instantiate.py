"""From a node of the configuration to the object it describes.

A node's ``_target_`` names a class, and the class is its schema: keyword-only arguments with type hints and defaults.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from zobench.config.former import TEMPLATE
from zobench.config.schema import as_yaml, is_int
from zobench.errors import ConfigError, did_you_mean, first_line, shown

#: the class of an option whose file names none, by group
CLASSES = {"task": TEMPLATE}


def locate(target: str, where: str) -> Any:
    """The object that a dotted path names.

    Args:
        target: the path, such as ``zobench.methods.mezo.MeZO``.
        where: the node that holds it, for the message.

    Raises:
        ConfigError: if there is no such object.
    """
    return _imported(target, f"{where}._target_", "a class, such as my_package.MyClass")


def function(path: Any, key: str) -> Callable[[Any, Any], Any]:
    """The function of two arguments that a setting names by its dotted path.

    Raises:
        ConfigError: if there is no such function.
    """
    expected = "a function of (answer, example), such as my_package.my_module.my_function"
    found = _imported(path, key, expected)
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError):
        raise ConfigError(f"{key}={path}: a {type(found).__name__}; expected {expected}") from None
    return found


def _imported(path: Any, key: str, expected: str) -> Any:
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError(f"{key}={shown(path)}: expected the dotted path of {expected}")
    try:
        return getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # importing runs the module, which may fail in any way
        raise ConfigError(f"{key}={path}: cannot be imported: {first_line(error)}") from error


def build(node: Mapping[str, Any], where: str, *positional: Any, kind: type = object, **extra: Any) -> Any:
    """Instantiate what a node's ``_target_`` names, nested nodes first.

    Args:
        node: the arguments, by name, beside ``_target_``.
        where: the node's path in the configuration, for messages.
        positional: passed ahead of the node's arguments.
        kind: what the class must be, or derive from.
        extra: passed if the class, or a base that it hands ``**`` arguments to, takes them.

    Raises:
        ConfigError: with all unknown and missing keys at once, or with the reason the class gives for refusing a value.

    Example:
        >>> node = {"_target_": "zobench.zo.rules.Momentum", "beta": 0.5}
        >>> build(node, "method.rule").beta
        0.5
        >>> build({**node, "bta": 0.5}, "method.rule")
        Traceback (most recent call last):
        zobench.errors.ConfigError: method.rule.bta: Momentum has no bta; did you mean method.rule.beta?
    """
    if "_target_" not in node and where not in CLASSES:
        raise ConfigError(f"{where}: its YAML file needs a _target_, the dotted path of a class")
    target = node.get("_target_", CLASSES.get(where))
    cls = locate(target, where)
    if not (isinstance(cls, type) and issubclass(cls, kind)) or cls is kind:
        a = "a class" if kind is object else f"a class that derives from {kind.__module__}.{kind.__qualname__}"
        raise ConfigError(f"{where}._target_={target}: expected {a}")
    known = keyword_arguments(cls)
    given = {k: v for k, v in node.items() if k != "_target_"}
    for key, value in given.items():
        if isinstance(value, Mapping) and "_target_" in value:
            given[key] = build(value, f"{where}.{key}")
    problems = [
        f"{where}.{key}={as_yaml(value)}: expected {_in_words(known[key].annotation)}"
        for key, value in given.items()
        if key in known and not _fits(value, known[key].annotation, node[key])
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
        of_setting = isinstance(error, ValueError) and re.match(r"[\w.]+=", str(error))
        raise ConfigError(f"{where}.{error}" if of_setting else f"{where}: {error}") from error


_SIMPLE = {int: "an integer", float: "a number", str: "text", bool: "true or false", NoneType: "null"}


def _members(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any, given: Any) -> bool:
    """Whether a value is of a type that consists of simple ones, or an object of a class; others are left alone."""
    members = _members(hint)
    if isinstance(given, Mapping) and "_target_" in given:
        return not all(isinstance(member, type) for member in members) or isinstance(value, members)
    if not all(member in _SIMPLE for member in members):
        return True
    return type(value) in members or (float in members and is_int(value))


def _in_words(hint: Any) -> str:
    return " or ".join(_SIMPLE.get(member, f"a {member.__qualname__}") for member in _members(hint))


def keyword_arguments(cls: Any) -> dict[str, inspect.Parameter]:
    """The settings of a class by name: its keyword-only arguments, those of its bases where it passes ``**`` on.

    A method has two kinds more: the switches of its ``variants``, which are null for the variant's value, and the
    keyword-only arguments of its ``parts``. What it ``decides`` itself is no setting.

    Returns:
        Parameters with resolved annotations.
    """
    arguments = _switches(cls)
    for base in inspect.getmro(cls):
        if "__init__" not in vars(base) or base is object:
            continue
        init = vars(base)["__init__"]
        hints = get_type_hints(init)
        parameters = inspect.signature(init).parameters.values()
        own = (p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in arguments)
        arguments |= {p.name: p.replace(annotation=hints.get(p.name, Any)) for p in own}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
        for part in vars(base).get("parts", ()):
            arguments = keyword_arguments(part) | arguments
    decided = getattr(cls, "decides", ())
    return {name: parameter for name, parameter in arguments.items() if name not in decided}


def _switches(cls: Any) -> dict[str, inspect.Parameter]:
    tables = {type(switches): get_type_hints(type(switches)) for switches in getattr(cls, "variants", {}).values()}
    hints = {name: hint for table in tables.values() for name, hint in table.items()}
    return {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint | None)
        for name, hint in hints.items()
    }
