"""A version of the rules is frozen: what was compared by it stays comparable. ``frozen.json`` has its files' hashes."""

import json
from pathlib import Path

from zobench.config.cache import sha256
from zobench.rules.files import FOLDER

FILE = FOLDER / "frozen.json"


def hashes(version: str) -> dict[str, str]:
    """File → hash, of a version's files as they are."""
    return {path.name: sha256(path.read_bytes()) for path in sorted((FOLDER / version).glob("*.yaml"))}


def changed(version: str) -> list[str]:
    """The files of a version that are not what they were when it was frozen; new and lost ones too."""
    then, now = json.loads(FILE.read_text(encoding="utf-8")).get(version, {}), hashes(version)
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


def freeze(version: str) -> Path:
    """Write the hashes of a version's files; gives the file that holds them."""
    held = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    FILE.write_text(json.dumps(held | {version: hashes(version)}, indent=1) + "\n", encoding="utf-8")
    return FILE
