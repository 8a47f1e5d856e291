"""AGZO against the recorded trajectory, the identities of directions in the span of layers' inputs, and its sketch."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from helpers.released import TOLERANCE, Problem, deviation, feed, follow, read, tensor
from helpers.tiny_runs import TINY

from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.methods.agzo import AGZO
from zobench.run.runner import run
from zobench.zo import Direction, Unsuited, make_slots
from zobench.zo.perturbations.activation import ActivationSubspace
from zobench.zo.perturbations.bases import Basis, sketched_basis
from zobench.zo.perturbations.input_sketch import InputSketch
from zobench.zo.tap import ActivationTap

GOLDEN = read("agzo_paper")


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sketched(layers, **options):
    """A sketch of what ``(weight, inputs)`` layers are given, and their slots."""
    slots = make_slots([(f"w{i}", weight) for i, (weight, _) in enumerate(layers)])
    sketch = InputSketch(slots, key=7, **{"rank": 2, **options})
    with ActivationTap(slots, sketch):
        for weight, inputs in layers:
            F.linear(inputs, weight)
    return sketch, slots


# -- the recorded trajectory ------------------------------------------------------------------------------------------


def recorded(monkeypatch, **settings):
    """AGZO on the problem of the file, fed its draws; Ω starts with what its power iteration started from, ``HΩ``."""
    problem = Problem(GOLDEN)
    given = {key: GOLDEN["settings"][key] for key in ("rank", "power", "eps", "lr")}
    method = AGZO(problem.model.named_parameters(), oversampling=12, **given | settings)  # 12 inputs: sketched whole

    def lookup(step, query, purpose, name, shape):
        draws = GOLDEN["steps"][step]
        if purpose == "basis":
            inputs = {"0.weight": problem.x, "2.weight": torch.tanh(problem.x @ problem.model[0].weight.detach().T)}
            start = inputs[name].T @ tensor(draws["Omega"][name])
            return torch.cat([start, randn(*shape, seed=3)], dim=1)[:, : shape[1]].tolist()
        return draws["z" if name.endswith("bias") else "R"][name]

    feed(monkeypatch, method, lookup)
    return method, problem


def test_steps_follow_the_recorded_trajectory_along_the_recorded_bases(monkeypatch):
    method, problem = recorded(monkeypatch)
    step_of = lambda sketch, slot, power: tensor(GOLDEN["steps"][method.t]["A"][slot.name])  # noqa: E731
    monkeypatch.setattr(InputSketch, "basis", step_of)
    found = follow(method, problem, GOLDEN)
    print(max(found))
    assert max(found) < TOLERANCE


def test_computed_bases_are_the_recorded_ones(monkeypatch):
    """``A Aᵀ``, as the sign of a column is QR's; so the trajectory, up to these signs."""
    method, problem = recorded(monkeypatch)
    compute, worst = InputSketch.basis, []

    def basis(sketch, slot, power):
        A, golden = compute(sketch, slot, power), tensor(GOLDEN["steps"][method.t]["A"][slot.name])
        worst.append(deviation(A @ A.T, (golden @ golden.T).tolist()))
        return A * (A * golden).sum(0).sign()

    monkeypatch.setattr(InputSketch, "basis", basis)
    found = follow(method, problem, GOLDEN)
    print(max(worst), max(found))
    assert len(worst) == 2 * len(GOLDEN["steps"])
    assert max(worst + found) < TOLERANCE


@pytest.mark.parametrize(("setting", "more"), [("power", 1), ("rank", 1), ("eps", 1e-3)])
def test_another_setting_leaves_the_recorded_trajectory(monkeypatch, setting, more):
    method, problem = recorded(monkeypatch, **{setting: GOLDEN["settings"][setting] + more})
    if setting == "rank":
        with pytest.raises(AssertionError, match="a draw of"):
            follow(method, problem, GOLDEN, until=1)
    else:
        assert follow(method, problem, GOLDEN, until=1)[0] > 1e3 * TOLERANCE


# -- the estimate, given A --------------------------------------------------------------------------------------------


def given_basis(m=3, n=5, r=2):
    """A slot, a space with a basis A on the side of inputs, and A."""
    slot = make_slots([("w", randn(m, n))])[0]
    space, A = ActivationSubspace(rank=r), torch.linalg.qr(randn(n, r, seed=1)).Q
    space.span({"w": Basis.along(1, A)})
    return slot, space, A


def test_the_mean_estimate_is_the_gradient_within_the_span():
    """``E ⟨∇W, R Aᵀ⟩ R Aᵀ = ∇W A Aᵀ``, by the unit cores, whose second moments are those of R."""
    slot, space, A = given_basis()
    G, mean = randn(3, 5, seed=2), torch.zeros(3, 5, dtype=torch.float64)
    for i, j in product(range(3), range(2)):
        core, lifted = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, 5, dtype=torch.float64)
        core[i, j] = 1.0
        space.add_(slot, core, lifted, 1.0)
        mean += (G * lifted).sum() * lifted
    torch.testing.assert_close(mean, G @ A @ A.T, rtol=0, atol=1e-13)


def test_the_second_moment_grows_with_the_rank():
    """``E ‖ĝ‖² = (mr + 2) ‖∇W A‖²``, exactly, by Gauss-Hermite points of degree 5 in each entry of R."""
    slot, space, A = given_basis(m=2, n=4, r=2)
    G, total = randn(2, 4, seed=2), 0.0
    points = [(0.0, 2 / 3), (math.sqrt(3), 1 / 6), (-math.sqrt(3), 1 / 6)]
    for chosen in product(points, repeat=4):
        u = torch.zeros(2, 4, dtype=torch.float64)
        space.add_(slot, torch.tensor([x for x, _ in chosen], dtype=torch.float64).view(2, 2), u, 1.0)
        total += math.prod(weight for _, weight in chosen) * float(((G * u).sum() * u).square().sum())
    assert total == pytest.approx((2 * 2 + 2) * float((G @ A).square().sum()), rel=1e-12)


def test_as_many_columns_as_inputs_have_dimensions_lose_nothing_of_the_gradient():
    """``∇W = Gᵀ X``, so ``∇W A Aᵀ = ∇W`` where A spans the rows of X."""
    weight, inputs = randn(4, 9).requires_grad_(), randn(12, 3, seed=1) @ randn(3, 9, seed=2)
    sketch, (slot,) = sketched([(weight, inputs)], rank=3)
    F.linear(inputs, weight).sin().sum().backward()
    A = sketch.basis(slot)
    torch.testing.assert_close(weight.grad @ A @ A.T, weight.grad, rtol=0, atol=1e-10)


def test_the_step_of_a_linear_loss_by_hand():
    """On a linear loss one side and both give the slope itself."""
    inputs, target = randn(6, 5, seed=1), randn(6, 3, seed=2)
    for central in (False, True):
        weight = randn(3, 5)
        method = AGZO([("w", weight)], lr=0.1, rank=2, central=central)
        method.step(lambda weight=weight: (F.linear(inputs, weight) * target).sum())
        u, before = method.space.estimate(method.slots[0], Direction.ray(method.keys(0))), randn(3, 5)
        slope = float((target.T @ inputs * u).sum())
        torch.testing.assert_close(weight, before - 0.1 * slope * u, rtol=0, atol=1e-9)
        assert method.oracle.forwards == method.forwards_per_step == 2 + central
        A = method.space.bases["w"].V
        assert float((u - u @ A @ A.T).norm()) < 1e-13 * float(u.norm())


def test_the_basis_hangs_on_the_inputs_and_not_on_the_direction():
    """Another seed draws another Ω and another R; enough power iterations find the same span."""
    inputs = randn(30, 6, seed=1) * torch.tensor([5.0, 1.0, 0.5, 0.3, 0.1, 0.1])
    spans = []
    for seed in (0, 1):
        weight = randn(3, 6)
        method = AGZO([("w", weight)], lr=0.0, power=40, seed=seed)
        method.step(lambda weight=weight: F.linear(inputs, weight).sum())
        spans.append(method.space.bases["w"].V @ method.space.bases["w"].V.T)
    torch.testing.assert_close(spans[0], spans[1], rtol=0, atol=1e-12)


# -- the sketch -------------------------------------------------------------------------------------------------------


def powers(G, Q, count):
    """The paper's iterations on a Gram matrix that is at hand."""
    for _ in range(count):
        Q = torch.linalg.qr(G @ Q).Q
    return Q @ Q.T


@pytest.mark.parametrize(("dimensions", "power"), [(4, 1), (10, 3), (10, 1)])
def test_power_iterations_on_the_sketch_are_those_on_the_inputs_of_few_dimensions(dimensions, power):
    """r + oversampling = 10 columns: exact for inputs of up to ten dimensions."""
    inputs = randn(50, dimensions) @ randn(dimensions, 30, seed=1)
    sketch, (slot,) = sketched([(randn(3, 30), inputs)])
    A, expected = sketch.basis(slot, power), powers(inputs.T @ inputs, sketch.omega(slot, 1)[:, :2], power)
    torch.testing.assert_close(A @ A.T, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_sketched_basis_holds_what_the_exact_one_does(dtype):
    """Singular values of inputs that fall as 1/i: the share of ``‖X‖²`` in the basis against the leading vectors'."""
    U, V = (torch.linalg.qr(randn(n, 60, seed=n)).Q for n in (200, 80))
    inputs = ((U / torch.arange(1, 61)) @ V.T).to(dtype)
    sketch, (slot,) = sketched([(randn(3, 80).to(dtype), inputs)])
    A, X = sketch.basis(slot).double(), inputs.double()
    assert A.shape == (80, 2)
    torch.testing.assert_close(A.T @ A, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-6)
    share = float((X @ A).square().sum() / torch.linalg.svdvals(X)[:2].square().sum())
    print(dtype, 1 - share)
    assert 0.99 < share < 1 + 1e-6


def test_inputs_of_fewer_dimensions_than_columns_still_give_orthonormal_ones():
    for inputs in (torch.zeros(5, 7, dtype=torch.float64), randn(1, 7)):
        sketch, (slot,) = sketched([(randn(3, 7), inputs)], rank=3)
        A = sketch.basis(slot)
        torch.testing.assert_close(A.T @ A, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float((randn(1, 7) @ A).norm()) == pytest.approx(float(randn(1, 7).norm()))


def test_weights_on_the_right_move_as_those_on_the_left_do():
    """``x @ W`` (GPT-2) has its inputs on axis 0."""
    inputs, weight = randn(9, 6, seed=1), randn(6, 4)
    slots = make_slots([("w", weight)])
    space = ActivationSubspace(rank=2)
    with ActivationTap(slots, sketch := InputSketch(slots, 2, 7)):
        inputs @ weight
    space.span(sketch.bases())
    u, A = space.estimate(slots[0], Direction.ray(5)), space.bases["w"].U
    assert (A.shape, int(torch.linalg.matrix_rank(u))) == ((6, 2), 2)
    torch.testing.assert_close(A @ A.T @ u, u, rtol=0, atol=1e-12)


def test_a_weight_that_is_looked_up_is_no_layer():
    """A tied head whose name does not say so (GPT-2's wte)."""
    table, weight = randn(7, 4), randn(3, 4)
    slots = make_slots([("wte.weight", table), ("w", weight)])
    with ActivationTap(slots, sketch := InputSketch(slots, 1, 7)):
        hidden = F.embedding(torch.tensor([1, 2]), table)
        F.linear(hidden, weight)
        F.linear(hidden, table)
    assert list(sketch.bases()) == ["w"]
    assert [slot.name for slot in sketch.unseen()] == ["wte.weight"]


def test_only_matrices_of_layers_leave_the_gaussian():
    """Vectors, embeddings and layers that did not run."""
    shapes = {"embed.weight": (7, 4), "w": (5, 4), "idle": (5, 4), "bias": (5,)}
    weights = {name: randn(*shape) for name, shape in shapes.items()}
    method = AGZO(weights.items(), lr=0.1)

    def loss():
        hidden = F.embedding(torch.tensor([1, 2]), weights["embed.weight"])
        return (F.linear(hidden, weights["w"], weights["bias"]) @ torch.ones(5, 4, dtype=torch.float64)).sum()

    method.step(loss)
    assert list(method.space.bases) == ["w"]
    ranks = {s.name: method.space.factor_rank(s) for s in method.slots}
    assert ranks == {"embed.weight": None, "w": 1, "idle": None, "bias": None}
    assert method.state_bytes() == 4 * 8


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_model_without_layers_is_refused_in_one_line_and_keeps_its_weights():
    table = randn(4, 3)
    method = AGZO([("embed.weight", table)], lr=0.1)
    with pytest.raises(Unsuited, match=r"^no trainable matrix was seen in a linear layer, .* or use method=mezo$"):
        method.step(lambda: F.embedding(torch.tensor([1]), table).sum())
    assert torch.equal(table, randn(4, 3))


@pytest.mark.parametrize("setting", ["method=agzo", "method=aim_zo", "method=dizo"])
def test_a_run_that_trains_no_matrix_is_refused_in_one_line(setting, tmp_path):
    words = (*TINY, setting, "tuning=last_layers", "tuning.layers=1", "tuning.only=norm", f"runs_dir={tmp_path}")
    with pytest.raises(ConfigError, match=r"^method=\w+, model=tiny-opt: [^\n]*no trainable matrix [^\n]*$"):
        run(compose(*words))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rank": 0}, "rank=0: must be at least 1"),
        ({"power": 0}, "power=0: must be at least 1"),
        ({"oversampling": -1}, "oversampling=-1: must be 0 or positive"),
        ({"eps": 0.0}, "eps=0.0: must be positive"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        AGZO([("w", torch.zeros(2, 2))], lr=0.0, **setting)


def test_a_rank_above_the_inputs_is_cut_and_equal_losses_leave_the_weights():
    weight, inputs = randn(3, 4), randn(5, 4, seed=1)
    method = AGZO([("w", weight)], lr=0.1, rank=9)

    def flat():
        F.linear(inputs, weight)
        return 1.0

    method.step(flat)
    assert method.space.bases["w"].V.shape == (4, 3)
    assert torch.equal(weight, randn(3, 4))


def test_one_iteration_on_a_full_sketch_is_that_on_the_matrix():
    G = randn(6, 6) @ randn(6, 6).T
    omega = randn(6, 6, seed=4)
    A = sketched_basis(G @ omega, omega, 2, 1)
    torch.testing.assert_close(A @ A.T, powers(G, omega[:, :2], 1), rtol=0, atol=1e-10)
