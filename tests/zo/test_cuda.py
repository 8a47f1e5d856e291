"""The same contracts on a GPU; skipped where torch sees none."""

import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers.methods import CASES, METHODS

from zobench.config.signature import compose
from zobench.run.runner import run
from zobench.testing.contracts import resume
from zobench.testing.definition import moved
from zobench.zo import Direction, Gaussian, Oracle, Rademacher, make_slots, placement
from zobench.zo.noise import draws as noise
from zobench.zo.noise import philox

SMALL = [f"task.splits.mini.{part}=8" for part in ("train", "dev", "test")]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.mark.parametrize("perturbation", [Gaussian(), Rademacher()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_move_and_restore(dtype, perturbation):
    slot = make_slots([("w", torch.ones(3000, 700, device="cuda", dtype=dtype))])[0]
    direction = Direction({11: 0.37, 12: -1.3e-3})
    expected = moved(perturbation, slot, direction, keep=0.99)
    perturbation.move_(slot, direction, keep=0.99)
    assert torch.equal(slot.param, expected)
    before = slot.param.clone()
    oracle = Oracle([slot], perturbation, "exact")
    oracle.begin(lambda: slot.param.float().square().mean())
    oracle.losses([direction, -direction])
    oracle.settle()
    assert torch.equal(slot.param, before)
    assert oracle.state_bytes() == 0


@pytest.mark.parametrize("mode", ["exact", "in_place"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_functions_see_the_weights_at_the_offset(dtype, mode, monkeypatch):
    monkeypatch.setattr(placement, "TABLE", 1)
    table, matrix = (torch.linspace(-1, 1, n * 300, device="cuda").view(n, 300).to(dtype) for n in (500, 70))
    ids = torch.tensor([[3, 3, 499], [0, 7, 1]], device="cuda")
    slots = make_slots([("embed", table), ("w", matrix)])
    direction, before = Direction({11: 0.37, 12: -1.3e-3}), [table.clone(), matrix.clone()]

    def loss(table=table, matrix=matrix):
        return F.linear(F.embedding(ids, table), matrix).float().square().mean()

    oracle = Oracle(slots, Gaussian(), mode)
    oracle.begin(loss)
    expected = float(loss(*(moved(Gaussian(), slot, direction) for slot in slots)))
    assert oracle.loss(direction) == expected
    assert torch.equal(table, before[0])
    assert torch.equal(matrix, before[1]) == (mode == "exact")


def draw_and_add(device, dtype, first=5):
    """A draw, and sums that are added to weights and to rows of them on this device; all back on the CPU."""
    flat = torch.linspace(-2, 2, 300_001).to(device, dtype)
    noise.add_(flat, 3, {11: 0.37, 12: -1.3e-3, 2**62 + 1: 2.0}, keep=0.99, first=first)
    noise.add_(flat, 3, {13: 1e-2}, first=first, distribution="sign")
    rows, elsewhere = torch.tensor([40, 3, 3, 2**20], device=flat.device), torch.zeros_like(flat)
    some, others = flat[:10_000].view(4, 2500).clone(), torch.zeros(4, 2500, dtype=dtype, device=flat.device)
    for distribution in ("normal", "sign"):
        jobs = [
            noise.make_job(elsewhere, 3, {11: 0.37}, keep=0.9, first=first, source=flat),
            noise.make_job(some, 4, {11: 0.37, 12: 2.0}, first=first, rows=rows),
            noise.make_job(others, 5, {13: -1.0}, first=first, source=some.clone(), rows=rows),
        ]
        noise.add_all_(jobs, distribution)
        flat = elsewhere.clone()
    drawn = noise.gaussian(7, 3, torch.Size((700, 30)), flat.device)
    return [tensor.cpu() for tensor in (drawn, flat, some, others)]


@pytest.mark.parametrize("first", [5, 2**43 - 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_noise_has_the_bits_of_the_cpu(dtype, first, monkeypatch):
    """By the fused kernel, which must be in use, and by torch's own operations."""
    expected = draw_and_add("cpu", dtype, first)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        noise._fused.cache_clear()
        fused = draw_and_add("cuda", dtype, first)
    for stream in philox.DRAWS:
        assert noise._fused(torch.device("cuda", torch.cuda.current_device()), dtype, stream) is noise._by_triton
    monkeypatch.setenv("ZOBENCH_NOISE", "torch")
    noise._fused.cache_clear()
    fallback = draw_and_add("cuda", dtype, first)
    noise._fused.cache_clear()
    for found in (fused, fallback):
        assert all(map(torch.equal, found, expected))


@pytest.mark.slow
def test_noise_reaches_beyond_two_to_the_31_elements():
    size = 2**31 + 5000
    flat = torch.zeros(size, device="cuda", dtype=torch.bfloat16)
    noise.add_(flat, 3, {11: 1.0})
    for at in (0, 2**31 - 2500, size - 5000):
        part = torch.zeros(5000, dtype=torch.bfloat16)
        noise.add_(part, 3, {11: 1.0}, first=at)
        assert torch.equal(flat[at : at + 5000].cpu(), part)


@pytest.mark.parametrize("task", ["sst2", "squad"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "zeroshot"])
def test_a_run_repeats_itself_to_the_bit(task, method, tmp_path):
    rows = []
    for folder in ("a", "b"):
        overrides = [
            "model=tiny-llama",
            f"task={task}",
            "data=mini",
            *SMALL,
            f"method={method}",
            "steps=4",
            "batch_size=4",
        ]
        overrides += ["device=cuda", "wandb=disabled", "tuning=last_layers", "tuning.layers=1"]
        rows.append(run(compose(*overrides, f"runs_dir={tmp_path / folder}")))
    assert rows[0]["device"].startswith("cuda")
    assert rows[0]["weights_checksum"] == rows[1]["weights_checksum"]
    assert rows[0]["gpu_hours"] > 0
    assert rows[0]["peak_gib"] > rows[0]["weights_gib"] > 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_resume(case):
    resume(replace(case, device="cuda"))
