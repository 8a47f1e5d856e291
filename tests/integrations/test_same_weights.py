"""The plain loop, Accelerate and Lightning end at the weights of ``python -m zobench``, to the bit."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers.loops import batch_of, checksum_of, parts_of, row_of, settings_of

from zobench import FZOO, MeZO, ZOOptimizer
from zobench.objective import MeanLoss
from zobench.run.parts import Parts
from zobench.zo import Method

STEPS = 4


def optimizer_of(parts: Parts, method: type[Method]) -> ZOOptimizer:
    return ZOOptimizer(method, parts.model.named_parameters(), lr=1e-3, eps=parts.method.eps, seed=7)


def loss_of(parts: Parts, step: int) -> MeanLoss:
    return MeanLoss(parts.objective, batch_of(parts, step), rows=1)


def plain(parts: Parts, method: type[Method], folder: Path) -> None:
    optimizer = optimizer_of(parts, method)
    for step in range(STEPS):
        optimizer.step(loss_of(parts, step))


def accelerate(parts: Parts, method: type[Method], folder: Path) -> None:
    _, optimizer = Accelerator(cpu=True).prepare(parts.model, optimizer_of(parts, method))
    for step in range(STEPS):
        optimizer.step(loss_of(parts, step))


def lightning(parts: Parts, method: type[Method], folder: Path) -> None:
    library = pytest.importorskip("lightning", reason="the extra lightning is not installed")

    class Module(library.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.automatic_optimization = parts.model, False

        def configure_optimizers(self) -> ZOOptimizer:
            return optimizer_of(parts, method)

        def training_step(self, batch: torch.Tensor, index: int) -> None:
            self.model.eval()
            optimizer: Any = self.optimizers()
            optimizer.step(closure=partial(loss_of(parts, int(batch))))

    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = library.Trainer(max_steps=STEPS, accelerator="cpu", default_root_dir=folder, **quiet)
    trainer.fit(Module(), torch.utils.data.DataLoader(range(STEPS), batch_size=None))


@pytest.mark.parametrize("loop", [plain, accelerate, lightning])
@pytest.mark.parametrize(("method", "option"), [(MeZO, "mezo"), (FZOO, "fzoo")])
def test_a_loop_ends_at_the_weights_of_the_command_line(
    tmp_path: Path, loop: Callable[..., None], method: type[Method], option: str
):
    cfg = settings_of(tmp_path / "runs", f"method={option}", f"steps={STEPS}", "method.lr=1e-3", "noise_seed=7")
    parts = parts_of(cfg)
    before = checksum_of(parts)
    loop(parts, method, tmp_path)
    assert checksum_of(parts) == row_of(cfg)["weights_checksum"] != before
