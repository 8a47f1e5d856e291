"""Which of the papers' models a run had: by family and size, never by the name of its option alone."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from zobench.report.compare.identity import Model, size

_FILE = Path(__file__).parent / "models.yaml"
_ROUNDING = 0.02  # relative: counts are rounded, and some count added parameters


@cache
def facts() -> dict[str, dict[str, Any]]:
    """Read family and number of parameters of each of the papers' models.

    >>> facts()["opt-13b"]
    {'family': 'opt', 'parameters': 12853473280}
    """
    return dict(yaml.safe_load(_FILE.read_text(encoding="utf-8")))


def paper_model(model: Model) -> tuple[str, str]:
    """Name the papers' model that a run had.

    It is the one of the option's name if family and size are right, else the only one of that family and size. Where
    an old record does not hold the family the name and size decide.

    >>> paper_model(Model("opt-13b", "opt", 263808, "3fa1", True, None))[1]
    "model=opt-13b is not the papers' opt-13b: opt 263.8K here, opt 12.9B there"

    Returns:
        The name, and "" for why; or "", and why it is none of them.
    """
    option, known = model.option, facts()
    if model.parameters is None:
        why = f"model={option}: its record does not say how large it was, so that it is not known to be the papers'"
        return "", why if option in known else f"the papers have no model {option}"
    fits = [name for name, each in known.items()
            if abs(model.parameters / each["parameters"] - 1) <= _ROUNDING
            and (each["family"] == model.family or (model.family is None and name == option))]  # fmt: skip
    if option in fits or len(fits) == 1:
        return (option if option in fits else fits[0]), ""
    here = " ".join(part for part in (model.family, size(model.parameters)) if part)
    if option in known:
        there = f"{known[option]['family']} {size(known[option]['parameters'])}"
        return "", f"model={option} is not the papers' {option}: {here} here, {there} there"
    if fits:
        return "", f"model={option} ({here}) may be any of {', '.join(fits)}; the option's name is to say which"
    return "", f"the papers have no model {option}"
