"""Settings that had another name: typed, the old one works for a while; in stored runs it is read for ever.

``RENAMES`` is the list. An entry is never removed, for records of any age must be read. Standard library only.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from zobench.errors import ConfigError, show, shown
from zobench.version import VERSION

#: for so many minor versions a typed old name works, the one that renames it included
_MINORS = 2


@dataclass(frozen=True)
class Rename:
    """A setting of an option under two names.

    Attributes:
        group: of the option, such as ``method``.
        option: the option's name.
        old: what the setting was called.
        new: what it is called.
        version: the first that has the new name, as ``0.2``.
    """

    group: str
    option: str
    old: str
    new: str
    version: str

    @property
    def until(self) -> str:
        """The first version that refuses the old name."""
        major, minor = _release(self.version)
        return f"{major}.{minor + _MINORS}"

    def works_in(self, version: str) -> bool:
        """Whether the old name may be typed in a version.

        >>> rename = Rename("method", "tezo_m", "beta1", "beta", "0.2")
        >>> [rename.works_in(version) for version in ("0.2.0", "0.3.1", "0.4.0")]
        [True, True, False]
        """
        return _release(version) < _release(self.until)


RENAMES = (
    Rename("method", "aim_zo", "refresh", "interval", "0.2"),
    Rename("method", "subzero_plus", "queries", "probes", "0.2"),
    Rename("method", "tezo_m", "beta1", "beta", "0.2"),
    Rename("method", "zo_mopi", "queries", "probes", "0.2"),
    Rename("method", "zo_muon", "queries", "probes", "0.2"),
    Rename("method", "zo_muon_sgd", "queries", "probes", "0.2"),
)


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def typed(words: Iterable[str], chosen: Mapping[str, Iterable[str]], version: str = VERSION) -> list[str]:
    """The words of a command line under the names of today; an old name is told once, on standard error.

    Args:
        words: overrides and flags.
        chosen: the options that they choose, by group.
        version: of zobench.

    Raises:
        ConfigError: for an old name that works no more.

    Example:
        >>> typed(["method.probes=4"], {"method": ["zo_muon"]})
        ['method.probes=4']
    """
    return [_typed(word, chosen, version) for word in words]


def _typed(word: str, chosen: Mapping[str, Iterable[str]], version: str) -> str:
    key, equals, value = word.partition("=")
    mark = key[: len(key) - len(key.lstrip("+~"))]
    for rename in RENAMES:
        if key.lstrip("+~") != f"{rename.group}.{rename.old}" or set(chosen.get(rename.group, ())) != {rename.option}:
            continue
        new = f"{mark}{rename.group}.{rename.new}{equals}{value}"
        if not rename.works_in(version):
            raise ConfigError(f"{shown(word)}: renamed in {rename.version}; write {shown(new)}")
        _tell(f"zobench: {shown(word)}: renamed in {rename.version}, works until {rename.until}; write {shown(new)}")
        return new
    return word


@cache
def _tell(warning: str) -> None:
    show(warning, sys.stderr)


def stored(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a stored run under the names of today.

    Example:
        >>> stored({"choices": {"method": "tezo_m"}, "method": {"beta1": 0.9}})["method"]
        {'beta': 0.9}
    """
    renewed = dict(settings)
    for rename in _of(settings["choices"]):
        renewed[rename.group] = _moved(renewed[rename.group], rename.old, rename.new)
    return renewed


def row(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a stored run under the names of today.

    Example:
        >>> row({"method": "aim_zo", "method.refresh": 10})
        {'method': 'aim_zo', 'method.interval': 10}
    """
    renewed = dict(summary)
    for rename in _of(summary):
        renewed = _moved(renewed, f"{rename.group}.{rename.old}", f"{rename.group}.{rename.new}")
    return renewed


def _of(choices: Mapping[str, Any]) -> list[Rename]:
    return [rename for rename in RENAMES if choices.get(rename.group) == rename.option]


def _moved(values: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Values in their order, one of them under its new name; as they are where it has that already."""
    return {new if key == old and new not in values else key: value for key, value in values.items()}
