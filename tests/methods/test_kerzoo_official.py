"""KerZOO's ``variant=official`` against trajectories recorded from the released code (golden/released/README.md)."""

import pytest
from helpers.released import TOLERANCE, Problem, deviation, feed, follow, read

from zobench.methods.kerzoo import KerZOO
from zobench.zo.perturbations.smoothing import Kernel

GOLDEN = read("kerzoo")


def golden_run(monkeypatch, name, **switches):
    """The method and the problem of a golden run, with its draws z and radii r."""
    run = GOLDEN["runs"][name]
    settings, problem = run["settings"], Problem(GOLDEN)
    common = {"lr": settings["lr"], "eps": settings["eps"], "variant": "official"}
    method = KerZOO(problem.model.named_parameters(), **{**common, **switches})
    method.t = start = settings["start"]
    steps = range(start, start + len(run["steps"]))

    def recorded(step, query):
        return run["steps"][step - start]["queries"][query]

    feed(monkeypatch, method, lambda step, query, purpose, name, shape: recorded(step, query)[name]["z"])
    names = {slot.id: slot.name for slot in method.slots}
    whole = {method.keys(step, query) & ~1: (step, query) for step in steps for query in range(3)}
    method.keys.what |= {key: (*which, "probe") for key, which in whole.items()}  # the lowest bit tells r from K(r)

    def radius(kernel, key, *slot_id):
        return kernel.tau * recorded(*whole[key & ~1])[names[slot_id[0]] if slot_id else "0.weight"]["r"]

    monkeypatch.setattr(Kernel, "radius", radius)
    return method, problem, run


@pytest.mark.parametrize("mode", ["in_place", "exact"])
@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_steps_follow_the_released_code(monkeypatch, name, mode):
    method, problem, run = golden_run(monkeypatch, name, mode=mode)
    losses = []

    def after(step):
        recorded = run["steps"][step]["losses"]
        losses.extend(abs(a / b - 1) for a, b in zip(method.oracle.seen, recorded, strict=True))

    worst = max(follow(method, problem, run, after=after))
    weights = problem.weights()
    second = [
        deviation(weights[slot.name] - method.lr * method.lag(slot), run["second_weights_at_end"][slot.name])
        for slot in method.slots
    ]
    print(name, mode, worst, max(second), max(losses))
    assert max(worst, *second, *losses) < TOLERANCE


@pytest.mark.parametrize(
    ("switch", "value"),
    [("kernel_scale", 1.0), ("r_scope", "step"), ("rescale_kernel", True), ("averaging", 0.0), ("tau_end", 1.0)],
)
def test_switches_of_the_variant_are_needed(monkeypatch, switch, value):
    """All but ``clip`` and ``exclude``, which these runs do not reach; ``probes`` changes the number of losses.

    In the first run, and τ where it is smallest.
    """
    runs = sorted(GOLDEN["runs"], key=lambda name: GOLDEN["runs"][name]["settings"]["start"])
    method, problem, run = golden_run(monkeypatch, runs[-1 if switch == "tau_end" else 0], **{switch: value})
    found = follow(method, problem, run, until=4)
    print(switch, found)
    assert max(found) > 1e3 * TOLERANCE
