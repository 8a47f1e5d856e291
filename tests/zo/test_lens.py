"""The lens: its numbers on estimators whose quality is known. That it leaves no trace is a contract of methods."""

import json
import math

import pytest
import torch
from helpers.methods import make, node_of

from zobench.config import instantiate
from zobench.config.signature import compose
from zobench.methods.mezo import MeZO
from zobench.run.runner import run
from zobench.testing.problem import Problem
from zobench.zo.keys import Keys
from zobench.zo.lens import look, precision, readings


def linear(dimension=40):
    """(parameters in two tensors, a linear loss): two-point estimates have no bias there."""
    generator = torch.Generator().manual_seed(3)
    slope = torch.randn(dimension, generator=generator, dtype=torch.float64)
    parameters = {
        "a": torch.zeros(5, dimension // 10, dtype=torch.float64, requires_grad=True),
        "b": torch.zeros(dimension // 2, dtype=torch.float64, requires_grad=True),
    }
    return parameters, lambda: (torch.cat([p.reshape(-1) for p in parameters.values()]) * slope).sum()


def build(name, parameters, **settings):
    node = {**node_of(name), "lr": 0.0, **settings}
    return instantiate.build(node, "method", parameters.items(), seed=1, total_steps=100)


@pytest.mark.parametrize(
    ("name", "settings", "gain", "efficiency"),
    [
        ("mezo", {}, 1.0, 1.0),
        ("mezo", {"probes": 3}, 1.0, 1.0),  # tr Cov falls with the probes: the same per forward pass, nearly
        ("kerzoo", {}, 1.0, 1 / 6.25),  # E[(rK)²] = 25/4
        ("kerzoo", {"order": 1}, 1.0, 1 / 1.8),
        ("ldsd", {"lr_mu": 0.0}, 1.80, 0.6),  # E[min²] of five; the same in the second moment; six passes for two
        ("loren", {"variant": "iso_rloo"}, 1.0, 5 / 3),  # five directions from six passes, MeZO three
    ],
)
def test_known_estimators(name, settings, gain, efficiency):
    """On a linear loss gain and efficiency are known; MeZO's relative variance per forward pass is 2 (d + 1)."""
    parameters, loss = linear()
    found = look(build(name, parameters, **settings), loss, draws=240)
    assert abs(found["gain"] - gain) < 4 * found["gain_stderr"]
    assert found["gain_stderr"] < 0.35 * gain
    allowed = 4 * found["efficiency_stderr"] + 0.12 * efficiency
    assert abs(found["efficiency"] - efficiency) < allowed
    assert abs(found["bias"]) < 2.5 * found["bias_floor"]
    if name == "mezo" and not settings:
        assert abs(found["variance_per_forward"] - 2 * 41) < 4 * found["variance_per_forward_stderr"]
        assert found["cosine"] == pytest.approx(math.sqrt(2 / math.pi / 40), rel=0.15)


def test_sampling_few_blocks_costs_efficiency():
    """Σd Σ|g|² / Σ P(b, c) d_c |g_b|² / π_c²: three equal blocks at π = 0.4, the first in place of an empty sample."""
    blocks = {name: torch.zeros(10, 10, dtype=torch.float64, requires_grad=True) for name in "abc"}
    slope = torch.randn(3, 10, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    slope /= slope.norm(dim=(1, 2), keepdim=True)
    method = build("curvzo", blocks, score_power=0, adapt_every=0)
    found = look(method, lambda: (torch.stack(list(blocks.values())) * slope).sum(), draws=240)
    pi = (0.4 + 0.6**3, 0.4, 0.4)
    both = 0.4**2
    expected = 9 / sum((pi[c] + 2 * both) / pi[c] ** 2 for c in range(3))
    assert abs(found["efficiency"] - expected) < 4 * found["efficiency_stderr"]
    assert found["efficiency_stderr"] < 0.1


def test_numbers_from_estimates_with_a_known_bias():
    """Estimates 2g + b + noise with b across g: gain 2, bias |b| / 2|g|, variance that of the noise."""
    generator = torch.Generator().manual_seed(0)
    gradient = [torch.tensor([3.0, 0.0]), torch.tensor([[0.0, 4.0]])]  # norm 5
    across = [torch.tensor([4.0, 0.0]), torch.tensor([[0.0, -3.0]])]  # norm 5

    def estimate():
        noise = [torch.randn(g.shape, generator=generator) for g in gradient]
        return [2 * g + b + 0.5 * z for g, b, z in zip(gradient, across, noise, strict=True)]

    found = readings([estimate() for _ in range(200)], gradient, forwards=3)
    assert found["weights"] == 4
    assert found["gradient_norm"] == pytest.approx(5.0)
    assert abs(found["gain"] - 2.0) < 4 * found["gain_stderr"] < 0.1
    assert found["bias"] == pytest.approx(0.5, abs=0.03)
    assert found["bias_floor"] < 0.2
    assert found["variance_per_forward"] == pytest.approx(3 * 4 * 0.25 / (4 * 25), rel=0.1)
    assert found["relative_error"] == pytest.approx(math.sqrt((25 + 25 + 1) / 25), rel=0.02)


def test_half_precision_loses_the_projected_gradient_at_a_small_eps():
    """Weights of size 1 round by up to 2⁻⁸ in bf16, far above ε = 1e-4, and the slope along u is lost."""

    def error(dtype, eps):
        generator = torch.Generator().manual_seed(2)
        weight = torch.randn(64, 64, generator=generator).to(dtype).requires_grad_(True)
        target = torch.randn(64, 64, generator=generator)
        method = MeZO([("w", weight)], lr=0.0, eps=eps)
        return precision(method, lambda: (weight.float() * target).sum() / 64)

    assert error(torch.float32, 1e-2)["precision_error"] < 1e-3
    assert error(torch.bfloat16, 1e-1)["precision_error"] < 0.1
    bad = error(torch.bfloat16, 1e-4)
    assert bad["precision_error"] is None or bad["precision_error"] > 0.5


def test_a_twin_shares_the_weights_and_nothing_else():
    problem = Problem()
    method = make(problem, "kerzoo", variant="official")
    problem.train(method, 2)
    keys = Keys(9)
    twin = method.twin(keys)
    assert twin.keys is keys
    assert (twin.oracle.mode, twin.oracle.closure) == ("exact", None)
    assert method.oracle.mode == "in_place"
    for mine, other in zip(method.slots, twin.slots, strict=True):
        assert mine.param is other.param
        lag = twin.perturbation.lookup(other)
        assert lag is not method.perturbation.lookup(mine)
        assert torch.equal(lag, method.perturbation.lookup(mine))


def test_what_cannot_be_looked_at():
    parameters, loss = linear()
    for name, wanted in (("adamw", "AdamW makes no zeroth-order"), ("zeroshot", "makes no zeroth-order")):
        node = {key: value for key, value in node_of(name).items() if key != "eps"}
        method = instantiate.build(node, "method", parameters.items(), total_steps=10)
        with pytest.raises(TypeError, match=wanted):
            look(method, loss)
    with pytest.raises(ValueError, match="draws=2"):
        look(build("mezo", parameters), loss, draws=2)


def test_a_run_with_the_lens_is_the_run_without(tmp_path):
    common = ["model=tiny-llama", "task=sst2", "data=mini", "method=kerzoo", "method.lr=1e-3", "steps=4"]
    common += ["eval_every=2", "wandb=disabled", f"runs_dir={tmp_path}"]
    plain = run(compose(*common))
    looked = run(compose(*common, "lens.every=2", "lens.draws=3"))
    forward_only = run(compose(*common, "lens.every=2", "lens.gradient=false"))
    for other in (looked, forward_only):
        assert other["directory"] != plain["directory"]
        for key in ("weights_checksum", "forwards", "tokens_seen", "examples_seen", "test/loss"):
            assert other[key] == plain[key], key
        assert other["lens_seconds"] > 0
    assert plain["lens_seconds"] == 0
    lines = {row["directory"]: lens_lines(row) for row in (plain, looked, forward_only)}
    assert lines[plain["directory"]] == []
    assert [line["step"] for line in lines[looked["directory"]]] == [0, 2, 4]
    for line in lines[looked["directory"]]:
        assert line["lens/draws"] == 3
        assert line["lens/weights"] == plain["trainable_parameters"]
        assert line["lens/gradient_norm"] > 0
        assert {"lens/cosine", "lens/gain_stderr", "lens/efficiency", "lens/precision_error"} <= set(line)
    for line in lines[forward_only["directory"]]:
        assert {key for key in line if key.startswith("lens/")} == {"lens/precision_error", "lens/precision_sign"}


def lens_lines(row):
    with open(f"{row['directory']}/metrics.jsonl", encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if any(key.startswith("lens/") for key in line)]
