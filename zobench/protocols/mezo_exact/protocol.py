"""The protocol of the 2023 MeZO code (princeton-nlp/MeZO @552cb1b, arXiv:2305.17333), reproduced bit for bit."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from zobench.errors import ConfigError
from zobench.methods.mezo import MeZO
from zobench.objective import Objective
from zobench.protocols.base import Protocol
from zobench.protocols.mezo_exact.objective import OfficialObjective
from zobench.protocols.mezo_exact.step import OfficialKeys, OfficialOracle, TorchStream
from zobench.tasks.base import Task
from zobench.zo import Gaussian, Method


class MezoExact(Protocol):
    """``<s>`` in front of OPT, loss in the model's dtype, lowest dev loss, the official noise stream and batch order.

    The official seed is 42 for noise and order in every published run; set ``seed=42`` for it. What
    differs: the official dev loss of SQuAD averages over batches of 8, this one over answer tokens, and it reports no
    dev metric.
    """

    attention = "eager"
    start_token = "mezo"
    splits = "mezo_exact"
    strict_splits = False
    micro_batches = False
    variant = "official"
    selection = "lowest dev loss"

    def test_seed(self, data_seed: int) -> int:
        return data_seed

    def objective(self, model: Any, tokenizer: Any, task: Task, cache_gib: float, length_buckets: int = 1) -> Objective:
        return OfficialObjective(model, tokenizer, task, trim_last_layer=False)

    def batch(self, step: int, n: int, batch_size: int, order_seed: int) -> list[int]:
        per_epoch = -(-n // batch_size)
        epoch, position = divmod(step, per_epoch)
        return _epoch_order(n, order_seed, epoch)[position * batch_size : (position + 1) * batch_size]

    def attach(self, method: Method, noise_seed: int) -> None:
        """Raises ConfigError for a method that draws anything but one Gaussian direction a step."""
        if not method.trains or method.backwards_per_step:
            return
        one_direction = isinstance(method, MeZO) and method.probes == 1 and type(method.perturbation) is Gaussian
        if not (one_direction and method.rule.linear and method.oracle.mode == "in_place"):
            raise ConfigError(
                "protocol=mezo_exact reproduces the official MeZO step: method=mezo with method.probes=1, "
                "method/rule=sgd and method.mode=in_place"
            )
        method.perturbation = TorchStream(method.slots)
        method.oracle = OfficialOracle(method.slots, method.perturbation)
        method.keys = OfficialKeys(noise_seed)

    def better(self, new: Mapping[str, float], best: Mapping[str, float]) -> bool:
        return new["loss"] < best["loss"]


@lru_cache(maxsize=2)
def _epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """The Hugging Face sampler's order: seeded by the first draw under ``seed``, every second permutation dropped."""
    first = torch.empty((), dtype=torch.int64).random_(generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(int(first))
    for _ in range(2 * epoch):
        torch.randperm(n, generator=generator)
    return torch.randperm(n, generator=generator).tolist()
