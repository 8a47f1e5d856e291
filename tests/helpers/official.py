"""What the tests against ``golden/{loren,ldsd}_official.json`` share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zobench.zo import Method
from zobench.zo.keys import Keys

#: bound on |found − golden| / max |golden| of each tensor, and on the same of each loss
TOLERANCE = 1e-9


def read(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parents[1] / "golden" / f"{name}_official.json").read_text())


class Recorded(Keys):
    """The seeds that the official code drew, as the keys of the steps."""

    def __init__(self, run: dict[str, Any]):
        super().__init__(0)
        self.steps = [step["seeds"] for step in run["steps"]]

    def __call__(self, step: int, query: int = 0, purpose: str = "probe") -> int:
        return self.steps[step][query]


def tensors(values: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def network(run: dict[str, Any]) -> nn.Module:
    """The model of the golden runs at the recorded first weights."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 3)).double()
    model.load_state_dict(tensors(run["trajectory"][0]["weights"]))
    return model


def deviation(found: Tensor, golden: Any) -> float:
    """What is zero in the golden run has to be zero."""
    expected = torch.as_tensor(golden, dtype=torch.float64)
    assert found.shape == expected.shape
    return float((found.detach() - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


def follow(
    method: Method,
    model: nn.Module,
    golden: dict[str, Any],
    run: dict[str, Any],
    state: Callable[[], dict[str, dict[str, Tensor]]],
    until: int | None = None,
) -> dict[str, float]:
    """Train as the golden run did, to its end or ``until`` one of its snapshots.

    Returns:
        The largest deviation of the losses, of the weights and of each part of ``state()``, by its name.
    """
    x, y = (torch.tensor(golden["batch"][name], dtype=torch.float64) for name in "xy")
    snapshots = {snapshot["after_step"]: snapshot for snapshot in run["trajectory"][1:]}
    last = until or len(run["steps"])
    assert last in snapshots
    worst = {"losses": 0.0}
    for step in run["steps"][:last]:
        method.step(lambda: (model(x) - y).square().mean())
        seen = method.oracle.seen
        assert len(seen) == len(step["losses"]), "another number of forward passes"
        worst["losses"] = max(worst["losses"], *(abs(a - b) / b for a, b in zip(seen, step["losses"], strict=True)))
        for part, values in snapshots.get(method.t, {}).items():
            if part != "after_step":
                found = dict(model.named_parameters()) if part == "weights" else state()[part]
                differences = [deviation(found[name], value) for name, value in values.items()]
                worst[part] = max(worst.get(part, 0.0), *differences)
    return worst


def rule_state(method: Method, part: str) -> dict[str, Tensor]:
    """One buffer of the update rule by the names of the weights."""
    head = f"rule.{part}."
    items = method.state_dict().items()
    return {key.removeprefix(head): value for key, value in items if key.startswith(head) and isinstance(value, Tensor)}
