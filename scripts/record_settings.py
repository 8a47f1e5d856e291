"""Bring zobench/config/named.json and ranges.json up to date.

named.json: which settings a run's name always holds, and what later ones came with. ranges.json: what the classes of
options refuse.

    python scripts/record_settings.py

Run it when an option of conf/ gained a key, before the default of that key ever changes, and when a class has other
checks. What named.json holds never changes: it would rename runs. An option that is new as a whole is recorded with
all its keys.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch

from zobench.config import instantiate, ranges
from zobench.config.folders import conf_dir
from zobench.config.options import leaves, load_yaml
from zobench.config.schema import SETTINGS, defaults_of_run
from zobench.config.signature import GROUPS, LATER, is_outside
from zobench.zo.checks import noting

FILE = Path(__file__).resolve().parents[1] / "zobench" / "config" / "named.json"


def now() -> dict[str, dict[str, Any]]:
    """Option → settings and their defaults, as they are."""
    inside = {setting.key for setting in SETTINGS if setting.names_run}
    options = {"run": {k: v for k, v in leaves(defaults_of_run()) if k in inside}}
    for group in (*GROUPS, *LATER):
        for path in sorted((conf_dir() / group).rglob("*.yaml")):
            settings = {k: v for k, v in leaves(load_yaml(path)) if k != "_target_" and not is_outside(group, k)}
            options[path.relative_to(conf_dir()).with_suffix("").as_posix()] = settings
    return options


def recorded(before: Mapping[str, Any]) -> dict[str, Any]:
    """The file's new content."""
    after = dict(before)
    for option, settings in now().items():
        if option not in after:
            after[option] = {"always": sorted(settings), "introduced": {}}
            continue
        known = {*after[option]["always"], *after[option]["introduced"]}
        later = {key: value for key, value in settings.items() if key not in known}
        after[option] = {**after[option], "introduced": after[option]["introduced"] | later}
    return dict(sorted(after.items()))


def checked() -> dict[str, dict[str, Any]]:
    """Class → what its constructor checks of each setting, made with the values of an option's file."""
    classes: dict[str, dict[str, Any]] = {}
    for group in (*GROUPS, *LATER, "method/rule"):
        for path in sorted((conf_dir() / group).glob("*.yaml")):
            node = {key: value for key, value in load_yaml(path).items() if key != "defaults"}
            node = {key: None if value == "???" else value for key, value in node.items()}
            target = node.get("_target_", instantiate.CLASSES.get(group))
            stand_in = [[("weight", torch.zeros(8, 8))]] if group == "method" else []
            with noting() as made:
                instantiate.build(node, group, *stand_in)
            settings = instantiate.keyword_arguments(instantiate.locate(target, group))
            words = {name: _words(setting.annotation) for name, setting in settings.items()}
            named = {name: _of_words(choices) for name, choices in words.items() if choices}
            classes[target] = named | {name: check for name, check in made.items() if name in settings}
    return classes


def _words(hint: Any) -> list[str]:
    """The words that an argument takes, where its type lists them."""
    return [word for member in (hint, *get_args(hint)) if get_origin(member) is Literal for word in get_args(member)]


def _of_words(words: list[str]) -> dict[str, Any]:
    return {"choices": words, "expected": f"expected one of {', '.join(words)}"}


if __name__ == "__main__":
    noted = [f" {json.dumps(name)}: {json.dumps(checks)}" for name, checks in sorted(checked().items())]
    ranges.FILE.write_text("{\n" + ",\n".join(noted) + "\n}\n", encoding="utf-8")
    held = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    lines = [f" {json.dumps(option)}: {json.dumps(kept)}" for option, kept in recorded(held).items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
