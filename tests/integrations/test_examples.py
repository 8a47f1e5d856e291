"""The files of examples/ run as they stand, and Lightning's steps are the method's own."""

from pathlib import Path

import pytest
import torch
from helpers.processes import Zobench
from torch import nn
from torch.utils.data import DataLoader

from zobench import MeZO, ZOOptimizer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "tiny.py")


@pytest.mark.parametrize("name", FILES)
def test_an_example_runs_as_it_stands(tmp_path: Path, name: str):
    if name.startswith("lightning"):
        pytest.importorskip("lightning", reason="the extra lightning is not installed")
    code, out, error = Zobench(tmp_path, module=EXAMPLES / name).wait()
    assert code == 0, error[-2000:]
    assert "loss" in out
    assert "Warning" not in error


def test_the_table_of_examples_names_every_file():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in FILES if f"[{name}]({name})" not in text] == []


def test_lightning_takes_the_steps_of_the_method_and_goes_on_from_its_checkpoint(tmp_path: Path):
    lightning = pytest.importorskip("lightning", reason="the extra lightning is not installed")

    def net() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.automatic_optimization = net(), False

        def configure_optimizers(self):
            return ZOOptimizer(MeZO, self.net.named_parameters(), lr=0.01, seed=4)

        def training_step(self, batch, index):
            self.optimizers().step(closure=lambda: self.net(batch).square().mean())

    data = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}

    def train(steps: int, **more) -> Module:
        module = Module()
        length = {"max_steps": steps} if steps % 6 else {"max_epochs": steps // 6}
        trainer = lightning.Trainer(**length, enable_checkpointing=False, **quiet)
        trainer.fit(module, DataLoader(data, batch_size=4), **more)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return module

    alone = net()
    method = MeZO(alone.named_parameters(), lr=0.01, seed=4)
    for batch in data.split(4):
        method.step(lambda batch=batch: alone(batch).square().mean())
    whole = train(6)
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), whole.net.parameters(), strict=True))

    pairs = zip(train(12).parameters(), train(12, ckpt_path=str(tmp_path / "6.ckpt")).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)

    half = train(3)
    assert not torch.equal(half.net[0].weight, whole.net[0].weight)
    kept = torch.load(tmp_path / "3.ckpt", weights_only=True)["optimizer_states"][0]
    resumed = net()
    resumed.load_state_dict(half.net.state_dict())
    optimizer = ZOOptimizer(MeZO, resumed.named_parameters(), lr=0.01, seed=4)
    optimizer.load_state_dict(kept)
    for batch in data.split(4)[3:]:
        optimizer.step(lambda batch=batch: resumed(batch).square().mean())
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), resumed.parameters(), strict=True))
