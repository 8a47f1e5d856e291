"""Rules in core space: where they are the rule of the weights, what a refresh carries over, and what they hold."""

import pytest
import torch
import torch.nn.functional as F
from helpers.methods import node_of

from zobench import AGZO, LOZO, PGAP, MeZO
from zobench.config import instantiate
from zobench.testing.problem import Problem
from zobench.zo import SGD, Adam, CoreSpace, Jaguar, Momentum
from zobench.zo.perturbations.lazy_low_rank import LazyLowRank


def trained(make, steps=5, dtype=torch.float64, **settings):
    problem = Problem(dtype)
    method = make(problem.parameters.items(), lr=1e-2, seed=3, **settings)
    problem.train(method, steps)
    return problem, method


def assert_close(one, other, tolerance=1e-12):
    for name, p in one.parameters.items():
        assert torch.allclose(p, other.parameters[name], rtol=0, atol=tolerance), name


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_momentum_of_cores_is_momentum_of_weights_while_the_lift_stays(mode):
    core, _ = trained(LOZO, mode=mode, weight_decay=0.1, rule=CoreSpace(rule=Momentum()))
    dense, _ = trained(LOZO, mode=mode, weight_decay=0.1, rule=Momentum())
    assert_close(core, dense)


def test_sgd_in_core_space_is_sgd_to_the_bit():
    core, _ = trained(LOZO, interval=3, rule=CoreSpace(rule=SGD()))
    plain, _ = trained(LOZO, interval=3)
    assert all(torch.equal(p, plain.parameters[name]) for name, p in core.parameters.items())


def test_a_refresh_transports_the_momentum_of_cores():
    """Step 3 is ``(β N₂ V₀ᵀV₁ / n + c U₃) V₁ᵀ``, N₂ the momentum of the three steps before."""
    problem, method = trained(LOZO, steps=3, interval=3, rule=CoreSpace(rule=Momentum()))
    slot, space = method.slots[1], method.space
    before, held, V0 = slot.param.clone(), method._rule_state[slot.index]["m"].clone(), space.bases[slot.name].V
    problem.train(method, 1)
    V1 = space.bases[slot.name].V
    carried = 0.9 * held @ V0.T @ V1 / len(V0) + space.core(slot, method.applied)
    assert torch.allclose(before - slot.param, 1e-2 * carried @ V1.T, rtol=0, atol=1e-14)


def test_adam_keeps_its_squares_over_a_refresh_and_carries_its_mean():
    problem, method = trained(LOZO, steps=3, interval=3, rule=CoreSpace(rule=Adam()))
    slot, space = method.slots[1], method.space
    V0 = space.bases[slot.name].V
    m, v = (method._rule_state[slot.index][name].clone() for name in ("m", "v"))
    problem.train(method, 1)
    held, g = method._rule_state[slot.index], space.core(slot, method.applied)
    overlap = V0.T @ space.bases[slot.name].V / len(V0)
    assert torch.allclose(held["m"], 0.9 * m @ overlap + 0.1 * g, rtol=0, atol=1e-14)
    assert torch.allclose(held["v"], 0.999 * v + 0.001 * g**2, rtol=0, atol=1e-14)


def test_state_has_the_shape_of_cores_on_matrices_and_of_the_tensor_on_vectors():
    _, method = trained(LOZO, dtype=torch.float32, rule=CoreSpace(rule=Momentum()))
    shapes = {slot.name: tuple(method._rule_state[slot.index]["m"].shape) for slot in method.slots}
    assert shapes == {"embed.weight": (6, 2), "layer.weight": (8, 2), "layer.bias": (5,), "head.weight": (5, 1)}
    counters = 3 * 8
    assert method.state_bytes() == 4 * (12 + 16 + 5 + 5) + counters + method.space.state_bytes()


def test_a_slot_that_was_not_measured_keeps_its_memory_in_core_space():
    class Alternating(LazyLowRank):
        def begin(self, step, slots):
            super().begin(step, slots)
            self.step = step

        def local(self, slot, direction):
            return direction if self.step % 2 == 0 or slot.index != 1 else direction * 0.0

        def reaches(self, slot, direction):
            return self.step % 2 == 0 or slot.index != 1

    space = Alternating(rank=2)
    problem, method = trained(MeZO, steps=0, rule=CoreSpace(rule=Jaguar()), perturbation=space)
    space.refresh(method.slots, key=3)
    problem.train(method, 1)
    slot = method.slots[1]
    before, held = slot.param.clone(), method._rule_state[slot.index]["m"].clone()
    problem.train(method, 1)
    assert torch.equal(method._rule_state[slot.index]["m"], held)
    assert torch.allclose(before - slot.param, 1e-2 * held.sign() @ space.bases[slot.name].V.T, rtol=0, atol=1e-14)


def pgap(rule, **settings):
    return trained(PGAP, rule=rule, rank=3, probes=2, total_steps=50, **settings)


def test_momentum_of_pgap_in_core_space_is_that_of_the_weights_between_refreshes():
    core, method = pgap(CoreSpace(rule=Momentum()), refresh=100)
    dense, _ = pgap(Momentum(), refresh=100)
    assert_close(core, dense)
    assert method._rule_state[method.slots[1].index]["m"].shape == (3, 3)


@pytest.mark.parametrize("first", [0, 2])
def test_a_refresh_of_pgap_projects_the_momentum_on_the_new_subspace(first):
    steps = 3 + first
    problem, method = pgap(
        CoreSpace(rule=Momentum()), refresh=3, refresh_from=first, steps=steps if first == 0 else first
    )
    slot, space = method.slots[1], method.space
    m, old = method._rule_state[slot.index]["m"].clone(), space.bases.get(slot.name)
    lifted = m if old is None else old.U @ m @ old.V.T
    problem.train(method, 1)
    new = space.bases[slot.name]
    expected = 0.9 * new.U.T @ lifted @ new.V + space.core(slot, method.applied)
    assert torch.allclose(method._rule_state[slot.index]["m"], expected, rtol=0, atol=1e-12)
    assert space._last == {}


def test_a_momentum_is_lifted_where_a_slot_loses_its_basis_and_projected_where_it_gets_one_again():
    """AGZO along the inputs of a layer that runs in the first and third step alone."""
    x, weight, other = torch.eye(3, 4), torch.ones(2, 4), torch.ones(2, 4)
    method = AGZO([("sometimes", weight), ("always", other)], lr=1e-2, rule=CoreSpace(rule=Momentum()))
    state, held, bases = method._rule_state[0], [], []
    for step in range(3):

        def loss(runs=step != 1):
            return (F.linear(x, other) + (F.linear(x, weight) if runs else weight.sum())).square().mean()

        method.step(loss)
        held.append((state["m"].clone(), method.perturbation.core(method.slots[0], method.applied)))
        bases.append(method.space.bases.get("sometimes"))
    lifted, V = held[0][0] @ bases[0].V.T, bases[2].V
    torch.testing.assert_close(held[1][0], 0.9 * lifted + held[1][1], rtol=0, atol=1e-5)
    torch.testing.assert_close(held[2][0], 0.9 * held[1][0] @ V + held[2][1], rtol=0, atol=1e-5)


def test_a_rule_in_core_space_is_a_setting_like_any_other():
    node = node_of("pgap", rule="momentum")
    node["rule"] = {"_target_": "zobench.zo.CoreSpace", "rule": node["rule"]}
    problem = Problem()
    method = instantiate.build(node | {"seed": 0, "total_steps": 5}, "method", problem.parameters.items())
    assert isinstance(method.rule, CoreSpace)
    assert isinstance(method.rule.rule, Momentum)
