"""The same contracts on a GPU; skipped where torch sees none."""

import warnings

import pytest
import torch
from test_methods import IDS, METHODS, VARIANTS, Problem, check_resume

from zobench import config
from zobench.run import run
from zobench.zo import Direction, Gaussian, Oracle, Perturbation, make_slots, noise, philox

SMALL = [f"task.splits.mini.{part}=8" for part in ("train", "dev", "test")]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_move_and_restore(dtype):
    slots = [make_slots([("w", torch.ones(3000, 700, device="cuda", dtype=dtype))])[0] for _ in range(2)]
    direction = Direction({11: 0.37, 12: -1.3e-3})
    Gaussian().move_(slots[0], direction)
    Perturbation.move_(Gaussian(), slots[1], direction)
    assert torch.equal(slots[0].param, slots[1].param)
    before = slots[0].param.clone()
    oracle = Oracle(slots[:1], Gaussian(), "exact")
    oracle.begin(lambda: slots[0].param.float().square().mean())
    oracle.losses([direction, -direction])
    oracle.settle()
    assert torch.equal(slots[0].param, before)


def draw_and_add(device, dtype, first=5):
    """A draw, and a sum that is added to weights on this device; both back on the CPU."""
    flat = torch.linspace(-2, 2, 300_001).to(device, dtype)
    noise.add_(flat, 3, {11: 0.37, 12: -1.3e-3, 2**62 + 1: 2.0}, keep=0.99, first=first)
    noise.add_(flat, 3, {13: 1e-2}, first=first, distribution="sign")
    return noise.gaussian(7, 3, torch.Size((700, 30)), flat.device).cpu(), flat.cpu()


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
        rows.append(run(config.compose(*overrides, f"runs_dir={tmp_path / folder}")))
    assert rows[0]["device"].startswith("cuda")
    assert rows[0]["weights_checksum"] == rows[1]["weights_checksum"]
    assert rows[0]["gpu_hours"] > 0
    assert rows[0]["peak_gib"] > rows[0]["weights_gib"] > 0


class OnGPU(Problem):
    """The problem of the contract tests, its tensors on the GPU."""

    def __init__(self):
        super().__init__()
        self.parameters = {name: p.cuda() for name, p in self.parameters.items()}
        self.ids, self.targets = self.ids.cuda(), self.targets.cuda()


@pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=IDS)
def test_resume(name, overrides, tmp_path):
    check_resume(OnGPU, name, overrides, tmp_path)
