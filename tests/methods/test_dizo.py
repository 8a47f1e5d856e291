"""DiZO against the trajectory recorded from the released code, and the identities of its projection."""

import pytest
import torch
from helpers import released
from helpers.released import TOLERANCE, follow, read

from zobench.methods.dizo import DiZO
from zobench.methods.mezo import MeZO
from zobench.testing.cases import Case
from zobench.testing.contracts import leaves_no_trace
from zobench.testing.problem import Problem
from zobench.zo import Direction, Gaussian, Unsuited, make_slots
from zobench.zo.perturbations.displaced import Displaced


def deviations(monkeypatch, until=None, **settings):
    """The largest deviation of a weight from the golden run after each step."""
    golden = read("dizo")
    problem, on, steps = released.Problem(golden), golden["settings"], golden["steps"]
    method = DiZO(
        problem.model.named_parameters(), lr=on["lr"], eps=on["eps"], interval=on["interval"], inner_steps=on["iters"],
        clip=on["clip_range"], eps_projection=on["zo_eps_projection"], lr_projection=on["step_size_projection"],
        **{"projected": "|".join(on["projected"])} | settings,
    )  # fmt: skip

    def recorded(step, query, purpose, slot, shape):
        if purpose == "projection":
            z = steps[step]["projection"]["inner"][query]["z"]
            return z.get(slot, next(iter(z.values())))
        return steps[step]["draws"][slot]["z"]

    def further(first, count):
        rows = steps[method.t]["projection"]["inner"][first]["rows"]
        return lambda: problem.loss(rows)

    method.oracle.further = further
    released.feed(monkeypatch, method, recorded)
    for step in steps:  # as ``follow`` counts them
        inner = step.get("projection", {}).get("inner", [])
        step["losses"] = step["losses"] + [loss for each in inner for loss in each["losses"]]
    return follow(method, problem, golden, until=until)


def test_official_follows_the_released_code(monkeypatch):
    worst = deviations(monkeypatch, variant="official")
    print(worst)
    assert max(worst) < TOLERANCE


def test_with_other_matrices_it_parts_at_the_first_projection(monkeypatch):
    on = read("dizo")["settings"]
    others = {"0.weight", "2.weight"} - set(on["projected"]) or {"0.weight"}
    *before, worst = deviations(monkeypatch, on["interval"], projected="|".join(others))
    assert all(off < TOLERANCE for off in before)
    assert worst > 1e3 * TOLERANCE


def named(*names):
    generator = torch.Generator().manual_seed(0)
    return [(name, torch.randn(4, 3, generator=generator)) for name in names]


@pytest.mark.parametrize(
    ("names", "variant", "projected"),
    [
        (["q_proj.weight", "k_proj.weight", "v_proj.weight"], "paper", {"q_proj.weight", "v_proj.weight"}),
        (["q_proj.weight", "k_proj.weight", "v_proj.weight"], "official", {"k_proj.weight", "v_proj.weight"}),
        (["q_proj.lora_a", "v_proj.lora_a"], "official", {"q_proj.lora_a", "v_proj.lora_a"}),
        (["c_attn.weight", "embed.weight"], "paper", {"c_attn.weight"}),
    ],
)
def test_what_is_projected_goes_by_names_and_is_every_matrix_without_such(names, variant, projected):
    assert DiZO(named(*names), lr=0.0, variant=variant).projected == projected


def test_official_leaves_the_embedding_alone():
    names = ["decoder.embed_tokens.weight", "k_proj.weight"]
    assert [slot.name for slot in DiZO(named(*names), lr=0.0, variant="official").slots] == ["k_proj.weight"]


def made(problem, cls=DiZO, **settings):
    return cls(problem.parameters.items(), **{"lr": 1e-2, "seed": 3, **settings})


def test_without_a_share_to_clip_to_it_is_mezo():
    one, other = Problem(torch.float64), Problem(torch.float64)
    one.train(made(one, interval=2, inner_steps=2, clip=0.0), 6)
    other.train(made(other, MeZO), 6)
    for name, p in one.parameters.items():
        torch.testing.assert_close(p, other.parameters[name], rtol=0, atol=1e-7)  # 1e-8 is added to lengths


def test_between_projections_it_is_mezo_bit_for_bit():
    one, other = Problem(), Problem()
    one.train(made(one, interval=7), 6)
    other.train(made(other, MeZO), 6)
    assert all(torch.equal(p, other.parameters[name]) for name, p in one.parameters.items())


@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_a_projection_changes_the_lengths_of_the_chosen_ways_alone_and_within_the_share(mode):
    problem, other = Problem(torch.float64), Problem(torch.float64)
    start = problem.copy()
    settings = {"interval": 3, "inner_steps": 3, "lr_projection": 50.0, "projected": "layer", "mode": mode}
    problem.train(made(problem, **settings), 3)
    other.train(made(other, MeZO, mode=mode), 3)
    for name, p in problem.parameters.items():
        way, before = p - start[name], other.parameters[name] - start[name]
        ratio = float(way.norm() / before.norm())
        if name == "layer.weight":
            assert 0.01 < abs(ratio - 1) <= 0.2 + 1e-6
            torch.testing.assert_close(way / ratio, before, rtol=0, atol=1e-12)
        else:
            torch.testing.assert_close(way, before, rtol=0, atol=1e-12)


def test_the_lens_leaves_no_trace_at_a_projection_which_is_no_estimate():
    leaves_no_trace(Case("dizo", {"_target_": "zobench.methods.dizo.DiZO", "interval": 1, "inner_steps": 1}))


def test_the_way_of_a_tensor_is_a_direction_that_stays_while_the_weights_walk():
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator).double() for name, shape in (("a", (4, 3)), ("b", (5,)))}
    slots = make_slots(weights.items())
    space = Displaced(Gaussian(), chosen=lambda slot: slot.name == "a")
    space.begin(0, slots)
    start = {name: w.clone() for name, w in weights.items()}
    step = {name: torch.randn(w.shape, generator=generator).double() for name, w in weights.items()}
    for name, w in weights.items():
        w += step[name]
    assert space.measure(slots).tolist() == pytest.approx([float(step["a"].norm())])
    offset = 0.5 * space.of(slots[0]) + 1e-3 * Direction.ray(7)
    for _ in range(2):
        space.move(slots, offset)
        expected = start["a"] + 1.5 * step["a"] + 1e-3 * Gaussian().draw(slots[0], 7).double()
        torch.testing.assert_close(weights["a"], expected, rtol=0, atol=1e-12)
        space.move(slots, -offset)
    torch.testing.assert_close(weights["b"], start["b"] + step["b"], rtol=0, atol=1e-12)
    space.forget()
    assert not space.estimate(slots[0], space.of(slots[0])).any()


@pytest.mark.parametrize(("names", "there"), [(["fc.weight", "proj.weight"], "fc.weight, proj.weight"), ([], "none")])
def test_a_pattern_that_no_matrix_of_the_model_has_is_refused_before_it_moves(names, there):
    weights = [*named(*names), ("bias", torch.ones(3))]
    method = DiZO(weights, lr=1.0, projected="key")
    with pytest.raises(Unsuited, match=f"^method.projected: no trainable matrix has such a name; there are {there}$"):
        method.step(lambda: sum(w.sum() for _, w in weights))
    assert torch.equal(weights[-1][1], torch.ones(3))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"interval": 0}, "interval=0: must be at least 1"),
        ({"inner_steps": 0}, "inner_steps=0: must be at least 1"),
        ({"clip": 1.0}, r"clip=1.0: must lie in \[0, 1\)"),
        ({"projected": "*"}, r"projected=\*: nothing to repeat at position 0; expected a pattern of names"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_in_one_line(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DiZO(named("fc.weight"), lr=0.0, **setting)
