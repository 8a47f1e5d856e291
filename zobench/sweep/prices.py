"""The prices of cells, exactly: each method's own class says what a budget pays for, once, and disk remembers it."""

import inspect
import json
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zobench.config import instantiate
from zobench.run.budget import Spending, spending
from zobench.sweep.cache import Cache, sha256
from zobench.sweep.plan import PlannedCell

_KEPT = 2000
#: packages whose code is part of every key, or no method's own
_NOT_OWN = frozenset(("zobench", "torch", "builtins"))


class Prices:
    """Steps, forward and backward passes of planned cells.

    The first question about a method's settings imports its class, and torch with it, which takes seconds. The answer
    depends on the settings, the budget and the code; while these are the same, it comes from the cache folder.
    """

    def __init__(self) -> None:
        self._cache = Cache("prices", keep=_KEPT)
        self._asked = cache(self._of)

    def of(self, cell: PlannedCell) -> Spending:
        """What a cell spends from its first step to its last.

        Raises:
            ConfigError: if its run would refuse the method's settings or the budget.
        """
        return self._asked(json.dumps([cell.settings["method"], cell.get("steps"), cell.get("forwards")]))

    def _of(self, question: str) -> Spending:
        node, steps, forwards = json.loads(question)
        known = self._cache.load(question)
        if known is not None and _unchanged(node["_target_"], known["sources"]):
            return Spending(**known["spending"])
        answer, sources = _ask(node, steps, forwards)
        self._cache.store({"spending": vars(answer), "sources": sources}, question)
        return answer


def _ask(node: dict[str, Any], steps: int | None, forwards: int | None) -> tuple[Spending, dict[str, str]]:
    """What the class says, on a parameter that stands for any, and the files outside zobench that decide on it."""
    import torch

    method = instantiate.build(node, "method", [("weight", torch.zeros(8, 8))])
    modules = {node["_target_"].rpartition(".")[0], *(cls.__module__ for cls in inspect.getmro(type(method)))}
    own = {module.partition(".")[0] for module in modules} - _NOT_OWN
    files = {
        path
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in own and (path := getattr(module, "__file__", None))
    }
    return spending(steps, forwards, method), {path: sha256(Path(path).read_bytes()) for path in sorted(files)}


def _unchanged(target: str, sources: dict[str, str]) -> bool:
    """Whether a class is still found in one of the files it came from, and all of them are as they were."""
    module = target.rpartition(".")[0]
    if module.partition(".")[0] not in _NOT_OWN:
        try:
            spec = find_spec(module)
        except ImportError:
            return False
        if spec is None or spec.origin not in sources:
            return False
    try:
        return all(sha256(Path(path).read_bytes()) == digest for path, digest in sources.items())
    except OSError:
        return False
