"""The same contracts on a GPU; skipped where torch sees none."""

import pytest
import torch
from test_methods import IDS, METHODS, VARIANTS, Problem, check_resume

from zobench import config
from zobench.run import run
from zobench.zo import Direction, Gaussian, Oracle, Perturbation, make_slots

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
