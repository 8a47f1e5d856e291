"""LOREN's ``variant=official`` against trajectories recorded from the released code (see golden/README.md)."""

import pytest
from helpers.official import TOLERANCE, Recorded, follow, network, read, rule_state, tensors

from zobench.methods.loren import LOREN
from zobench.protocols.mezo_exact.step import TorchStream

GOLDEN = read("loren")


def deviations(name, until=None, **switches):
    """The largest deviations from a golden run, with the noise and the first ``a`` of that run."""
    run = GOLDEN["runs"][name]
    settings = run["settings"]
    model = network(run)
    method = LOREN(
        model.named_parameters(),
        lr=settings["lr"],
        eps=settings["eps"],
        probes=settings["num_queries"],
        rho=settings["damping"],
        lr_cov=settings["lr_cov"],
        **{"variant": "official", "weight_decay": settings["weight_decay"], **switches},
    )
    method.keys = Recorded(run)
    method.curvature.base = TorchStream(method.slots)
    method.curvature.load_state_dict({f"a.{k}": v for k, v in tensors(run["trajectory"][0]["a"]).items()})

    def state():
        a = {slot.name: method.curvature.a(slot) for slot in method.slots}
        return {"a": a, "momentum": rule_state(method, "m")}

    return follow(method, model, GOLDEN, run, state, until)


@pytest.mark.parametrize("name", list(GOLDEN["runs"]))
def test_steps_follow_the_released_code(name):
    worst = deviations(name)
    print(name, worst)
    assert worst.keys() == {"losses", "weights", "a", "momentum"}
    assert max(worst.values()) < TOLERANCE


def test_the_released_code_decays_whatever_it_is_told():
    # The recorder passes weight_decay=0 to the constructor.
    assert GOLDEN["runs"]["released"]["settings"]["weight_decay"] == LOREN.variants["official"].weight_decay


PAPER = vars(LOREN.variants["paper"])


@pytest.mark.parametrize("switch", [key for key in PAPER if key != "weight_decay"])
def test_every_switch_of_the_variant_is_needed(switch):
    worst = deviations("moving_a", until=10, **{switch: PAPER[switch]})
    print(switch, worst)
    assert worst["weights"] > 1e3 * TOLERANCE


@pytest.mark.parametrize("arguments", [{"variant": "paper"}, {"weight_decay": 0.0}])
def test_another_variant_leaves_the_released_run(arguments):
    worst = deviations("released", until=10, **arguments)
    print(arguments, worst)
    assert worst["weights"] > 1e3 * TOLERANCE
    assert worst["a"] > 1e3 * TOLERANCE
