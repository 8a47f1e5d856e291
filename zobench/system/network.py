"""The Hugging Face hub and wandb: whether they can be reached, found out in seconds and not in minutes."""

import os
import re
import socket
from threading import Thread
from urllib.parse import ParseResult, urlparse

_TIMEOUT_S = 3.0


def endpoint() -> str:
    """The address of the hub, or of its mirror that ``HF_ENDPOINT`` names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def is_address(text: str) -> bool:
    """Whether it is an address that can be asked.

    >>> is_address("https://my.mirror/hub"), is_address("my.mirror"), is_address("https://my.mirror:99999")
    (True, False, False)
    """
    try:
        url = urlparse(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # of a port
        return False


def without_login(text: str) -> str:
    """The text without names and passwords in its addresses.

    >>> without_login("https://me:secret@my.mirror cannot be reached")
    'https://my.mirror cannot be reached'
    """
    return re.sub(r"//[^/@\s]*@", "//", text)


def forced_offline() -> str | None:
    """The variable that forbids to ask the hub, read as the hub's library does; None if none does."""
    name = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
    return name if os.environ.get(name, "").lower() in ("1", "true", "yes", "on") else None


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
