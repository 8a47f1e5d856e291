"""The protocol of the 2023 MeZO code (princeton-nlp/MeZO @552cb1b, arXiv:2305.17333), reproduced bit for bit.

Numbers recorded from that code under transformers 4.28.1 hold it to the bit in fp32
(tests/protocols/test_mezo_exact.py).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from zobench.errors import ConfigError
from zobench.methods.mezo import MeZO
from zobench.objective import Buckets, Objective
from zobench.protocols.base import Protocol
from zobench.protocols.mezo_exact.objective import OfficialObjective
from zobench.protocols.mezo_exact.step import OfficialKeys, OfficialOracle, TorchStream
from zobench.tasks.base import Task
from zobench.zo import Gaussian, Method


class MezoExact(Protocol):
    """The protocol of the 2023 MeZO code, for comparisons with its published numbers.

    ``<s>`` in front of OPT's sequences, the loss in the model's dtype, the official noise stream and batch order; the
    weights with the lowest dev loss are tested. In every published run the seed of noise and order is 42; set
    ``seed=42`` for it.

    What differs from the code: its dev loss of SQuAD averages over batches of 8, this one over answer tokens; and it
    reports no dev metric.
    """

    attention = "eager"
    start_token = "mezo"
    splits = "mezo_exact"
    strict_splits = False
    micro_batches = False
    shortens_forwards = False
    variant = "official"
    selection = "lowest dev loss"

    def test_seed(self, data_seed: int) -> int:
        """The data seed itself: the official code draws the test rows with it."""
        return data_seed

    def objective(
        self, model: Any, tokenizer: Any, task: Task, cache_gib: float, length_buckets: Buckets = "auto"
    ) -> Objective:
        return OfficialObjective(model, tokenizer, task)

    def batch(self, step: int, n: int, batch_size: int, order_seed: int) -> list[int]:
        per_epoch = -(-n // batch_size)
        epoch, position = divmod(step, per_epoch)
        return _epoch_order(n, order_seed, epoch)[position * batch_size : (position + 1) * batch_size]

    def attach(self, method: Method, noise_seed: int) -> None:
        """Replace a method's keys, noise and arithmetic by the official ones.

        Raises:
            ConfigError: for a method that does anything but one central difference of a Gaussian direction a step.
        """
        if not method.trains or method.backwards_per_step:
            return
        one_direction = isinstance(method, MeZO) and method.probes == 1 and type(method.perturbation) is Gaussian
        if not (one_direction and method.rule.linear and method.oracle.mode == "in_place"):
            raise ConfigError(
                "protocol=mezo_exact reproduces the official MeZO step: method=mezo with method.probes=1, "
                "method.distribution=gaussian, method/rule=sgd and method.mode=in_place"
            )
        method.oracle = OfficialOracle(method.slots, TorchStream(method.slots))
        method.keys = OfficialKeys(noise_seed)

    def better(self, new: Mapping[str, float], best: Mapping[str, float]) -> bool:
        return new["loss"] < best["loss"]


@lru_cache(maxsize=2)
def _epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch's examples, as the sampler of transformers 4.28.1 draws it.

    Its generator is seeded with the first number drawn under ``seed``, and every second permutation is dropped.
    """
    first = torch.empty((), dtype=torch.int64).random_(generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(int(first))
    for _ in range(2 * epoch):
        torch.randperm(n, generator=generator)
    return torch.randperm(n, generator=generator).tolist()
