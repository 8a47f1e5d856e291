"""The step of the 2023 MeZO code (arXiv:2305.17333) by its own functions, out of a checkout that the user gives.

These are the methods of its trainer that perturb, evaluate and update, and its forward with the loss of the option's
tokens. Around them stands what they use of transformers' Trainer and no more: no training loop, no logging, no batch
copied to the device. What remains is a little less than an official step.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zobench.bench.checkout import TRAINER, UTILS, functions
from zobench.errors import ConfigError
from zobench.objective import Encoded
from zobench.protocols.mezo_exact.objective import IGNORED, pad_left

Loss = Callable[[], Tensor]
_METHODS = ("zo_perturb_parameters", "zo_forward", "zo_step", "zo_update")
_FORWARD = "forward_wrap_with_option_len"


class OfficialStep:
    """The official step on one batch, with the loss that belongs to it.

    Args:
        folder: the checkout, as ``checkout.check`` demands it.
        model: a causal language model of transformers.
        batch: examples of one prompt and its options.
        row_per_option: one row for each option and the classification loss, as ``train_as_classification=True`` has
            it there; else one row for each example, with its gold option, and the language-model loss.
        lr: learning rate.
        eps: perturbation scale ε.
        weight_decay: of all tensors but biases and norms.

    Attributes:
        passes: how often a step goes over the weights.

    Raises:
        ConfigError: if the model has too few positions for prompt and option.
    """

    passes = 4

    def __init__(
        self,
        folder: Path,
        model: Any,
        batch: Sequence[Encoded],
        *,
        row_per_option: bool,
        lr: float,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ):
        from transformers.modeling_outputs import CausalLMOutputWithPast

        longest = max(len(row.ids) for example in batch for row in example.rows)
        positions = getattr(model.config, "max_position_embeddings", None)
        if positions is not None and longest > positions:
            raise ConfigError(
                f"--official: its rows hold the option too, {longest} tokens, and the model has {positions} positions; "
                f"give --shape at most {positions - 1} tokens"
            )
        self.model = model
        device = next(model.parameters()).device
        pad = getattr(model.config, "pad_token_id", None) or 0
        self.inputs = {k: v.to(device) for k, v in inputs(batch, pad, row_per_option=row_per_option).items()}
        scope = {
            "torch": torch,
            "F": F,
            "CrossEntropyLoss": torch.nn.CrossEntropyLoss,
            "CausalLMOutputWithPast": CausalLMOutputWithPast,
        }
        self._forward = functions(folder / UTILS, [_FORWARD], scope)[_FORWARD]
        methods = functions(folder / TRAINER, _METHODS, {"torch": torch, "np": np}, of="OurTrainer")
        self.trainer: Any = type("OurTrainer", (_Trainer,), methods)(lr, eps, weight_decay)

    @property
    def fed(self) -> str:
        """What the model is given, as ``rows x columns`` of tokens."""
        rows, columns = self.inputs["input_ids"].shape
        return f"{rows}x{columns}"

    def loss(self) -> Tensor:
        """Compute the official loss of the batch, as Trainer takes it from what the model returns."""
        with _wrapped(self.model, self._forward):
            outputs = self.model(**self.inputs)
        return outputs["loss"] if isinstance(outputs, dict) else outputs[0]

    def step(self, loss: Loss) -> float:
        """Take one step whose two losses ``loss`` computes, and return the projected gradient."""
        self.trainer.loss = loss
        self.trainer.zo_step(self.model, self.inputs)
        self.trainer.zo_update(self.model)
        return self.trainer.projected_grad


class _Trainer:
    """Stands in the place of transformers' Trainer, with what the official methods use of it."""

    loss: Loss

    def __init__(self, lr: float, eps: float, weight_decay: float):
        self.args = SimpleNamespace(
            zo_eps=eps, weight_decay=weight_decay, non_diff=False, n_gpu=0, gradient_accumulation_steps=1
        )
        self.lr_scheduler = SimpleNamespace(step=lambda: None)
        self._lr = lr

    def _get_learning_rate(self) -> float:
        return self._lr

    def _prepare_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return inputs

    def compute_loss_context_manager(self) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    def compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        return self.loss()


def inputs(batch: Sequence[Encoded], pad: int, *, row_per_option: bool) -> dict[str, Tensor]:
    """A batch as the official collators make it: padded on the left to a multiple of 8, with a mask.

    Args:
        batch: examples of one prompt and its options.
        pad: the id of the padding token.
        row_per_option: a row for each option, not one for each example.
    """
    pairs = [(e, row) for e in batch for row in (e.rows if row_per_option else [e.rows[e.gold]])]
    ids, mask = pad_left([row for _, row in pairs], pad, torch.device("cpu"))
    found = {
        "input_ids": ids,
        "attention_mask": mask,
        "option_len": torch.tensor([row.option_len for _, row in pairs]),
        "labels": torch.tensor([e.gold for e, _ in pairs]) if row_per_option else ids.masked_fill(mask == 0, IGNORED),
    }
    if row_per_option:
        found["num_options"] = torch.tensor([len(e.rows) for e, _ in pairs])
    return found


@contextlib.contextmanager
def _wrapped(model: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Put the official forward in the model's place, as the official script does, and the model's own back."""
    own = vars(model).get("forward")
    model.original_forward = model.forward
    model.forward = forward.__get__(model, type(model))
    try:
        yield
    finally:
        del model.original_forward, model.forward
        if own is not None:
            model.forward = own
