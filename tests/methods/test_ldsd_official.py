"""LDSD's ``variant=official`` against trajectories recorded from the released code (see golden/README.md)."""

import pytest
import torch
from helpers.official import TOLERANCE, Recorded, follow, network, read, rule_state, tensors

from zobench.methods.ldsd import LDSD
from zobench.zo import AdaMM, Jaguar, Momentum
from zobench.zo.keys import mix
from zobench.zo.slot import pick

GOLDEN = read("ldsd")
#: our name of each recorded buffer of the rule
BUFFERS = {
    "sgd": {"momentum_buffer": "m"},
    "adamm": {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "v_max"},
    "jaguar": {"grad_accum": "m"},
}


def rule_of(settings):
    if "momentum" in settings:
        return Momentum(beta=settings["momentum"])
    if "betas" in settings:
        return AdaMM(beta1=settings["betas"][0], beta2=settings["betas"][1])
    return Jaguar(beta=settings["beta"])


class ReleasedNoise:
    """The released code's draws, for a policy's ``add_normals_`` and ``chosen``; it follows the policy's switches."""

    def __init__(self, policy, slots, keys, candidates):
        self.policy, self.slots, self.keys = policy, slots, keys
        seeds = [seed for step in keys.steps for seed in step]
        #: the keys of noise drawn anew after the best candidate was found: its seed, and the index of the candidate
        self.anew = {mix(seed, k): (seed, k) for seed in seeds for k in range(candidates)}
        self.candidates = candidates

    def add_normals_(self, slot, draws, total, rows=None):
        for key, weight in draws.items():
            total += pick(self.numbers(slot, key), rows) * weight

    def numbers(self, slot, key):
        seed, candidate = self.anew.get(key, (key, None))
        generator = torch.Generator().manual_seed(seed)
        for other in [slot] if self.policy.reseed_per_tensor else self.slots:
            draws = [self.normal(other, generator) for _ in range(1 if candidate is None else self.candidates)]
            if other is slot:
                return draws[candidate or 0]
        raise AssertionError("the policy has no such slot")

    @staticmethod
    def normal(slot, generator):
        return torch.normal(torch.zeros_like(slot.param), 1.0, generator=generator)

    def chosen(self, key):
        if self.policy.shared_subset:
            key = next(step[0] for step in self.keys.steps if key in step)
        order = torch.randperm(len(self.slots), generator=torch.Generator().manual_seed(key))
        count = max(1, int(len(self.slots) * self.policy.subset_ratio))
        return frozenset(self.slots[int(i)].id for i in order[:count])


def deviations(name, until=None, **switches):
    """The largest deviations from a golden run, with the noise and the first mean of that run."""
    run = GOLDEN["runs"][name]
    settings = run["settings"]
    model = network(run)
    method = LDSD(
        model.named_parameters(),
        lr=settings["lr"],
        eps=settings["eps"],
        candidates=settings["k"],
        sigma=settings["variance"],
        lr_mu=settings["lr_mu"],
        subset_ratio=settings.get("params_ratio"),
        rule=rule_of(settings),
        **{"variant": "official", **switches},
    )
    method.keys = Recorded(run)
    noise = ReleasedNoise(method.policy, method.slots, method.keys, settings["k"])
    method.policy.add_normals_, method.policy.chosen = noise.add_normals_, noise.chosen
    method.policy.alone = lambda slot: False  # not in one pass, which draws by itself
    if method.policy.mu0 != "zero":
        method.policy.mean = tensors(run["trajectory"][0]["mu"])

    def state():
        method.policy.begin(method.t, method.slots)  # the mean moves when the next step begins
        buffers = {golden: rule_state(method, ours) for golden, ours in BUFFERS[name].items()}
        return {"mu": method.policy.mean, **buffers}

    return follow(method, model, GOLDEN, run, state, until)


@pytest.mark.parametrize("name", list(GOLDEN["runs"]))
def test_steps_follow_the_released_code(name):
    worst = deviations(name)
    print(name, worst)
    assert worst.keys() == {"losses", "weights", "mu", *BUFFERS[name]}
    assert max(worst.values()) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("sgd", {"variant": "paper", "reuse_best": False}),
        ("adamm", {"variant": "paper", "reuse_best": False}),
        ("jaguar", {"variant": "paper", "reuse_best": False}),
        ("sgd", {"mu_z": "replay"}),
        ("adamm", {"mu_z": "replay"}),
        ("sgd", {"baseline": "mean"}),
        ("jaguar", {"mu_z": "fresh_after_best"}),
        ("jaguar", {"mu0": "zero"}),
        ("jaguar", {"reseed_per_tensor": False}),
        ("jaguar", {"shared_subset": True}),
    ],
)
def test_every_switch_of_the_variant_is_needed(name, switches):
    worst = deviations(name, until=10, **switches)
    print(name, switches, worst)
    assert worst["mu"] > 1e3 * TOLERANCE
    assert worst["weights"] > 1e3 * TOLERANCE


@pytest.mark.parametrize("name", list(GOLDEN["runs"]))
def test_the_released_step_evaluates_the_best_candidate_again(name):
    with pytest.raises(AssertionError, match="another number of forward passes"):
        deviations(name, until=1, reuse_best=True)
