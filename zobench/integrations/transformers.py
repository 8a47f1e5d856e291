"""``ZOTrainer``: transformers' ``Trainer`` that trains without a backward pass, by any method of zobench."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from zobench.integrations.trainer_batch import TrainerBatch
from zobench.methods.mezo import MeZO
from zobench.zo import Method, ZOOptimizer, mix
from zobench.zo.closure import Closure

STATE_FILE, TENSORS_FILE = "zo_optimizer.json", "zo_optimizer.safetensors"


class ZOTrainer(Trainer):
    """Trains a model by forward passes only; callbacks, evaluation, schedulers, checkpoints and resume are Trainer's.

    Rate, weight decay and the seed of the noise are those of ``args``. The model stays in evaluation mode: all losses
    of a step must see the same network, without dropout. With gradient accumulation a step's loss is that of all its
    batches; with several processes it is their mean, and all of them take the same step. A log line has ``forwards``,
    the forward passes so far, in place of a norm of gradients. Optimizer and scheduler are saved as safetensors and
    JSON.

    Example:
        >>> trainer = ZOTrainer(model, args, train_dataset=rows, method=LOREN, settings={"eps": 1e-3})  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP

    Args:
        model, args, arguments: as for ``transformers.Trainer``.
        method: class of the method, of ``from zobench import ...`` or your own.
        settings: its further arguments: ``eps``, ``mode``, its own.

    Raises:
        ValueError: for what a step without backward cannot use: another optimizer, gradient checkpointing, mixed
            precision, NEFTune, DeepSpeed or FSDP; for methods that have a backward pass or do not train.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        *,
        method: type[Method] = MeZO,
        settings: Mapping[str, Any] | None = None,
        **arguments: Any,
    ):
        self.method, self.settings = method, dict(settings or {})
        _check(method, args, self.settings, arguments)
        self._batch: list[Any] = []
        super().__init__(model, args, **arguments)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The method on the model's trainable parameters, as a ``torch.optim.Optimizer``."""
        if self.optimizer is None:
            if self.args.world_size > 1 and self.method.taps:
                raise ValueError(
                    f"{self.method.__name__} takes directions from activations, which processes do not share here; "
                    "train with one process"
                )
            settings = {"seed": self.args.seed, "weight_decay": self.args.weight_decay} | self.settings
            if "weight_decay" in self.method.decides and not self.args.weight_decay:
                settings.pop("weight_decay")
            own: Any = model or self.model
            self.optimizer = _StepOfTrainer(self.method, own.named_parameters(), lr=self.args.learning_rate, **settings)
            self.optimizer.method.oracle.further = self._further
        return self.optimizer

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Collect as Trainer does, which asks once a step; what a step that broke off has left is dropped."""
        self._batch = []
        return super().get_batch_samples(*args, **kwargs)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Keep a batch of the step; the step itself is taken where Trainer calls ``optimizer.step()``."""
        model.eval()
        self._batch.append(self._prepare_inputs(inputs))
        if self.accelerator.sync_gradients:
            self._optimizer.closure = self._closure(model, self._batch, num_items_in_batch)
            self._optimizer.told = self._tr_loss
            self._batch = []
        return torch.zeros((), device=self.args.device)

    @property
    def _optimizer(self) -> "_StepOfTrainer":
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)  # Accelerate's, around it
        return optimizer

    def _closure(self, model: Any, batches: list[Any], items: Any) -> Closure:
        whole = self.loss_is_scaled_for_ga
        if whole is None:  # as Trainer takes it: the model or the function divides by the items of all batches
            whole = items is not None and (self.model_accepts_loss_kwargs or self.compute_loss_func is not None)

        def loss_of(inputs: Any, items: Any = items) -> Tensor:
            inputs = dict(inputs) if isinstance(inputs, Mapping) else inputs  # compute_loss may take labels out
            with self.compute_loss_context_manager():
                loss: Any = self.compute_loss(model, inputs, num_items_in_batch=items)
            return loss.mean() if self.args.n_gpu > 1 else loss

        def items_of(inputs: Any) -> Any:
            return self._get_num_items_in_batch([inputs], self.args.device)

        return TrainerBatch(
            loss_of,
            batches,
            items=items,
            whole=whole,
            items_of=items_of,
            reduce=self._over_processes,
        )

    def _over_processes(self, losses: Tensor) -> Tensor:
        """The mean over the processes, the same in all of them."""
        if self.args.world_size == 1:
            return losses
        mean: Any = self.accelerator.reduce(losses.clone(), reduction="mean")
        return mean

    def _further(self, first: int, count: int) -> Closure:
        """The mean loss of further batches of a step: parts of an order of the training set that is the step's own."""
        data: Any = self.train_dataset
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise ValueError(f"{self.method.__name__} asks for further batches; give a train_dataset with a length")
        size, step = self.args.train_batch_size, self._optimizer.method.t
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(mix(self.args.seed, step) % 2**63))
        places = [int(order[i % len(data)]) for i in range(first * size, (first + count) * size)]
        collate = self._get_collator_with_removed_columns(self.data_collator, description="training")
        parts = [places[start : start + size] for start in range(0, len(places), size)]
        batches = [self._prepare_inputs(collate([data[i] for i in part])) for part in parts]
        return self._closure(self.model, batches, None)

    def _clip_grad_norm(self, model: nn.Module) -> None:
        return None

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> None:
        return None

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as Trainer does; a line of training has the forward passes so far."""
        # Evaluations are left as they are: a search for hyperparameters adds their numbers up.
        if isinstance(self._optimizer, ZOOptimizer) and {"loss", "train_loss"} & set(logs):
            logs["forwards"] = self._optimizer.method.oracle.forwards
        super().log(logs, *args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.args.should_save:
            return
        optimizer, scheduler = self._pair()
        state = optimizer.state_dict()
        tensors = {key: value.contiguous() for key, value in state["state"].items() if isinstance(value, Tensor)}
        state["state"] = {key: value for key, value in state["state"].items() if key not in tensors}
        save_file(tensors, os.path.join(output_dir, TENSORS_FILE))
        text = json.dumps({"optimizer": state, "scheduler": scheduler.state_dict()})
        Path(output_dir, STATE_FILE).write_text(text, encoding="utf-8")

    def _pair(self) -> tuple[Any, Any]:
        return self.optimizer, self.lr_scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        file = Path(checkpoint, STATE_FILE)
        if not file.is_file():
            raise ValueError(
                f"{checkpoint} has no {STATE_FILE}: it is of another trainer, or of save_only_model; start without it"
            )
        kept = json.loads(file.read_text(encoding="utf-8"))
        kept["optimizer"]["state"] |= load_file(os.path.join(checkpoint, TENSORS_FILE))
        optimizer, scheduler = self._pair()
        optimizer.load_state_dict(kept["optimizer"])
        scheduler.load_state_dict(_as_in(scheduler.state_dict(), kept["scheduler"]))


class _StepOfTrainer(ZOOptimizer):
    """Takes its step where Trainer asks for one without a closure, and tells Trainer the loss."""

    closure: Closure | None = None
    #: what Trainer adds up losses in
    told: Tensor | None = None

    def step(self, closure: Closure | None = None) -> float:  # type: ignore[override]
        loss = self._take(closure or self.closure)
        if self.told is not None:
            self.told += loss
        return loss


def _as_in(here: Any, kept: Any) -> Any:
    """A state from JSON with the keys that are numbers in a state of its kind, of which JSON makes words."""
    if isinstance(here, dict):
        key = int if here and all(isinstance(name, int) for name in here) else str
        return type(here)({key(name): _as_in(here.get(key(name)), value) for name, value in kept.items()})
    if isinstance(here, list) and len(here) == len(kept):
        return [_as_in(*pair) for pair in zip(here, kept, strict=True)]
    return kept


def _check(
    method: type[Method], args: TrainingArguments | None, settings: Mapping[str, Any], arguments: Mapping[str, Any]
) -> None:
    """Refuse what a step without a backward pass cannot use."""
    refused = "ZOTrainer has no backward pass: {} {}"
    if method.backwards_per_step or not method.trains:
        raise ValueError(f"{method.__name__} is no zeroth-order method; train by it with transformers' Trainer")
    if arguments.get("optimizer_cls_and_kwargs") or (arguments.get("optimizers") or (None, None))[0] is not None:
        raise ValueError("ZOTrainer makes its optimizer itself: give method= and settings= in place of an optimizer")
    if (arguments.get("optimizers") or (None, None))[1] is not None:
        raise ValueError("a scheduler is of an optimizer, which ZOTrainer makes itself: override create_scheduler")
    if "lr" in settings:
        raise ValueError("the learning rate is that of TrainingArguments: give learning_rate in place of settings' lr")
    if args is None:
        return
    for name in (
        "activation_checkpointing",
        "gradient_checkpointing",
        "fp16",
        "bf16",
        "mixed_precision",
        "neftune_noise_alpha",
        "deepspeed",
        "fsdp",
    ):
        if getattr(args, name, None) not in (None, False, "", [], {}, "no"):
            instead = (
                "load the model in that dtype in its place"
                if name in ("fp16", "bf16", "mixed_precision")
                else "leave it at its default"
            )
            raise ValueError(refused.format(f"it cannot use {name}={getattr(args, name)};", instead))
