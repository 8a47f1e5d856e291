"""The two protocols: batches, the choice of the best checkpoint, test rows, and which methods mezo_exact accepts."""

import copy

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from zobench.config import instantiate
from zobench.config.signature import compose
from zobench.data import rows
from zobench.errors import ConfigError
from zobench.methods.mezo import MeZO
from zobench.objective import Objective
from zobench.protocols import Clean, MezoExact
from zobench.protocols.mezo_exact.objective import OfficialObjective
from zobench.protocols.mezo_exact.step import OfficialKeys, OfficialOracle, TorchStream
from zobench.zo import Gaussian, rules

N, SIZE = 37, 8
STEPS = 5  # an epoch of 37 examples in batches of 8


@pytest.fixture(params=["clean", "mezo_exact"])
def protocol(request):
    return instantiate.build(OmegaConf.to_container(compose(f"protocol={request.param}").protocol), "protocol")


def epoch(protocol, number, seed=0, n=N, size=SIZE):
    steps = -(-n // size)
    return [protocol.batch(number * steps + i, n, size, seed) for i in range(steps)]


def order(batches):
    return [i for batch in batches for i in batch]


def weights():
    torch.manual_seed(0)
    return nn.Linear(3, 2).named_parameters()


def method(*overrides):
    return instantiate.build(OmegaConf.to_container(compose(*overrides).method), "method", weights(), seed=5)


def test_each_epoch_is_a_permutation_with_its_short_tail(protocol):
    epochs = [epoch(protocol, number) for number in range(4)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [8, 8, 8, 8, 5]
        assert sorted(order(batches)) == list(range(N))
    orders = [order(batches) for batches in epochs]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    assert all(type(i) is int for i in orders[0])


def test_a_batch_depends_on_its_step_alone(protocol):
    forward = [protocol.batch(step, N, SIZE, 0) for step in range(3 * STEPS)]
    backward = [type(protocol)().batch(step, N, SIZE, 0) for step in reversed(range(3 * STEPS))]
    assert forward == backward[::-1]


def test_a_caller_may_change_its_batch(protocol):
    before = list(protocol.batch(2, N, SIZE, 0))
    protocol.batch(2, N, SIZE, 0).clear()
    assert protocol.batch(2, N, SIZE, 0) == before


def test_the_order_follows_its_seed(protocol):
    orders = [order(epoch(protocol, 0, seed)) for seed in (0, 1, 2, 0)]
    assert orders[0] == orders[3]
    assert all(a != b for i, a in enumerate(orders[:3]) for b in orders[:i])


def test_the_order_ignores_torchs_and_numpys_global_generators(protocol):
    torch.manual_seed(1)
    np.random.seed(1)
    first = epoch(protocol, 1, seed=7)
    torch.manual_seed(2)
    np.random.seed(2)
    assert epoch(type(protocol)(), 1, seed=7) == first


@pytest.mark.parametrize(("n", "size", "lengths"), [(16, 8, [8, 8]), (5, 8, [5]), (1, 1, [1]), (9, 8, [8, 1])])
def test_batches_of_small_sets(protocol, n, size, lengths):
    for number in range(2):
        batches = epoch(protocol, number, n=n, size=size)
        assert [len(batch) for batch in batches] == lengths
        assert sorted(order(batches)) == list(range(n))


def test_the_official_epoch_has_sixty_three_batches(protocol):
    batches = epoch(protocol, 0, n=1000, size=16)
    assert [len(batch) for batch in batches] == [16] * 62 + [8]


def test_clean_prefers_the_metric_and_then_the_loss():
    better, best = Clean().better, {"metric": 0.8, "loss": 0.5}
    assert better({"metric": 0.81, "loss": 0.9}, best)
    assert not better({"metric": 0.79, "loss": 0.1}, best)
    assert better({"metric": 0.8, "loss": 0.4}, best)
    assert not better({"metric": 0.8, "loss": 0.6}, best)
    assert not better(best, best), "the first of equals stays"


def test_mezo_exact_prefers_the_loss():
    better, best = MezoExact().better, {"metric": 0.8, "loss": 0.5}
    assert better({"metric": 0.1, "loss": 0.49}, best)
    assert not better({"metric": 0.9, "loss": 0.51}, best)
    assert not better({"metric": 0.9, "loss": 0.5}, best), "the first of equals stays"


def test_constants_are_those_of_the_specification():
    clean, exact = Clean(), MezoExact()
    assert (clean.start_token, clean.splits, clean.strict_splits, clean.attention) == ("native", "clean", True, "sdpa")
    assert (exact.start_token, exact.splits, exact.strict_splits) == ("mezo", "mezo_exact", False)
    assert exact.attention == "eager"
    assert clean.selection != exact.selection


def test_each_protocol_has_its_objective(load_model, compose_task):
    tiny, task = load_model("tiny-opt"), compose_task("sst2")
    assert type(Clean().objective(tiny.model, tiny.tokenizer, task, 0.0)) is Objective
    exact = MezoExact().objective(tiny.model, tiny.tokenizer, task, 4.0)
    assert type(exact) is OfficialObjective
    assert exact.prefix is None


def test_opt_starts_with_s_only_in_mezo_exact(load_spec, load_model):
    tokenizer = load_model("tiny-opt").tokenizer
    ids = [load_spec("tiny-opt").start_id(tokenizer, p.start_token) for p in (Clean(), MezoExact())]
    assert ids == [tokenizer.eos_token_id, tokenizer.bos_token_id] == [2, 0]


def drawn(protocol, compose_task, data_seed):
    task = copy.copy(compose_task("rte"))
    task.splits = {"here": {"train": 16, "dev": 8, "test": 12}}
    return rows.load(
        task,
        "rte",
        directory="mini",
        splits="here",
        data_seed=data_seed,
        test_seed=protocol.test_seed(data_seed),
        strict=protocol.strict_splits,
    )


def test_the_data_seed_leaves_cleans_test_rows(compose_task):
    first, second = (drawn(Clean(), compose_task, seed) for seed in (0, 1))
    assert first.test == second.test
    assert first.train != second.train
    assert first.dev != second.dev
    assert first.rows_hash != second.rows_hash


def test_the_data_seed_draws_mezo_exacts_test_rows(compose_task):
    first, second = (drawn(MezoExact(), compose_task, seed) for seed in (0, 1))
    assert first.test != second.test
    assert first.test == drawn(Clean(), compose_task, 0).test


def test_clean_leaves_a_method_as_it_is():
    mezo = method("method=mezo")
    oracle, keys, perturbation = mezo.oracle, mezo.keys, mezo.perturbation
    Clean().attach(mezo, 9)
    assert (mezo.oracle, mezo.keys, mezo.perturbation) == (oracle, keys, perturbation)
    assert type(perturbation) is Gaussian


def test_mezo_exact_takes_plain_mezo():
    mezo = method("method=mezo")
    MezoExact().attach(mezo, 42)
    assert type(mezo.perturbation) is TorchStream
    assert type(mezo.oracle) is OfficialOracle
    assert type(mezo.keys) is OfficialKeys


REFUSED = {
    "probes": ("method.probes=2",),
    "momentum": ("method/rule=momentum",),
    "sign": ("method/rule=sign",),
    "adam": ("method/rule=adam",),
}


@pytest.mark.parametrize("overrides", list(REFUSED.values()), ids=list(REFUSED))
def test_mezo_exact_refuses_what_the_official_step_is_not(overrides):
    other = method("method=mezo", *overrides)
    oracle = other.oracle
    with pytest.raises(ConfigError, match=r"mezo_exact.*probes=1.*distribution=gaussian.*sgd"):
        MezoExact().attach(other, 42)
    assert other.oracle is oracle


def test_mezo_exact_refuses_another_distribution():
    other = MeZO(weights(), lr=1e-3, distribution="rademacher", rule=rules.SGD())
    with pytest.raises(ConfigError, match="mezo_exact"):
        MezoExact().attach(other, 42)


def test_mezo_exact_refuses_the_exact_mode_it_would_drop():
    """``mode=exact`` restores from a copy; the official walk does not, so the setting would be ignored in silence."""
    other = method("method=mezo", "method.mode=exact")
    with pytest.raises(ConfigError, match="mezo_exact"):
        MezoExact().attach(other, 42)


@pytest.mark.parametrize("name", ["adamw", "zeroshot"])
def test_mezo_exact_leaves_references_alone(name):
    reference = method(f"method={name}")
    oracle = reference.oracle
    MezoExact().attach(reference, 42)
    assert reference.oracle is oracle
