"""The base of all protocols: what two runs must share to be comparable."""

from collections.abc import Mapping
from typing import Any, ClassVar

from zobench.objective import Buckets, Objective
from zobench.tasks.base import Task
from zobench.zo import Method, mix, tag


class Protocol:
    """The constants and procedures that runs of one table share.

    Attributes:
        attention: the attention implementation that models are loaded with.
        start_token: which of a model's start tokens is put in front of a sequence, ``native`` or ``mezo``.
        splits: name of a task's split sizes, unless a run chooses others.
        strict_splits: refuse a train file that is too small; else train gets what dev leaves.
        micro_batches: whether a batch may be cut into several forward calls.
        shortens_forwards: whether a forward pass runs no more of the model than the loss needs.
        variant: the variant that a row names for a method without variants of its own.
        selection: in words, which dev evaluation gives the weights that are tested.
    """

    attention: ClassVar[str]
    start_token: ClassVar[str]
    splits: ClassVar[str]
    strict_splits: ClassVar[bool]
    micro_batches: ClassVar[bool]
    shortens_forwards: ClassVar[bool]
    variant: ClassVar[str]
    selection: ClassVar[str]

    def test_seed(self, data_seed: int) -> int:
        """The seed that draws the test rows."""
        raise NotImplementedError

    def objective(
        self, model: Any, tokenizer: Any, task: Task, cache_gib: float, length_buckets: Buckets = "auto"
    ) -> Objective:
        """What computes losses and scores.

        Args:
            model, tokenizer: as loaded, with the trainable parameters marked.
            cache_gib: memory for activations of frozen layers, in GiB; 0 for none.
            length_buckets: parts, by length, that the sequences of a forward pass are run in; see ``Objective``.
        """
        raise NotImplementedError

    def batch(self, step: int, n: int, batch_size: int, order_seed: int) -> list[int]:
        """The training examples of a step, a function of the step alone: a resumed run needs no state for it.

        Args:
            step: from 0.
            n: number of training examples.
            order_seed: draws the order of each epoch.

        Returns:
            Positions from 0 to n − 1. An epoch's last batch is short if ``batch_size`` does not divide n.
        """
        raise NotImplementedError

    def further_batch(self, step: int, number: int, n: int, batch_size: int, order_seed: int) -> list[int]:
        """Which of n training examples one of a step's further batches holds, for methods that ask for several.

        A step's further batches are epochs of an order of its own: the first ``⌈n / batch_size⌉`` of them are all
        examples, each once.

        Args:
            step: number of the step, from 0.
            number: of the further batch, from 0.
            n, batch_size, order_seed: as for ``batch``.
        """
        return self.batch(number, n, batch_size, mix(order_seed, step, tag("further batch")) % 2**31)

    def attach(self, method: Method, noise_seed: int) -> None:
        """Bind a method to the protocol's noise, where it has one of its own.

        Raises:
            ConfigError: if the protocol cannot run the method.
        """

    def better(self, new: Mapping[str, float], best: Mapping[str, float]) -> bool:
        """Whether a dev evaluation beats the best so far.

        Args:
            new, best: hold ``metric``, from 0 (of MCC, −1) to 1, and ``loss``, a mean in nats.
        """
        raise NotImplementedError
