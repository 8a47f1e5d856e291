"""Accelerate: prepare model, optimizer and batches as usual; the loss goes into ``step`` as a closure.

    python examples/accelerate_loop.py

With several processes (``accelerate launch``) each closure must return the mean over all of them, as below: the
processes then take the same step, and no gradient is sent.
"""

import tiny
from accelerate import Accelerator
from torch.utils.data import DataLoader

from zobench import MeZO, ZOOptimizer


def main(steps: int = 20) -> float:
    """Train, and return the loss of the last batch."""
    accelerator = Accelerator(cpu=True)
    model = tiny.model().eval()
    optimizer = ZOOptimizer(MeZO, model.named_parameters(), lr=1e-3, eps=1e-3, seed=0)
    model, optimizer, batches = accelerator.prepare(model, optimizer, DataLoader(tiny.rows(), batch_size=8))

    loss, step = 0.0, 0
    while step < steps:
        for batch in batches:

            def closure(batch=batch):
                return accelerator.reduce(model(**batch).loss, reduction="mean")

            optimizer.step(closure)
            loss = optimizer.optimizer.method.oracle.mean_loss  # Accelerate's step returns nothing
            step += 1
    accelerator.print(f"loss {loss:.4f} after {steps} steps")
    return loss


if __name__ == "__main__":
    main()
