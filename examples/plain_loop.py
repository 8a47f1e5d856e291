"""A plain loop: any method as a torch optimizer, with a schedule, groups of parameters and a checkpoint.

python examples/plain_loop.py
"""

import json

import tiny
import torch
from safetensors.torch import save
from torch.utils.data import DataLoader

from zobench import LOREN, ZOOptimizer


def main(steps: int = 20) -> float:
    """Train, and return the loss of the last step."""
    model = tiny.model().eval()  # all losses of a step must see the same network: no dropout
    batches = DataLoader(tiny.rows(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))

    embedding = [(name, p) for name, p in model.named_parameters() if "embed" in name]
    others = [(name, p) for name, p in model.named_parameters() if "embed" not in name]
    groups = [{"params": others}, {"params": embedding, "lr": 1e-4}]
    optimizer = ZOOptimizer(LOREN, groups, lr=1e-3, eps=1e-3, seed=0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

    loss, step = 0.0, 0
    while step < steps:
        for batch in batches:
            loss = optimizer.step(lambda batch=batch: model(**batch).loss)
            scheduler.step()
            step += 1
    print(f"loss {loss:.4f} after {steps} steps, {optimizer.method.oracle.forwards} forward passes")

    # Everything to go on with: tensors as safetensors, the rest as JSON.
    state = optimizer.state_dict()
    tensors = {key: value for key, value in state["state"].items() if isinstance(value, torch.Tensor)}
    numbers = state | {"state": {key: value for key, value in state["state"].items() if key not in tensors}}
    print(f"state: {len(save(tensors)):,} bytes of tensors, {len(json.dumps(numbers)):,} of numbers")
    return loss


if __name__ == "__main__":
    main()
