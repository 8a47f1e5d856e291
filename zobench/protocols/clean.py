"""The clean protocol: the default, and the one comparison tables are made with."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from zobench.config.folders import cache_dir
from zobench.objective import Objective
from zobench.objective.shelf import Shelf
from zobench.tasks.base import Task
from zobench.zo import Method


class Clean:
    """Native start token, fp32 loss on the option's rows, highest dev metric, budget in forward passes.

    A protocol is everything that two runs must share to be comparable. ``attention``, ``start_token``, ``splits``,
    ``strict_splits``, ``micro_batches``, ``variant`` and ``selection`` are its constants; the methods its procedures.
    """

    attention: ClassVar[str] = "sdpa"
    start_token: ClassVar[str] = "native"
    splits: ClassVar[str] = "clean"
    strict_splits: ClassVar[bool] = True
    micro_batches: ClassVar[bool] = True
    variant: ClassVar[str] = "paper"
    selection: ClassVar[str] = "highest dev metric, then lowest dev loss"

    def test_seed(self, data_seed: int) -> int:
        """The test rows are the same for every data seed."""
        return 0

    def objective(self, model: Any, tokenizer: Any, task: Task, cache_gib: float, length_buckets: int = 1) -> Objective:
        # On a GPU it takes longer to read the weights back, which name the file, than to compute again.
        on_cpu = next(model.parameters()).device.type == "cpu"
        shelf = Shelf(cache_dir() / "activations") if on_cpu else None
        return Objective(model, tokenizer, task, cache_gib=cache_gib, shelf=shelf, length_buckets=length_buckets)

    def batch(self, step: int, n: int, batch_size: int, order_seed: int) -> list[int]:
        """Positions of a step's training examples: a fresh order each epoch, the short last batch kept.

        A function of the step alone, so that a resumed run needs no state for it.
        """
        per_epoch = -(-n // batch_size)
        epoch, position = divmod(step, per_epoch)
        order = np.random.Generator(np.random.PCG64([order_seed, epoch])).permutation(n)
        return [int(i) for i in order[position * batch_size : (position + 1) * batch_size]]

    def attach(self, method: Method, noise_seed: int) -> None:
        """Bind a method to the protocol's noise."""

    def better(self, new: Mapping[str, float], best: Mapping[str, float]) -> bool:
        """Whether a dev evaluation beats the best so far; both hold ``metric`` and ``loss``."""
        return (new["metric"], -new["loss"]) > (best["metric"], -best["loss"])
