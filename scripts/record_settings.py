"""Bring zobench/config/named.json up to date: which settings a run's name always holds, and what later ones came with.

    python scripts/record_settings.py

Run it when an option of conf/ gained a key, before the default of that key ever changes. What is recorded never
changes: it would rename runs. An option that is new as a whole is recorded with all its keys.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zobench.config.folders import conf_dir
from zobench.config.options import leaves, load_yaml
from zobench.config.schema import SETTINGS, defaults_of_run
from zobench.config.signature import GROUPS, is_outside

FILE = Path(__file__).resolve().parents[1] / "zobench" / "config" / "named.json"


def now() -> dict[str, dict[str, Any]]:
    """Option → settings and their defaults, as they are."""
    inside = {setting.key for setting in SETTINGS if setting.names_run}
    options = {"run": {k: v for k, v in leaves(defaults_of_run()) if k in inside}}
    for group in GROUPS:
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


if __name__ == "__main__":
    held = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    lines = [f" {json.dumps(option)}: {json.dumps(kept)}" for option, kept in recorded(held).items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
