"""Where conf/ is: beside the package in a checkout, inside it in a wheel. Standard library only."""

import os
from pathlib import Path


def conf_dir() -> Path:
    """The folder that holds config.yaml.

    Raises:
        FileNotFoundError: if the installation is broken.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent / "conf", package / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"zobench has no conf/ beside or inside {package}; install it again")


def cache_dir() -> Path:
    """``$ZOBENCH_CACHE``, else ``~/.cache/zobench``."""
    return Path(os.environ.get("ZOBENCH_CACHE", "~/.cache/zobench")).expanduser()
