"""The clean protocol: the default, and the one comparison tables are made with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zobench.config.folders import cache_dir
from zobench.objective import Buckets, Objective
from zobench.objective.shelf import Shelf
from zobench.protocols.base import Protocol
from zobench.tasks.base import Task


class Clean(Protocol):
    """The protocol for comparisons.

    Each model's native start token; the loss in fp32, on the option's rows alone; no smaller splits than the task
    names; a fresh order of the training examples each epoch; the weights with the highest dev metric are tested.
    """

    attention = "sdpa"
    start_token = "native"
    splits = "clean"
    strict_splits = True
    micro_batches = True
    shortens_forwards = True
    variant = "paper"
    selection = "highest dev metric, then lowest dev loss"

    def test_seed(self, data_seed: int) -> int:
        """Always 0: the test rows are the same for every data seed."""
        return 0

    def objective(
        self, model: Any, tokenizer: Any, task: Task, cache_gib: float, length_buckets: Buckets = "auto"
    ) -> Objective:
        # On a GPU it takes longer to read the weights back, which name the file, than to compute again.
        on_cpu = next(model.parameters()).device.type == "cpu"
        shelf = Shelf(cache_dir() / "activations") if on_cpu else None
        return Objective(model, tokenizer, task, cache_gib=cache_gib, shelf=shelf, length_buckets=length_buckets)

    def batch(self, step: int, n: int, batch_size: int, order_seed: int) -> list[int]:
        per_epoch = -(-n // batch_size)
        epoch, position = divmod(step, per_epoch)
        order = np.random.Generator(np.random.PCG64([order_seed, epoch])).permutation(n)
        return [int(i) for i in order[position * batch_size : (position + 1) * batch_size]]

    def better(self, new: Mapping[str, float], best: Mapping[str, float]) -> bool:
        return (new["metric"], -new["loss"]) > (best["metric"], -best["loss"])
