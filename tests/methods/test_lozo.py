"""LOZO and LOZO-M against recorded steps of the released code, and against their mathematics."""

import math

import pytest
import torch
from helpers import released
from helpers.methods import descended
from helpers.released import TOLERANCE, Problem, deviation, feed, follow

from zobench.methods.lozo import LOZO
from zobench.methods.mezo import MeZO
from zobench.zo import CoreSpace, Direction, ExponentialAverage, Momentum, make_slots
from zobench.zo.perturbations.bases import Basis
from zobench.zo.perturbations.lazy_low_rank import LazyLowRank

GOLDEN = {name: released.read(name) for name in ("lozo", "lozo_m")}
FAR = 1e3 * TOLERANCE


def core_average(beta=0.9, start="estimate"):
    return CoreSpace(rule=ExponentialAverage(beta=beta, start=start))


def fed(name, monkeypatch, **settings):
    """A method on the problem of a golden file, given the draws of that file."""
    golden, problem = GOLDEN[name], Problem(GOLDEN[name])
    its = golden["settings"]
    settings = {"variant": "official", "weight_decay": its["wd"]} | {n: its[n] for n in ("rank", "interval")} | settings
    if name == "lozo_m":
        settings.setdefault("rule", core_average(its["beta"]))
    method = LOZO(problem.model.named_parameters(), lr=its["lr"], eps=its["eps"], **settings)

    def lookup(step, query, purpose, slot, shape):
        drawn = golden["steps"][step]["update" if purpose == "fresh" else "probe"][slot]
        return drawn["V"] if purpose == "basis" else drawn.get("U", drawn.get("z"))

    feed(monkeypatch, method, lookup)
    return method, problem, golden


@pytest.mark.parametrize("name", list(GOLDEN))
def test_official_steps_follow_the_released_code(name, monkeypatch):
    """Weights, and LOZO-M's memory after each step; both have three refreshes."""
    method, problem, golden = fed(name, monkeypatch)
    worst = [0.0]

    def state(step):
        for slot in method.slots if "state" in golden else ():
            worst.append(deviation(method._rule_state[slot.index]["m"], golden["state"][step][slot.name]))

    off = follow(method, problem, golden, after=state)
    print(name, max(off), max(worst))
    assert max(off) < TOLERANCE
    assert max(worst) < TOLERANCE


@pytest.mark.parametrize("name", list(GOLDEN))
def test_steps_along_what_was_measured_follow_the_repaired_run(name, monkeypatch):
    method, problem, golden = fed(name, monkeypatch, refresh_update="measured")
    repaired = golden["repaired"]
    for step in repaired["steps"]:
        method.step(problem.loss)
        assert method.oracle.seen == pytest.approx(step["losses"], rel=1e-11)
        assert float(problem.loss().detach()) == pytest.approx(step["loss_after"], rel=1e-11)
    off = max(deviation(found, repaired["final"][slot]) for slot, found in problem.weights().items())
    print(name, off)
    assert off < TOLERANCE


@pytest.mark.parametrize("name", list(GOLDEN))
@pytest.mark.parametrize("switch", [{"divide_by_rank": True}, {"refresh_update": "measured"}, {"variant": "paper"}])
def test_any_switch_at_the_papers_value_leaves_the_released_steps_at_the_first_refresh(name, switch, monkeypatch):
    """The factor r is none where r is 1."""
    method, problem, golden = fed(name, monkeypatch, **switch)
    needed = switch != {"divide_by_rank": True} or golden["settings"]["rank"] > 1
    assert (follow(method, problem, golden, until=1)[0] > FAR) == needed


def test_the_papers_steps_leave_the_released_ones_at_refreshes_alone(monkeypatch):
    """From the weights before any other step, the two take the same one but for the factor r."""
    method, problem, golden = fed("lozo", monkeypatch, variant="paper")
    its, left = golden["settings"], []
    for step, recorded in enumerate(golden["steps"]):
        with torch.no_grad():
            for name, p in problem.model.named_parameters():
                p.copy_(released.tensor(golden["weights"][step][name]))
        before = problem.weights()
        method.step(problem.loss)
        for name, now in problem.weights().items():
            factor, kept = (its["rank"], 1 - its["lr"] * its["wd"]) if now.ndim == 2 else (1, 1)
            moved = before[name] * kept + (now - before[name] * kept) * factor
            left += [step] if deviation(moved, golden["weights"][step + 1][name]) > TOLERANCE else []
        assert method.oracle.notes["projected_gradient"] == pytest.approx(recorded["coefficient"], rel=1e-8)
    assert sorted(set(left)) == [t for t, s in enumerate(golden["steps"]) if s["refresh"]]


# -- the estimator ----------------------------------------------------------------------------------------------------


def points(d):
    """``±√d e_i``: the mean over them of a polynomial of degree 3 is that over ``N(0, I_d)``."""
    eye = torch.eye(d, dtype=torch.float64) * math.sqrt(d)
    return torch.cat([eye, -eye])


@pytest.mark.parametrize(("m", "n", "r"), [(3, 4, 2), (4, 2, 1)])
def test_the_divided_estimate_is_unbiased(m, n, r, monkeypatch):
    """``E[⟨G, UVᵀ⟩ UVᵀ] = r G``, exactly by cubature over U and V; without the division it is r times the gradient."""
    G = torch.randn(m, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (slot,) = make_slots([("w", torch.zeros(m, n, dtype=torch.float64))])
    space, means = LazyLowRank(rank=r), {}
    U, V = points(m * r).view(-1, m, r), points(n * r).view(-1, n, r)
    for word in ("plain", "divided"):
        total = torch.zeros_like(G)
        for v in V:
            monkeypatch.setattr(space, "_drawn", lambda slot, key, v=v: v)
            space.refresh([slot], 0)
            for u in U:
                monkeypatch.setattr(space, "draw_core", lambda slot, key, basis, u=u: u)
                space._held.clear()
                probe = Direction.ray(7)
                slope = float((G * space.estimate(slot, probe)).sum())
                total += space.estimate(slot, slope * (space.divided(probe) if word == "divided" else probe))
        means[word] = total / len(U) / len(V)
    torch.testing.assert_close(means["divided"], G, rtol=0, atol=1e-12)
    torch.testing.assert_close(means["plain"], r * G, rtol=0, atol=1e-12)


def test_the_second_moment_is_never_below_a_gaussians():
    """``E‖ĝ‖²/‖G‖² = mn + 2 + 2(m+n+1)/r`` (a Gaussian's is mn + 2), by 5·10⁴ draws."""
    m, n, r = 6, 8, 2
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.randn(50_000, size, r, generator=generator, dtype=torch.float64) for size in (m, n))
    u, G = U @ V.mT, torch.randn(m, n, generator=generator, dtype=torch.float64)
    squares = ((u * G).sum((1, 2)) * u.square().sum((1, 2)).sqrt() / r).square() / G.square().sum()
    assert float(squares.mean()) == pytest.approx(m * n + 2 + 2 * (m + n + 1) / r, abs=5 * float(squares.std()) / 224)


# -- the algorithm ----------------------------------------------------------------------------------------------------


def problem_of(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    shapes = {"embed.weight": (7, 4), "layer.weight": (4, 5), "row.weight": (1, 5), "layer.bias": (5,)}
    weights = {n: torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for n, s in shapes.items()}

    def loss():
        hidden = torch.tanh(weights["embed.weight"] @ weights["layer.weight"] + weights["layer.bias"])
        return (hidden * weights["row.weight"]).sum(1).sub(1).square().mean()

    return weights, loss


def test_five_steps_of_lozo_m_by_dense_algebra():
    """Both halves of an interval of 2, the transport, the first N, weight decay, a rank above one short side."""
    weights, loss = problem_of()
    method = LOZO(weights.items(), lr=0.1, eps=1e-3, rank=2, interval=2, rule=core_average(0.7), weight_decay=0.1)
    expected, N, V = {name: p.clone() for name, p in weights.items()}, {}, {}
    for step in range(5):
        method.step(loss)
        c, key = method.oracle.notes["projected_gradient"], method.keys(step)
        for slot in method.slots:
            core = (
                method.space.draw(slot, key)
                if slot.param.ndim == 2
                else method.space.estimate(slot, Direction.ray(key))
            )
            if slot.param.ndim == 1:
                g, lift = c * core, lambda x: x
            else:
                now = method.space.bases[slot.name].V
                if step and step % 2 == 0:
                    N[slot.name] = N[slot.name] @ V[slot.name].T @ now / len(now)
                V[slot.name] = now
                g, lift = c * core / now.shape[1], lambda x, now=now: x @ now.T
            N[slot.name] = 0.7 * N[slot.name] + 0.3 * g if step else g
            kept = 1 - 0.1 * 0.1 if slot.param.ndim == 2 else 1.0
            expected[slot.name] = kept * expected[slot.name] - 0.1 * lift(N[slot.name])
    assert method.space.bases["row.weight"].V.shape == (5, 1)
    worst = max(float((weights[name] - expected[name]).abs().max()) for name in weights)
    print(worst)
    assert worst < 1e-11


def test_inside_one_interval_momentum_of_cores_is_dense_momentum():
    """And in the whole run for ν = ∞; ``(1−β)``-averages started at the first estimate, in both spaces."""
    runs = []
    for rule in (core_average(), ExponentialAverage(), CoreSpace(rule=Momentum()), Momentum()):
        weights, loss = problem_of()
        method = LOZO(weights.items(), lr=0.02, rank=2, interval=100, rule=rule)
        losses = [method.step(loss) for _ in range(8)]
        runs.append((weights, losses, method.state_bytes()))
    for one, other in ((0, 1), (2, 3)):
        for name, p in runs[one][0].items():
            torch.testing.assert_close(p, runs[other][0][name], rtol=0, atol=1e-12)
        assert runs[one][2] < runs[other][2]
    assert runs[0][1] != runs[2][1]


def test_the_weights_move_within_rank_r_in_one_interval():
    """With a momentum that the transport carries into the next one, too."""
    weights, loss = problem_of()
    before = weights["embed.weight"].clone()
    method = LOZO(weights.items(), lr=0.02, rank=2, interval=4, rule=core_average())
    ranks = []
    for _ in range(8):
        method.step(loss)
        ranks.append(int(torch.linalg.matrix_rank(weights["embed.weight"] - before, rtol=1e-9)))
    assert ranks == [2, 2, 2, 2, 4, 4, 4, 4]


def test_the_transport_keeps_a_share_of_r_over_n_in_the_mean():
    """``E[N V_oldᵀ V Vᵀ / n] = (r/n) N V_oldᵀ``, by cubature: next to a reset where n is large."""
    N, old = (torch.randn(size, 2, generator=torch.Generator().manual_seed(size)).double() for size in (3, 4))
    space = LazyLowRank(rank=2)
    drawn = [Basis(V=v) for v in points(4 * 2).view(-1, 4, 2)]
    mean = sum(space.carry(basis, Basis(V=old), N) @ basis.V.T for basis in drawn) / len(drawn)
    torch.testing.assert_close(mean, 2 / 4 * N @ old.T, rtol=0, atol=1e-12)


def test_only_vectors_are_those_of_mezo():
    """Without a matrix LOZO is MeZO, bit for bit, whatever its switches."""
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(descended(MeZO, dtype), descended(LOZO, dtype))


def test_losses_that_tie_move_nothing():
    weights, _ = problem_of()
    before = {name: p.clone() for name, p in weights.items()}
    method = LOZO(weights.items(), lr=1.0, interval=2, rule=core_average(), mode="exact")
    for _ in range(3):
        method.step(lambda: weights["layer.bias"].sum() * 0 + 1.0)
    assert all(torch.equal(p, before[name]) for name, p in weights.items())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 0}, "rank=0"),
        ({"interval": 0}, "interval=0"),
        ({"variant": "code"}, "variant=code"),
        ({"refresh_update": "new"}, "refresh_update=new"),
        ({"embeddings": "none"}, "embeddings=none"),
    ],
)
def test_bad_settings_are_named_in_one_line(settings, said):
    with pytest.raises(ValueError, match=said) as caught:
        LOZO([("w", torch.zeros(3, 3))], lr=0.1, **settings)
    assert "\n" not in str(caught.value)


def test_an_average_starts_at_its_first_estimate_or_at_zero():
    (slot,) = make_slots([("w", torch.zeros(2))])
    for start, first in (("estimate", 1.0), ("zero", 0.25)):
        rule, state = ExponentialAverage(beta=0.75, start=start), {}
        steps = [float(rule(slot, torch.ones(2) * g, state, t)[0]) for t, g in enumerate((1.0, 3.0))]
        assert steps == [first, 0.75 * first + 0.25 * 3.0]
    with pytest.raises(ValueError, match="start=one"):
        ExponentialAverage(start="one")
