"""Every method, variant and update rule found in conf/, and the problem on which their contracts are tested."""

from itertools import product

import pytest
import torch

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.signature import compose
from zobench.record import checkpoint

METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
RULES = sorted(path.stem for path in (conf_dir() / "method" / "rule").glob("*.yaml"))


def node_of(name, *overrides):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(compose(f"method={name}", *overrides).method, resolve=True)


def variants():
    """(method, overrides): each method with every rule and mode it takes, and its other variants in both modes."""
    for name in METHODS:
        node = node_of(name)
        rules = [f"method/rule={rule}" for rule in RULES] if "rule" in node else [None]
        modes = [f"method.mode={mode}" for mode in ("in_place", "exact")] if "mode" in node else [None]
        for choice in product(rules, modes):
            yield name, tuple(part for part in choice if part)
        for variant in instantiate.locate(node["_target_"], name).variants:
            if variant != node["variant"]:
                yield from ((name, (f"method.variant={variant}", mode)) for mode in modes)


VARIANTS = list(variants())
IDS = ["-".join([name, *(o.split("=")[1] for o in overrides)]) for name, overrides in VARIANTS]
every = pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=IDS)


class Problem:
    """A small regression with matrices, an embedding and vectors; ``loss(step)`` is its loss on that step's batch."""

    def __init__(self, dtype=torch.float32):
        generator = torch.Generator().manual_seed(0)
        self.parameters = {
            "embed.weight": torch.randn(6, 8, generator=generator),
            "layer.weight": torch.randn(8, 5, generator=generator) / 3,
            "layer.bias": torch.zeros(5),
            "head.weight": torch.randn(5, 1, generator=generator) / 3,
        }
        self.parameters = {name: p.to(dtype) for name, p in self.parameters.items()}
        self.ids = torch.randint(0, 6, (50, 16), generator=generator)
        self.targets = torch.sin(self.ids.float())

    def loss(self, step):
        p = {name: tensor.float() for name, tensor in self.parameters.items()}
        ids, targets = self.ids[step % 50], self.targets[step % 50]
        hidden = torch.tanh(p["embed.weight"][ids] @ p["layer.weight"] + p["layer.bias"])
        return ((hidden @ p["head.weight"])[:, 0] - targets).square().mean()

    def copy(self):
        return {name: p.detach().clone() for name, p in self.parameters.items()}


def make(problem, name, overrides=(), **arguments):
    node = node_of(name, *overrides)
    if "lr" in node:
        node["lr"] = 1e-2
    return instantiate.build({**node, **arguments}, "method", problem.parameters.items(), seed=5, total_steps=50)


def train(problem, method, steps):
    if method.trains:
        for _ in range(steps):
            method.step(lambda: problem.loss(method.t))


def check_resume(problem, name, overrides, folder):
    """Nine steps in one go against four, files, and five more; ``problem()`` makes the problem anew."""
    whole, first, second = problem(), problem(), problem()
    train(whole, make(whole, name, overrides), 9)
    half = make(first, name, overrides)
    train(first, half, 4)
    checkpoint.save_snapshot(folder, half.slots, half.state_dict())
    rest = make(second, name, overrides)
    found = checkpoint.load_snapshot(folder, 4)
    checkpoint.restore(rest.slots, found.weights)
    rest.load_state_dict(found.method)
    train(second, rest, 5)
    for key, tensor in whole.parameters.items():
        assert torch.equal(tensor, second.parameters[key]), key
