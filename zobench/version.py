"""The version of zobench, once; ``pyproject.toml`` and ``CITATION.cff`` say the same."""

VERSION = "0.2.0"
