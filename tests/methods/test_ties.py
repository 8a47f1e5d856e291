"""Slopes of exactly 0, beyond the contract: what released code and papers do where two losses tie."""

import pytest
import torch

from zobench import LDSD, LOREN, PGAP, MeZO
from zobench.protocols import MezoExact
from zobench.zo import ZERO, Direction, Gaussian, Jaguar, Momentum, Oracle, make_slots

F64 = torch.float64


def flat(*tensors):
    """A loss that reads its tensors and is 1 everywhere."""
    return lambda: sum(t.sum() for t in tensors) * 0 + 1.0


def test_a_measured_zero_is_not_unmeasured_and_is_the_same_vector():
    u, v = Direction.ray(7), Direction.ray(8)
    zero = 0.0 * u
    assert zero == ZERO == 0.0 * v  # whatever was measured
    assert (bool(zero), bool(ZERO), 7 in zero) == (True, False, True)
    assert dict(zero + v) == {7: 0.0, 8: 1.0} == dict(v - zero * 2.0) | {7: 0.0}
    assert zero + v == v
    assert zero != v
    assert list((zero + v).nonzero()) == [8]


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_keys_of_weight_zero_are_not_drawn(mode, monkeypatch):
    weight = torch.ones(3, 2)
    slots = make_slots([("w", weight)])
    oracle = Oracle(slots, Gaussian(), mode)
    drawn = []
    plain = Gaussian.accumulate_
    monkeypatch.setattr(Gaussian, "accumulate_", lambda self, slot, d, *a: drawn.extend(d) or plain(self, slot, d, *a))
    monkeypatch.setattr(Gaussian, "_in_one_pass", lambda self, slot: False)
    oracle.begin(weight.sum)
    oracle.losses([Direction({1: 0.1, 2: 0.0}), Direction({1: 0.1, 3: 0.0}), Direction({2: 0.0})])
    oracle.descend(Direction({1: 0.0, 4: 0.0}), lr=1.0, weight_decay=0.0)
    assert set(drawn) == {1}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mezo_exact_decays_where_the_losses_tie_as_the_2023_code_does(dtype):
    torch.manual_seed(0)
    params = {"layer.weight": torch.randn(5, 3, dtype=dtype), "layer.bias": torch.randn(5, dtype=dtype)}
    method = MeZO(params.items(), lr=0.25, weight_decay=0.5)
    MezoExact().attach(method, 42)
    walked = {name: p.clone() for name, p in params.items()}
    for scale in (1, -2, 1):  # the code's own walk, which rounds
        generator = torch.Generator().manual_seed(534895718)
        for p in walked.values():
            p.add_(torch.normal(0.0, 1.0, p.shape, generator=generator, dtype=dtype).mul_(scale * method.eps))
    method.step(flat(*params.values()))
    w, b = walked.values()
    assert params["layer.weight"].equal(w - (0 * w + 0.5 * w) * 0.25)
    assert params["layer.bias"].equal(b)


def test_jaguar_forgets_in_ties_and_remembers_what_a_subset_left_alone():
    """The released rule, ``acc ← β acc + (1−β) g`` on the tensors that the best candidate moved, for 40 steps."""
    torch.manual_seed(0)
    tensors = {f"w{i}": torch.randn(4, 3, dtype=F64) for i in range(6)}
    method = LDSD(tensors.items(), lr=1e-3, candidates=3, lr_mu=0.0, subset_ratio=0.34, rule=Jaguar(beta=0.9))
    memory = {name: torch.zeros(4, 3, dtype=F64) for name in tensors}
    ties = 0
    for step in range(40):
        before = {name: t.clone() for name, t in tensors.items()}
        loss = flat(*tensors.values()) if step % 7 == 6 else lambda: sum(t.square().sum() for t in tensors.values())
        method.step(loss)
        ties += not method.applied.nonzero()
        for slot in method.slots:
            held = memory[slot.name]
            if method.policy.moves(slot, *method.applied):
                held.mul_(0.9).add_(method.perturbation.estimate(slot, method.applied), alpha=0.1)
            torch.testing.assert_close(tensors[slot.name], before[slot.name] - 1e-3 * held.sign(), rtol=0, atol=1e-12)
    assert ties == 5


def test_loren_official_decays_its_precision_in_ties():
    weight = torch.randn(4, 6, dtype=F64)
    method = LOREN([("w", weight)], lr=1e-2, variant="official", lr_cov=0.5, probes=7)
    method.step(weight.sum)
    before = method.curvature.a(method.slots[0]).clone()
    method.step(flat(weight))
    torch.testing.assert_close(method.curvature.a(method.slots[0]), before * (1 - 0.5 * 0.01) ** 7)


@pytest.mark.parametrize("count", range(2, 12))
def test_equal_losses_weigh_nothing_at_all(count):
    """The rounded mean of equal numbers is not always that number, and a sign or Adam rule makes much of little."""
    weight = torch.randn(3, 3, dtype=F64)
    for made in (
        LOREN([("w", weight)], lr=1e-2, probes=count, rule=Momentum()), LDSD([("w", weight)], lr=1e-2, candidates=count)
    ):  # fmt: skip
        made.step(lambda: weight.sum() * 0 + 0.1 + 0.2)
        assert set(made.applied.values()) == {0.0}
    assert made.advantages([0.1 + 0.2] * count) == [0.0] * count


def test_probes_that_all_tie_leave_pgap_with_bases_that_span_and_align_nothing():
    for shape in ((40, 30), (2**20, 5)):  # the second is taken from its Gram matrix
        weight = torch.zeros(shape)
        method = PGAP([("w", weight)], lr=1e-2, rank=4, probes=2, delta_end=2.0)
        method.step(flat(weight))
        basis = method.space.bases["w"]
        assert not basis.S.any()
        for side in (basis.U, basis.V):
            torch.testing.assert_close(side.T @ side, torch.eye(4), rtol=0, atol=2e-3)
