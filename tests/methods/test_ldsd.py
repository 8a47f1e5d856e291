"""LDSD, its policy and its update rules against their closed forms and definitions."""

import math

import pytest
import torch

from zobench import MeZO
from zobench.methods.ldsd import LDSD
from zobench.testing.definition import moved
from zobench.zo import SGD, AdaMM, Direction, Diverged, Jaguar, Momentum, make_slots
from zobench.zo.noise.draws import BLOCK
from zobench.zo.perturbations.mean_shift import MeanShift

F64 = torch.float64


def tensors(dtype=F64, names=("embed.weight", "layer.weight", "layer.bias")):
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn((4,) if "bias" in n else (4, 3), generator=generator).to(dtype) for n in names}


def curved(parameters):
    """A smooth loss in which every entry counts."""
    return lambda: sum((p.double() - 0.3).square().mean() + p.double().sin().mean() for p in parameters.values())


def copy(parameters):
    return {name: p.clone() for name, p in parameters.items()}


def make(parameters, **arguments):
    return LDSD(parameters.items(), **{"lr": 0.05, "seed": 3, "rule": SGD(), **arguments})


def moved_mean(method):
    """μ by slot before and after the move of the last step, which happens when the next one begins."""
    before = copy(method.policy.mean)
    method.policy.begin(method.t, method.slots)
    return before, method.policy.mean


def traced(method):
    """A list that fills with (slot id, noise) of every draw that the policy reads."""
    log, inner = [], method.policy.add_normals_

    def add_normals_(slot, draws, total, rows=None):
        for key in draws:
            noise = torch.zeros_like(total)
            inner(slot, {key: 1.0}, noise, rows)
            log.append((slot.id, noise))
        inner(slot, draws, total, rows)

    method.policy.add_normals_ = add_normals_
    method.policy.alone = lambda slot: False  # not in one pass, which draws by itself
    return log


def same(a, b):
    return a[0] == b[0] and torch.equal(a[1], b[1])


def test_advantage_is_the_loss_less_the_mean_of_the_others():
    losses = torch.randn(7, dtype=F64, generator=torch.Generator().manual_seed(0)).tolist()
    found = make(tensors(), candidates=7).advantages(losses)
    expected = [f - sum(losses[:k] + losses[k + 1 :]) / 6 for k, f in enumerate(losses)]
    assert found == pytest.approx(expected, abs=1e-12)
    mean = make(tensors(), candidates=7, baseline="mean").advantages(losses)
    assert mean == pytest.approx([f - sum(losses) / 7 for f in losses], abs=1e-12)
    assert make(tensors(), candidates=1).advantages([2.5]) == [0.0]


def test_policy_gradient_is_the_score_function_gradient():
    """(μ − μ') / lr_mu is autograd's gradient of mean_k A_k log N(u_k; μ, σ²)."""
    parameters = tensors()
    method = make(parameters, candidates=6, sigma=0.7, lr_mu=1.0, eps=0.1, mu0="unit_per_tensor", mode="exact")
    loss, losses, points = curved(parameters), [], []

    def watched():
        points.append(copy(parameters))
        losses.append(float(loss()))
        return losses[-1]

    method.step(lambda: float(loss()))
    start = copy(parameters)
    method.step(watched)
    before, after = moved_mean(method)
    for name, mean in before.items():
        mu = mean.clone().requires_grad_()
        sampled = [(p[name] - start[name]) / 0.1 for p in points[:6]]
        advantages = method.advantages(losses[:6])
        logs = [torch.distributions.Normal(mu, 0.7).log_prob(v).sum() for v in sampled]
        (sum(a * q for a, q in zip(advantages, logs, strict=True)) / 6).backward()
        torch.testing.assert_close(mean - after[name], mu.grad, rtol=0, atol=1e-12)


def test_policy_gradient_is_unbiased_on_a_quadratic():
    """E[g_μ] = ε ∇f(x + εμ); 40 000 trials of 5 draws each, side by side in the rows of one slot."""
    trials, d, eps, sigma = 40_000, 5, 0.3, 0.8
    generator = torch.Generator().manual_seed(0)
    root, b, x, mu = (torch.randn(s, dtype=F64, generator=generator) for s in ((d, d), (d,), (d,), (d,)))
    a = root @ root.T / d
    rows = torch.zeros(trials, d, dtype=F64)
    method = make({"x": rows}, sigma=sigma)
    method.policy.mean["x"] = mu.expand(trials, d).contiguous()
    v = torch.stack([method.policy.draw(method.slots[0], k) for k in range(5)])
    points = x + eps * v
    losses = 0.5 * ((points @ a) * points).sum(-1) + points @ b
    advantages = torch.tensor([method.advantages(each) for each in losses.T.tolist()], dtype=F64).T
    estimate = (advantages[..., None] * (v - mu)).mean(0) / sigma**2
    expected = eps * (a @ (x + eps * mu) + b)
    assert torch.cosine_similarity(estimate.mean(0), expected, dim=0) > 0.999
    assert ((estimate.mean(0) - expected) / (estimate.std(0) / math.sqrt(trials))).abs().max() < 4


@pytest.mark.parametrize(("variant", "matches"), [("paper", 15), ("official", 0)])
def test_noise_of_the_policy_gradient_is_the_noise_that_was_evaluated(variant, matches):
    parameters = tensors()
    method = make(parameters, variant=variant, mode="exact")
    log = traced(method)
    method.step(curved(parameters))
    evaluated = list(log)
    del log[:]
    moved_mean(method)
    assert len(log) == 15
    assert sum(any(same(z, e) for e in evaluated) for z in log) == matches


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_noise_of_the_update_is_that_of_the_best_candidate(variant):
    parameters = tensors()
    method = make(parameters, variant=variant, mode="exact")
    loss, losses, ends = curved(parameters), [], [0]
    log = traced(method)

    def measured():
        losses.append(float(loss()))
        ends.append(len(log))
        return losses[-1]

    method.step(measured)
    best = losses.index(min(losses[:5]))
    evaluated, stepped = log[ends[best] : ends[best + 1]], log[ends[-1] :]
    assert len(stepped) == 3
    for draw in stepped:
        assert any(same(draw, other) for other in evaluated)


@pytest.mark.parametrize(
    ("arguments", "forwards"),
    [
        ({}, 6),
        ({"variant": "official"}, 7),
        ({"reuse_best": False}, 7),
        ({"candidates": 1}, 2),
        ({"candidates": 9}, 10),
    ],
)
def test_forward_passes_per_step(arguments, forwards):
    parameters = tensors()
    method = make(parameters, **arguments)
    for _ in range(3):
        method.step(curved(parameters))
    assert method.forwards_per_step == forwards
    assert method.oracle.forwards == 3 * forwards


@pytest.mark.parametrize(("count", "gain"), [(1, 1.0), (2, 1.0), (5, 1.80), (10, 2.72)])
def test_selection_multiplies_the_projected_gradient(count, gain):
    """For linear f the estimate's scale along the gradient is E[min(u_1 … u_K)²]; one trial per entry of a slot."""
    slot = make_slots([("x", torch.zeros(100_000))])[0]
    policy = MeanShift()
    policy.begin(0, [slot])
    best = torch.stack([policy.draw(slot, k) for k in range(count)]).amin(0)
    assert float(best.double().square().mean()) == pytest.approx(gain, rel=0.02)


def fixed_linear(d, steps, seed=0, **arguments):
    gradient = torch.randn(d, generator=torch.Generator().manual_seed(seed))
    x = torch.zeros(d)
    method = LDSD([("x", x)], lr=0.0, seed=seed, lr_mu=1e-2, **arguments)
    for _ in range(steps):
        method.step(lambda: gradient @ x)
    return float(torch.cosine_similarity(moved_mean(method)[1]["x"], -gradient, dim=0)), method


@pytest.mark.parametrize(("d", "steps", "seeds"), [(100, 20, 8), (1000, 200, 1), (1000, 2000, 1), (10_000, 200, 1)])
def test_mean_aligns_with_a_fixed_gradient(d, steps, seeds):
    """cos(μ, −g) = q/√(1+q²) with q² = T(K−1)/d."""
    q = math.sqrt(steps * 4 / d)
    found = sum(fixed_linear(d, steps, seed)[0] for seed in range(seeds)) / seeds
    assert found == pytest.approx(q / math.sqrt(1 + q * q), abs=0.04)


def test_coherence_tells_a_random_walk_from_a_drift():
    """|μ−μ₀|² / Σ|lr_mu·g_μ|² is 1 for fresh noise, and 1 + q² = 1.8 here for the noise that was evaluated."""
    found = {}
    for mu_z in ("replay", "fresh_after_best"):
        _, method = fixed_linear(1000, 200, mu_z=mu_z)
        found[mu_z] = method.policy.notes()["mean_coherence"]
    assert found["fresh_after_best"] == pytest.approx(1.0, abs=0.15)
    assert found["replay"] == pytest.approx(1.8, abs=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16])
@pytest.mark.parametrize("lr_mu", [0.0, 1e-3])
def test_one_candidate_is_mezo(dtype, lr_mu):
    """With K = 1 the advantage is 0: the two-point step of MeZO bit for bit, and no state."""
    ours, theirs = tensors(dtype), tensors(dtype)
    method = make(ours, candidates=1, lr_mu=lr_mu)
    mezo = MeZO(theirs.items(), lr=0.05, eps=1e-3, seed=3)
    for _ in range(5):
        method.step(curved(ours))
        mezo.step(curved(theirs))
    assert method.state_bytes() == 0
    for name, p in theirs.items():
        assert torch.equal(ours[name], p)


def test_without_a_policy_the_variants_walk_the_same_path():
    paper, official = tensors(), tensors()
    for parameters, variant in ((paper, "paper"), (official, "official")):
        method = make(parameters, lr_mu=0.0, variant=variant, mode="exact", rule=Momentum())
        for _ in range(5):
            method.step(curved(parameters))
    for name, p in paper.items():
        assert torch.equal(p, official[name])


def test_two_steps_by_hand():
    """Two steps of LDSD with heavy ball, in dense algebra from the drawn noise."""
    k, eps, sigma, lr, lr_mu = 4, 1e-2, 1.3, 0.05, 0.4
    parameters, dense = tensors(), tensors()
    method = make(parameters, candidates=k, eps=eps, sigma=sigma, lr=lr, lr_mu=lr_mu, rule=Momentum(beta=0.8))
    twin = MeanShift()
    twin.begin(0, method.slots)
    mu, buffer = ({n: torch.zeros_like(p) for n, p in dense.items()} for _ in range(2))
    for t in range(2):
        method.step(curved(parameters))
        z = [{s.name: twin.draw(s, method.keys(t, q)) for s in method.slots} for q in range(k)]
        v = [{n: mu[n] + sigma * zq[n] for n in mu} for zq in z]
        losses = [float(curved({n: p + eps * vq[n] for n, p in dense.items()})()) for vq in v]
        best = min(range(k), key=lambda q: losses[q])
        minus = float(curved({n: p - eps * v[best][n] for n, p in dense.items()})())
        g = (losses[best] - minus) / (2 * eps)
        for n in dense:
            buffer[n] = 0.8 * buffer[n] + g * v[best][n]
            dense[n] = dense[n] - lr * buffer[n]
            advantages = [(k * f - sum(losses)) / (k - 1) for f in losses]
            policy = sum(a * (vq[n] - mu[n]) for a, vq in zip(advantages, v, strict=True)) / (k * sigma**2)
            mu[n] = mu[n] - lr_mu * policy
        for n, p in parameters.items():
            torch.testing.assert_close(p, dense[n], rtol=0, atol=1e-11)
        assert method.oracle.notes["candidate_spread"] == pytest.approx(max(losses) - min(losses), abs=1e-11)
    for n, mean in moved_mean(method)[1].items():
        torch.testing.assert_close(mean, mu[n], rtol=0, atol=1e-11)
    size = sum(m.numel() for m in mu.values())
    expected = sum(float(m.square().sum()) for m in mu.values()) / (size * sigma**2)
    assert method.policy.notes()["mean_norm"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(5,), (8, 30), (BLOCK["cpu"] + 5,)])
@pytest.mark.parametrize("mu0", ["zero", "unit_per_tensor"])
def test_the_fused_move_equals_its_definition(dtype, shape, mu0):
    """To rounding: μ is added once, with the sum of the weights."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    (slot,) = make_slots([("w", values.clone())])
    policy = MeanShift(sigma=0.7, mu0=mu0)
    policy.begin(0, [slot])
    direction = Direction({11: 0.37, 12: -1.3e-3, 13: 2.0})
    expected = moved(policy, slot, direction, keep=0.99)
    policy.move_(slot, direction, keep=0.99)
    eps = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps * (dtype != F64))
    torch.testing.assert_close(slot.param, expected, rtol=2 * eps, atol=8 * eps)


def test_strided_weights_are_moved_like_contiguous_ones():
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    plain, strided = values.clone(), values.T.contiguous().T
    policy = MeanShift(mu0="unit_per_tensor")
    for tensor in (plain, strided):
        slots = make_slots([("w", tensor)])
        policy.begin(0, slots)
        policy.move(slots, Direction({5: 0.4, 6: -1.0}))
    assert not strided.is_contiguous()
    assert torch.equal(plain, strided)


def test_draws_have_the_policy_s_mean_and_deviation():
    slot = make_slots([("w", torch.zeros(50, 40))])[0]
    policy = MeanShift(sigma=0.6, mu0="unit_per_tensor")
    policy.begin(0, [slot])
    mean = policy.mean["w"]
    assert float(mean.norm()) == pytest.approx(1.0, abs=1e-6)
    u = torch.stack([policy.draw(slot, key) for key in range(100)]).double() - mean
    n = u.numel()
    assert abs(u.mean()) < 4 * 0.6 / math.sqrt(n)
    assert float(u.var()) == pytest.approx(0.36, rel=4 * math.sqrt(2 / n))


def subset_of(method, key):
    return {slot.name for slot in method.slots if method.policy.draw(slot, key).abs().max() > 0}


@pytest.mark.parametrize(
    ("shared", "ratio", "size"), [(True, 0.1, 2), (False, 0.1, 2), (True, 0.01, 1), (False, 0.5, 10)]
)
def test_a_direction_moves_a_random_subset_of_the_tensors(shared, ratio, size):
    names = [f"layer{i}.weight" for i in range(20)]
    parameters = tensors(names=names)
    method = make(parameters, subset_ratio=ratio, shared_subset=shared)
    turned = make(dict(reversed(parameters.items())), subset_ratio=ratio, shared_subset=shared)
    seen = dict.fromkeys(names, 0)
    for t in range(300):
        subsets = []
        for one in (method, turned):
            one.policy.begin(t, one.slots)
            subsets.append([subset_of(one, one.keys(t, k)) for k in range(2)])
        assert subsets[0] == subsets[1]
        assert (subsets[0][0] == subsets[0][1]) or not shared
        assert all(len(subset) == size for subset in subsets[0])
        for name in subsets[0][0]:
            seen[name] += 1
    p = size / 20
    assert max(abs(count - 300 * p) for count in seen.values()) < 4 * math.sqrt(300 * p * (1 - p))


def test_jaguar_moves_the_mean_and_the_memory_of_the_subset_alone():
    """Tensors outside the subset keep μ and memory, and keep moving by the sign of that memory."""
    parameters = tensors(names=[f"layer{i}.weight" for i in range(10)])
    method = make(parameters, rule=Jaguar(beta=0.5), lr=0.01, mode="exact")
    touched = set()
    for _ in range(6):
        method.step(curved(parameters))
        memory = {s.name: method._rule_state[s.index]["m"].clone() for s in method.slots}
        before, start = copy(method.policy.mean), copy(parameters)
        method.step(curved(parameters))
        (key,) = method.applied
        (name,) = subset_of(method, key)
        touched |= {n for n, m in memory.items() if m.any()} | {name}
        for slot in method.slots:
            now = method._rule_state[slot.index]["m"]
            torch.testing.assert_close(slot.param, start[slot.name] - 0.01 * now.sign(), rtol=0, atol=0)
            assert torch.equal(now, memory[slot.name]) == (slot.name != name)
            assert bool((slot.param != start[slot.name]).any()) == (slot.name in touched)
        before, after = moved_mean(method)
        assert {n for n in before if not torch.equal(before[n], after[n])} <= {name}
    assert len(touched) > 1


def test_official_jaguar():
    """Each candidate has its own subset, equal shapes share their noise, and μ starts at norm 1 in each tensor."""
    parameters = tensors(names=[f"layer{i}.weight" for i in range(20)])
    method = make(parameters, variant="official", rule=Jaguar())
    method.step(curved(parameters))
    policy, (first, second) = method.policy, method.slots[:2]
    assert all(float(mean.norm()) == pytest.approx(1.0, abs=1e-12) for mean in policy.mean.values())
    assert len({frozenset(subset_of(method, method.keys(0, k))) for k in range(5)}) > 1
    reads = [torch.zeros(12, dtype=F64) for _ in range(2)]
    for slot, total in zip((first, second), reads, strict=True):
        policy.add_normals_(slot, {7: 1.0}, total)
    assert torch.equal(*reads)
    (key,) = method.applied
    subset = subset_of(method, key)
    before, after = moved_mean(method)
    assert len(subset) == 2
    assert {name for name in before if not torch.equal(before[name], after[name])} == subset


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_equal_shapes_share_noise_only_when_reseeded(variant):
    method = make(tensors(), variant=variant, rule=Jaguar(), subset_ratio=1.0, mu0="zero", lr_mu=0.0)
    method.policy.begin(0, method.slots)
    first, second, _ = (method.policy.draw(slot, 5) for slot in method.slots)
    assert torch.equal(first, second) == (variant == "official")


def test_a_unit_mean_stays_of_norm_one():
    parameters = tensors()
    method = make(parameters, mu_normalise="unit", lr_mu=0.3)
    for _ in range(3):
        method.step(curved(parameters))
    for mean in moved_mean(method)[1].values():
        assert float(mean.norm()) == pytest.approx(1.0, abs=1e-12)


def test_a_step_that_diverged_can_be_taken_again():
    plain, failing = tensors(), tensors()
    first, second = (make(p, lr_mu=0.3, mode="exact") for p in (plain, failing))
    for t in range(4):
        first.step(curved(plain))
        if t == 2:
            with pytest.raises(Diverged):
                second.step(lambda: float("nan"))
        second.step(curved(failing))
    for name, p in plain.items():
        assert torch.equal(p, failing[name])
    assert moved_mean(first)[1].keys() == moved_mean(second)[1].keys()
    for name, mean in first.policy.mean.items():
        assert torch.equal(mean, second.policy.mean[name])


def test_the_mean_is_the_only_state():
    parameters = tensors(torch.bfloat16)
    size = sum(p.numel() for p in parameters.values())
    for arguments, expected in (
        ({}, 4 * size),
        ({"lr_mu": 0.0}, 0),
        ({"mu0": "unit_per_tensor", "lr_mu": 0.0}, 4 * size),
    ):
        method = make(parameters, **arguments)
        method.step(curved(parameters))
        assert method.state_bytes() == expected


def test_adamm_is_its_recursion_and_its_maximum_never_falls():
    slot = make_slots([("w", torch.zeros(5, 4, dtype=F64))])[0]
    rule, state = AdaMM(beta1=0.8, beta2=0.9, eps=1e-10), {}
    m = v = top = torch.zeros(5, 4, dtype=F64)
    for step in range(30):
        g = torch.randn(5, 4, generator=torch.Generator().manual_seed(step), dtype=F64) / (1 + step)
        m, v = 0.8 * m + (1 - 0.8) * g, 0.9 * v + (1 - 0.9) * g * g
        top = torch.maximum(top, v)
        previous = state["v_max"].clone() if state else 0.0
        found = rule(slot, g.clone(), state, step)
        torch.testing.assert_close(found, m / (top.sqrt() + 1e-10), rtol=1e-12, atol=1e-14)
        assert (state["v_max"] >= previous).all()
    assert (top > v).any()
    first = AdaMM()(slot, torch.tensor([2.0, -3.0], dtype=F64), {}, 0)
    expected = torch.tensor([1.0, -1.0], dtype=F64) * 0.1 / math.sqrt(0.001)
    torch.testing.assert_close(first, expected, rtol=1e-8, atol=0)


def test_jaguar_refreshes_its_memory_where_it_was_touched():
    slot = make_slots([("w", torch.zeros(3, dtype=F64))])[0]
    rule, state = Jaguar(beta=0.75), {}
    first = rule(slot, torch.tensor([4.0, -8.0, 0.0], dtype=F64), state, 0)
    assert first.tolist() == [1.0, -1.0, 0.0]
    assert state["m"].tolist() == [1.0, -2.0, 0.0]
    second = rule(slot, torch.tensor([-16.0, 0.0, 0.0], dtype=F64), state, 1)
    assert second.tolist() == [-1.0, -1.0, 0.0]
    assert state["m"].tolist() == [-3.25, -1.5, 0.0]  # measured, and 0
    third = rule.unmeasured(slot, torch.zeros(3, dtype=F64), state, 2)
    assert third.tolist() == [-1.0, -1.0, 0.0]
    assert state["m"].tolist() == [-3.25, -1.5, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 0.0}, "eps=0.0: must be positive"),
        ({"candidates": 0}, "candidates=0: must be at least 1"),
        ({"sigma": -1.0}, "sigma=-1.0: must be positive"),
        ({"lr_mu": -0.1}, "lr_mu=-0.1: must be 0 or positive"),
        ({"subset_ratio": 1.5}, r"subset_ratio=1.5: must lie in \(0, 1\]"),
        ({"variant": "offical"}, "variant=offical: expected one of paper, official"),
        ({"mu_z": "fresh"}, "mu_z=fresh: expected one of replay, fresh_after_best"),
        ({"mu0": "grad"}, "mu0=grad: expected one of zero, unit_per_tensor"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(tensors(), **arguments)
