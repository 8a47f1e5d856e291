"""The Hugging Face hub and wandb: whether they can be reached, found out in seconds and not in minutes."""

import os
import socket
from threading import Thread
from urllib.parse import ParseResult, urlparse

_TIMEOUT_S = 3.0


def endpoint() -> str:
    """The address of the hub, or of its mirror that ``HF_ENDPOINT`` names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def forced_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def reachable() -> bool:
    """Whether the hub's host answers within seconds; a proxy is trusted to reach it."""
    if forced_offline():
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    url = urlparse(endpoint())
    answered: list[bool] = []
    # In a thread of its own: looking up a name has no limit of time.
    asking = Thread(target=lambda: answered.append(_connects(url)), daemon=True)
    asking.start()
    asking.join(_TIMEOUT_S)
    return bool(answered) and answered[0]


def _connects(url: ParseResult) -> bool:
    try:
        port = url.port or (80 if url.scheme == "http" else 443)
        with socket.create_connection((url.hostname or "", port), timeout=_TIMEOUT_S):
            return True
    except (OSError, ValueError):  # no such host, no such port
        return False


def why_offline() -> str | None:
    """Why wandb's online mode cannot work here: no key, or no network; None if it can.

    wandb itself would end the run, without a network after half a minute.
    """
    import netrc

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
