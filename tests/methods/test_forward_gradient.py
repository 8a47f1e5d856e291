"""Forward-Gradient: the limit of MeZO for ε → 0 along the same directions, and the losses that have no forward mode."""

from itertools import pairwise

import pytest
import torch
from helpers.families import build

from zobench import ForwardGradient, MeZO
from zobench.config.instantiate import keyword_arguments
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.models.tiny import tiny_tokenizer
from zobench.run.runner import run
from zobench.zo import Adam

F64 = torch.float64


def made(kind, loss, **settings):
    """The weights after three steps from the same start, along the same directions."""
    generator = torch.Generator().manual_seed(0)
    w = {"w": torch.randn(4, 3, generator=generator, dtype=F64), "b": torch.randn(3, generator=generator, dtype=F64)}
    x = torch.randn(5, 4, generator=generator, dtype=F64)
    method = kind(w.items(), lr=0.05, seed=3, **settings)
    for _ in range(3):
        method.step(lambda: loss(torch.nn.functional.linear(x, w["w"].T, w["b"])))
    return torch.cat([p.flatten() for p in w.values()])


def curved(h):
    return (h.tanh() * h.exp()).mean()


def test_it_is_the_limit_of_mezo_along_the_same_directions():
    limit = made(ForwardGradient, curved)
    errors = [float((made(MeZO, curved, eps=eps) - limit).norm() / limit.norm()) for eps in (1e-2, 1e-3, 1e-4)]
    print(errors)
    assert errors[0] < 1e-2
    for larger, smaller in pairwise(errors):
        assert smaller == pytest.approx(larger / 100, rel=0.05)  # O(ε²)


@pytest.mark.parametrize("eps", [1e-2, 1.0, 10.0])
def test_on_a_quadratic_it_is_mezo_at_every_eps(eps):
    limit, mezo = (
        made(kind, lambda h: h.square().mean(), **s) for kind, s in ((ForwardGradient, {}), (MeZO, {"eps": eps}))
    )
    torch.testing.assert_close(mezo, limit, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["in_place", "exact"])
def test_a_step_is_the_gradient_on_its_direction(dtype, mode):
    """In bf16 to the rounding of activations."""
    torch.manual_seed(1)
    w = torch.randn(6, 5).to(dtype).requires_grad_(True)
    x = torch.randn(8, 5).to(dtype)

    def loss():
        return (x @ w.T).tanh().float().square().mean()

    loss().backward()
    gradient = w.grad.double()
    method = ForwardGradient([("w", w)], lr=0.1, mode=mode)
    u = method.perturbation.estimate(method.slots[0], method.direction()).double()
    method.step(loss)
    off = abs(method.oracle.notes["projected_gradient"] - float((gradient * u).sum()))
    assert off < (1e-2 if dtype is torch.bfloat16 else 1e-6) * float(gradient.norm() * u.norm())
    assert method.oracle.forwards == method.forwards_per_step == 3


def test_rules_take_its_estimate_as_any_other():
    found = made(ForwardGradient, curved, rule=Adam())
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, made(MeZO, curved, eps=1e-4, rule=Adam()), rtol=1e-4, atol=1e-5)


def test_a_flat_loss_keeps_the_key_and_moves_nothing():
    w = torch.ones(3)
    method = ForwardGradient([("w", w)], lr=1.0)
    method.step(lambda: w.sum() * 0 + 1.0)
    assert list(method.applied.values()) == [0.0]
    assert torch.equal(w, torch.ones(3))


def test_there_is_no_perturbation_scale_to_set():
    assert "eps" not in keyword_arguments(ForwardGradient)
    assert "eps" in keyword_arguments(MeZO)


def test_a_model_without_forward_mode_ends_in_one_line_that_says_what_to_do(tmp_path):
    tokenizer = tiny_tokenizer()
    build("bloom", vocabulary=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    small = [f"task.splits.mini.{part}=4" for part in ("train", "dev", "test")]
    cfg = compose(
        "method=forward_gradient", "model=tiny-pretrained", f"model.dir={tmp_path / 'model'}", "model.max_length=128",
        "task=sst2", "data=mini", *small, "steps=2", "batch_size=2", "wandb=disabled", f"runs_dir={tmp_path}",
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        run(cfg)
    said = str(caught.value)
    assert said.startswith(
        "method=forward_gradient, model=tiny-pretrained: the loss has no derivative by forward mode: "
    )
    assert said.endswith("; take a central difference instead (runs: method=mezo)")
    assert "\n" not in said
