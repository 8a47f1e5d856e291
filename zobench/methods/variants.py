"""Switches: the named differences between a paper and its released code."""

from collections.abc import Mapping
from typing import Any


def resolve(variant: str, variants: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """The variant's switches, with those given (not None) in their place.

    Raises:
        ValueError: for a variant that is not there, or a word that no variant has for this switch.
    """
    _check("variant", variant, list(variants))
    for name, value in given.items():
        if isinstance(value, str):
            _check(name, value, list(dict.fromkeys(switches[name] for switches in variants.values())))
    return {**variants[variant], **{name: value for name, value in given.items() if value is not None}}


def _check(name: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
