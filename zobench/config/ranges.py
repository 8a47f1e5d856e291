"""What the classes of options refuse, known without importing them: ``ranges.json``, which holds their own checks.

``python scripts/record_settings.py`` makes each class that conf/ names and writes down which checks its constructor
makes. The constructor is the only place where a range is written.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from zobench.config.schema import is_int

FILE = Path(__file__).parent / "ranges.json"


def out_of_range(node: Mapping[str, Any], where: str) -> Iterator[str]:
    """A line for each setting of an option, and of options within it, that its class would refuse.

    >>> list(out_of_range({"_target_": "zobench.zo.rules.Momentum", "beta": 1.5}, "method.rule"))
    ['method.rule.beta=1.5: must lie in [0, 1)']

    Args:
        node: the option's settings, with its ``_target_``.
        where: the node's path in the configuration.
    """
    checks = _checks().get(str(node.get("_target_")), {})
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from out_of_range(value, f"{where}.{key}")
        elif key in checks and value is not None and not _passes(value, checks[key]):
            yield f"{where}.{key}={value}: {checks[key]['expected']}"


def is_known(node: Mapping[str, Any]) -> bool:
    """Whether the checks of a node's class, and of those within it, are known."""
    return str(node.get("_target_")) in _checks() and all(
        is_known(value) for value in node.values() if isinstance(value, Mapping) and "_target_" in value
    )


def _passes(value: Any, check: Mapping[str, Any]) -> bool:
    if "choices" in check:
        return value in check["choices"]
    if not (is_int(value) or isinstance(value, float)):
        return True  # of the wrong type, which is said elsewhere
    interval = check["interval"]
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


@cache
def _checks() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads(FILE.read_text(encoding="utf-8"))
