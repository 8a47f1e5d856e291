"""Where zobench keeps what it derives and can derive again."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """``$ZOBENCH_CACHE``, else ``~/.cache/zobench``."""
    return Path(os.environ.get("ZOBENCH_CACHE", "~/.cache/zobench")).expanduser()
