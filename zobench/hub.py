"""The Hugging Face hub: whether it can be reached, found out in seconds and not in minutes."""

import os
import socket
from urllib.parse import urlparse

_TIMEOUT_S = 3.0


def reachable() -> bool:
    """True if the hub's host answers; a proxy is trusted to reach it."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    url = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        port = url.port or (80 if url.scheme == "http" else 443)
        with socket.create_connection((url.hostname or "", port), timeout=_TIMEOUT_S):
            return True
    except OSError:
        return False


def prepare() -> bool:
    """Set offline mode where the hub cannot be reached, so that its libraries use their cache or fail at once.

    Must run before ``datasets`` or ``transformers`` is imported, which read the setting once.
    """
    if reachable():
        return True
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    return False
