"""The Hugging Face hub and wandb: whether they can be reached, found out in seconds and not in minutes."""

import os
import socket
from urllib.parse import urlparse

_TIMEOUT_S = 3.0


def reachable() -> bool:
    """Whether the hub's host answers; a proxy is trusted to reach it."""
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

    Call it before ``datasets`` or ``transformers`` is imported, which read the setting once.

    Returns:
        Whether the hub can be reached.
    """
    if reachable():
        return True
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    return False


def why_offline() -> str | None:
    """Why wandb's online mode cannot work here: no key, or no network; None if it can.

    wandb itself would end the run, without a network after half a minute.
    """
    import netrc
    from urllib.parse import urlparse

    url = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host, port = url.hostname or "api.wandb.ai", url.port or (80 if url.scheme == "http" else 443)
    try:
        key = os.environ.get("WANDB_API_KEY") or netrc.netrc().authenticators(host)
    except (OSError, netrc.NetrcParseError):
        key = None
    if not key:
        return "no API key"
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return None
    try:
        socket.create_connection((host, port), timeout=3.0).close()
    except OSError:
        return f"{host} cannot be reached"
    return None
