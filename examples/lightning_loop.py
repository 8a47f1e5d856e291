"""Lightning: manual optimisation, as its automatic one calls ``backward``.

pip install 'zobench[lightning]'
python examples/lightning_loop.py
"""

import logging
import warnings
from typing import Any

import lightning
import tiny
import torch
from torch.utils.data import DataLoader

from zobench import MeZO, ZOOptimizer


class ZerothOrder(lightning.LightningModule):
    """Any model whose output has a ``loss``, trained by MeZO."""

    def __init__(self, model: torch.nn.Module, lr: float = 1e-3):
        super().__init__()
        self.model, self.lr = model, lr
        self.automatic_optimization = False

    def configure_optimizers(self) -> ZOOptimizer:
        """The method on the model's parameters; a scheduler may be returned beside it, as ever."""
        return ZOOptimizer(MeZO, self.model.named_parameters(), lr=self.lr, eps=1e-3, seed=0)

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> None:
        """One step; Lightning sets the module to training mode, where dropout would tell the losses apart."""
        self.model.eval()
        optimizer: Any = self.optimizers()
        loss = optimizer.step(closure=lambda: self.model(**batch).loss)
        self.log("loss", loss)


def main(steps: int = 20) -> float:
    """Train, and return the loss of the last step."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    batches = DataLoader(tiny.rows(), batch_size=8)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=steps, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(ZerothOrder(tiny.model()), batches)
    loss = float(trainer.callback_metrics["loss"])
    print(f"loss {loss:.4f} after {trainer.global_step} steps")
    return loss


if __name__ == "__main__":
    main()
