"""The settings of one run in plain values, as plans and estimates look at them."""

from dataclasses import dataclass
from typing import Any


class Chosen:
    """Looks into resolved settings.

    Attributes:
        settings: the resolved configuration, in plain values.
    """

    settings: dict[str, Any]

    def choice(self, group: str) -> str:
        """The option of a group, such as ``mezo`` of ``method``."""
        return str(self.settings["choices"][group])

    def get(self, path: str) -> Any:
        """The value of a setting by its dotted name, such as ``method.lr``; None if there is none.

        >>> Cell({"method": {"lr": 0.1}}).get("method.lr")
        0.1
        """
        node: Any = self.settings
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return node


@dataclass(frozen=True)
class Cell(Chosen):
    """One run by its settings alone."""

    settings: dict[str, Any]
