"""Where conf/ and the cache are. Standard library only.

conf/ is beside the package in a checkout and inside it in a wheel.
"""

import os
from pathlib import Path


def conf_dir() -> Path:
    """The folder conf/, which holds config.yaml.

    Raises:
        FileNotFoundError: if the installation is broken.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent / "conf", package / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"zobench has no conf/ beside or inside {package}; install it again")


def cache_dir() -> Path:
    """The folder for what can be made again: ``$ZOBENCH_CACHE``, else ``~/.cache/zobench``. It may not exist yet."""
    return Path(os.environ.get("ZOBENCH_CACHE", "~/.cache/zobench")).expanduser()
