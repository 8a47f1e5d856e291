"""The prices of cells, exactly: each method's own class says what a budget pays for, once, and disk remembers it."""

import json
from functools import cache
from typing import Any

from zobench.config import instantiate
from zobench.config.cache import Cache
from zobench.config.chosen import Chosen
from zobench.run.budget import Spending, spending

_KEPT = 2000


class Prices:
    """Steps, forward and backward passes of planned cells.

    The first question about a method's settings imports its class, and torch with it, which takes seconds. The answer
    depends on the settings, the budget and the code; while these are the same, it comes from the cache folder. On what
    code a method of a user's own depends is not known, so that it is always asked.
    """

    def __init__(self) -> None:
        self._cache = Cache("prices", keep=_KEPT)
        self._asked = cache(self._of)

    def of(self, cell: Chosen) -> Spending:
        """What a cell spends from its first step to its last.

        Raises:
            ConfigError: if its run would refuse the method's settings or the budget.
        """
        budgets = cell.get("steps"), cell.get("forwards")
        return self._asked(json.dumps([cell.settings["method"], *budgets, _forwards_each(cell)]))

    def _of(self, question: str) -> Spending:
        node, steps, forwards, each = json.loads(question)
        ships = node["_target_"].startswith("zobench.")
        known = self._cache.load(question) if ships else None
        if known is not None:
            return Spending(**known)
        answer = _ask(node, steps, forwards, each)
        if ships:
            self._cache.store(vars(answer), question)
        return answer


def _forwards_each(cell: Chosen) -> int:
    """The forward passes that a loss counts as: the tokens of an answer, where generated ones are scored."""
    tokens = cell.get("objective.max_new_tokens")
    return tokens if tokens is not None and instantiate.build(cell.settings["task"], "task").generates else 1


def _ask(node: dict[str, Any], steps: int | None, forwards: int | None, each: int) -> Spending:
    """What the class says, on a parameter that stands for any."""
    import torch

    method = instantiate.build(node, "method", [("-", torch.zeros(8, 8))])
    method.oracle.forwards_each = each
    return spending(steps, forwards, method)
