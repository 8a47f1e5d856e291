"""Freeze the rules: write the hash of each file of a version, which a test holds it to from then on.

python scripts/freeze_rules.py v2       # a new version, once its comparison begins
"""

import sys
from pathlib import Path

from zobench.rules import frozen


def main(version: str) -> None:
    if not (frozen.FOLDER / version).is_dir():
        raise SystemExit(f"freeze_rules: {version}: no such version; expected a folder of {frozen.FOLDER}")
    path: Path = frozen.freeze(version)
    print(f"written: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "v1")
