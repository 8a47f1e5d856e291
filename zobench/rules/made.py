"""What a file of the rules may say: keys, types, and settings that are an entry's or a workload's own to make."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zobench.errors import ConfigError, did_you_mean

LR = "method.lr"
#: the workload's factors on learning rates
FACTORS = ("rates", "step_rates", "length_rates", "backprop_rates")
#: what a workload leaves to rules, rulesets and entries, with all settings below each
RULED = (
    "method", "seed", "data_seed", "noise_seed", "order_seed", "init_seed", "steps", "forwards", "eval_every",
    "keep_weights", "threads", "runs_dir", "wandb", "experiment", "search",
)  # fmt: skip
#: settings that an entry searches at most: as many places are drawn
MOST = 3
#: how wide the interval of learning rates is at most
DECADES = 3
_NAME = re.compile(r"[\w-]+")


def made(kind: Any, path: Path, name: object, content: Any) -> Any:
    """An object of a file's mapping, checked.

    Args:
        kind: the class of its fields, a dataclass.
        path: the file.
        name: under which the mapping stands there.
        content: the mapping.

    Raises:
        ConfigError: for a name, key or value that cannot be; the message names file, name and key.
    """
    fields = {each.name: each for each in dataclasses.fields(kind)}
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{path}: {name}: expected a name of letters, digits, - and _; a number needs quotes")
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: {name}: expected a mapping, such as words: method=mezo")
    for key in content:
        if key not in fields or key == "name":
            raise ConfigError(f"{path}: {name}: {key}: no such key{did_you_mean(str(key), fields)}")
    needed = [key for key, each in fields.items() if not _optional(each) and key != "name" and key not in content]
    if needed:
        raise ConfigError(f"{path}: {name}: expected {', '.join(needed)} too")
    for key, value in content.items():
        expected, right = _KEYS.get((kind.__name__, key)) or _KEYS.get(("", key), ("", _anything))
        if not right(value):
            raise ConfigError(f"{path}: {name}: {key}: expected {expected}, found {value!r}")
    found = kind(name=name, **{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})
    if kind.__name__ == "Entry" and (wrong := _of_space(found)):
        raise ConfigError(f"{path}: {name}: {wrong}")
    return found


def ruled(words: str, common: str) -> list[str]:
    """The settings of a workload that are not its own to make.

    >>> ruled("task=sst2 model=opt-125m threads=2 seed=3", "threads=1 wandb=disabled")
    ['threads', 'seed']

    Args:
        words: of the workload.
        common: words of all runs, which it may repeat.
    """
    own = [word for word in words.split() if word not in common.split()]
    return [key for key, _, _ in (word.partition("=") for word in own) if re.split("[./]", key)[0] in RULED]


def _optional(each: dataclasses.Field[Any]) -> bool:
    return each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING


def _of_space(entry: Any) -> str | None:
    """What is wrong with what an entry searches; None if nothing is."""
    if set(entry.space) != set(entry.shipped):
        return "space and shipped: expected the same settings in both"
    if len(entry.space) > MOST:
        return f"space: expected {MOST} settings at most, found {len(entry.space)}"
    if entry.space and next(iter(entry.space)) != LR:
        return f"space: expected {LR} first, which all entries search at the same places"
    if entry.space and "interval(" not in str(entry.space[LR]):
        return f"space: {LR}: expected an interval, such as tag(log, interval(1e-8, 1e-5))"
    if entry.space and not _positive_text(entry.shipped[LR]):
        return f"shipped: {LR}: expected a positive number, found {entry.shipped[LR]!r}"
    return _of_rates(str(entry.space[LR]), float(entry.shipped[LR])) if entry.space else None


def _of_rates(space: str, shipped: float) -> str | None:
    """What is wrong with the interval in which an entry's learning rate is searched; None if it is none to be read.

    >>> _of_rates("tag(log, interval(1e-8, 1e-4))", 1e-6)
    'space: method.lr: expected an interval of 3 decades at most, found 1e-08 to 0.0001'
    """
    found = re.search(r"interval\(([^,()]+),([^,()]+)\)", space)
    low, high = (float(each) if _positive_text(each) else 0.0 for each in (found.groups() if found else ("", "")))
    if not 0 < low < high:  # which whoever draws trials answers
        return None
    if math.log10(high / low) > DECADES + 1e-9:
        return f"space: {LR}: expected an interval of {DECADES} decades at most, found {low:g} to {high:g}"
    if not low <= shipped <= high:
        return f"shipped: {LR}: expected a value in the space, {low:g} to {high:g}; found {shipped:g}"
    return None


def _words(value: object) -> dict[str, str] | None:
    """Overrides by key; None for what is no text of them."""
    words = value.split() if isinstance(value, str) else [""]
    return dict(word.split("=", 1) for word in words) if all(word.find("=") > 0 for word in words) else None


def _anything(_: object) -> bool:
    return True


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _positive_text(value: object) -> bool:
    """Whether a value is a positive number, also as YAML reads one without a point: 1e-6 is a text."""
    try:
        return _number(float(value)) and not isinstance(value, bool)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _of_method(value: object) -> bool:
    """Whether a value is a mapping of settings of a method."""
    return isinstance(value, Mapping) and all(str(key).startswith("method.") for key in value)


def _of_entry(value: object) -> bool:
    words = _words(value) or {}
    return "method" in words and all(re.fullmatch(r"method([./].+)?", key) for key in words)


def _of_workload(value: object) -> bool:
    return {"task", "model"} <= set(_words(value) or {})


_POSITIVE = "a positive number, such as 10 or 1.0e-6", _number
_YES = "true or false", lambda value: isinstance(value, bool)
_SETTINGS = "settings of the method, such as {method.lr: 1.0e-6}", _of_method
#: (class, key) -> what is expected, and whether a value is that; the class is left away where all have the key alike
_KEYS: dict[tuple[str, str], tuple[str, Callable[[Any], bool]]] = {
    ("Entry", "words"): ("method=NAME and settings of it, such as method=mezo method.probes=4", _of_entry),
    ("Workload", "words"): ("task=NAME, model=NAME and settings, such as batch_size=16", _of_workload),
    ("Workload", "forwards"): ("a positive integer", lambda value: _number(value) and isinstance(value, int)),
    ("Workload", "inputs"): (
        "a list of settings, such as [data.dir]",
        lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    ),
    ("Workload", "small_matrices"): _YES,
    ("Entry", "small_matrices"): _SETTINGS,
    ("Entry", "of"): ("the name of an entry", lambda value: value is None or isinstance(value, str)),
    ("", "space"): _SETTINGS,
    ("", "shipped"): _SETTINGS,
    ("", "backprop"): _YES,
    ("", "times"): _POSITIVE,
    ("", "vectors"): _POSITIVE,
    ("", "factor"): (f"one of {', '.join(FACTORS)}", lambda value: value in FACTORS),
    **{("", key): _POSITIVE for key in FACTORS},
}
