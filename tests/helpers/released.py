"""What the tests against ``golden/released/*.json`` share: the problem, the draws that were recorded, the comparison.

``ZOBENCH_GOLDEN=DIR`` takes the files of another folder of the same format.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zobench.zo import Direction, Method, noise
from zobench.zo.independent import Independent
from zobench.zo.keys import Keys

FOLDER = Path(os.environ.get("ZOBENCH_GOLDEN") or Path(__file__).parents[1] / "golden" / "released")
#: bound on |found − golden| / max |golden| of each tensor
TOLERANCE = 1e-9
_FUNCTIONS = {"sin": torch.sin, "cos": torch.cos}

#: gives the recorded tensor for a draw: of (step, query, purpose), the slot's name and the shape asked for
Lookup = Callable[[int, int, str, str, torch.Size], Any]


def read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Problem:
    """The model and the data of a golden file, at its first weights.

    Attributes:
        model: its parameters have the names that the files use.
        rows: all of the data.
    """

    def __init__(self, golden: dict[str, Any]):
        formula = golden["problem"]["formula"]
        name, a, b, c, d = formula["x"]
        i, j = torch.arange(formula["rows"], dtype=torch.float64)[:, None], torch.arange(12, dtype=torch.float64)
        self.x = _FUNCTIONS[name](a + b * i + c * j + d * i * j)
        self.y = torch.arange(formula["rows"]) % 6
        self.rows = list(range(formula["rows"]))
        self.model = nn.Sequential(nn.Linear(12, 8, bias=False), nn.Tanh(), nn.Linear(8, 6)).double()
        self.model.load_state_dict(
            {"0.weight": _matrix(8, 12, *formula["w1"]), "2.weight": _matrix(6, 8, *formula["w2"])}
            | {"2.bias": _matrix(1, 6, formula["b"][0], formula["b"][1], formula["b"][2], 0.0, formula["b"][3])[0]}
        )
        assert abs(float(self.loss().detach()) - golden["problem"]["loss_at_start"]) < 1e-12

    def loss(self, rows: list[int] | None = None) -> Tensor:
        """The mean cross-entropy of some rows, all if None."""
        return self.losses(rows).mean()

    def losses(self, rows: list[int] | None = None) -> Tensor:
        """The cross-entropy of each row."""
        chosen = self.rows if rows is None else rows
        return F.cross_entropy(self.model(self.x[chosen]), self.y[chosen], reduction="none")

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}


def _matrix(m: int, n: int, scale: float, name: str, a: float, b: float, c: float) -> Tensor:
    i, j = torch.arange(m, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    return scale * _FUNCTIONS[name](a + b * i + c * j)


class _Named(Keys):
    """Keys that remember what they are for."""

    def __init__(self) -> None:
        super().__init__(0)
        self.what: dict[int, tuple[int, int, str]] = {}

    def __call__(self, step: int, query: int = 0, purpose: str = "probe") -> int:
        key = super().__call__(step, query, purpose)
        self.what[key] = step, query, purpose
        return key


def feed(monkeypatch: Any, method: Method, lookup: Lookup) -> None:
    """Let a method's draws be recorded ones: what it asks of the noise engine by a key of ``method.keys``.

    Fused passes are replaced by their definition: draw, then add.
    """
    keys = method.keys = _Named()
    names = {slot.id: slot.name for slot in method.slots}

    def draw(key: int, stream: int, shape: torch.Size, *_: Any) -> Tensor:
        found = tensor(lookup(*keys.what[key], names[stream], shape))
        assert found.shape == shape, f"{names[stream]}: a draw of {tuple(shape)}, recorded {tuple(found.shape)}"
        return found

    def add(total: Tensor, stream: int, draws: Direction, rows: None = None, **_: Any) -> None:
        for key, weight in draws.items():
            total.add_(draw(key, stream, total.shape).mul(weight))

    monkeypatch.setattr(noise, "gaussian", draw)
    monkeypatch.setattr(noise, "draw", draw)
    monkeypatch.setattr(noise, "add_rows_", add)
    monkeypatch.setattr(Independent, "splits", lambda self, slot: False)
    monkeypatch.setattr(Independent, "_in_one_pass", lambda self, slot: False)


def deviation(found: Tensor, golden: Any) -> float:
    """Relative to the largest number of the tensor."""
    expected = tensor(golden)
    assert found.shape == expected.shape
    return float((found.detach() - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


def follow(
    method: Method,
    problem: Problem,
    run: dict[str, Any],
    closure: Callable[[int], Any] = lambda step: None,
    after: Callable[[int], None] = lambda step: None,
    until: int | None = None,
) -> list[float]:
    """Train as a golden run did.

    Args:
        closure: gives a step's closure; the loss over all rows where it gives None.
        after: called after each step.
        until: the number of steps; all if None.

    Returns:
        The largest deviation of a weight after each step; those of the losses are asserted.
    """
    found = []
    for step, recorded in enumerate(run["steps"][:until]):
        method.step(closure(step) or problem.loss)
        if "losses" in recorded:
            assert len(method.oracle.seen) == len(recorded["losses"]), "another number of forward passes"
        after(step)
        weights, golden = problem.weights(), run["weights"][step + 1]
        found.append(max(deviation(weights[name], golden[name]) for name in golden))
    return found
