"""The training loop: steps, evaluations, the best checkpoint, and going on where a run stopped."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from zobench import checkpoint
from zobench.build import Parts
from zobench.errors import ConfigError, DataError
from zobench.evaluate import Evaluation, evaluate
from zobench.meter import Clocks
from zobench.objective import Encoded
from zobench.record import Record
from zobench.signals import StopRequest
from zobench.tracking import Mirror
from zobench.zo import Diverged, lens


class Interrupted(Exception):
    """A signal asked the run to stop; a checkpoint of its last step was written."""


@dataclass
class Progress:
    """What the loop remembers between steps; saved with each checkpoint."""

    evaluated_step: int = 0
    looked_step: int = -1
    best_step: int | None = None
    best_forwards: int = 0
    best: dict[str, float] | None = None
    examples: int = 0
    tokens: int = 0
    window_loss: float = 0.0
    window_steps: int = 0
    zero_shot: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Fine-tunes one model on one task with one method, under one protocol."""

    def __init__(self, *, parts: Parts, record: Record, mirror: Mirror, clocks: Clocks, say: Callable[[str], None]):
        self.settings, self.method, self.objective = parts.settings, parts.method, parts.objective
        self.task, self.protocol = parts.task, parts.protocol
        self.train_set, self.dev_set = parts.train, parts.dev
        self.rows_hash, self.device = parts.facts["rows_hash"], parts.device
        self.record, self.mirror, self.clocks, self.say = record, mirror, clocks, say
        self.report: Callable[[int, str], None] = lambda n, text: None
        self.progress = Progress()
        self.folder = record.directory / "checkpoint"

    def resume(self) -> bool:
        """Go on from the newest checkpoint, if there is one.

        Raises:
            UserError: if rows or kind of device are not those of the checkpoint.
        """
        found = checkpoint.load(self.folder)
        if found is None:
            self.record.forget_after(-1)
            return False
        if found.run["rows_hash"] != self.rows_hash:
            raise DataError(
                f"the data changed since {self.folder} was written: rows {found.run['rows_hash']}, "
                f"now {self.rows_hash}; put the old files back, or start again with overwrite=true"
            )
        if found.run["device"] != self.device.type:
            raise ConfigError(
                f"device={self.device.type}: {self.folder} was written on {found.run['device']}, which rounds "
                "otherwise; go on there, or start again with overwrite=true"
            )
        checkpoint.restore(self.method.slots, found.weights)
        self.method.load_state_dict(found.method)
        self.progress = Progress(**found.run["progress"])
        self.clocks.load_state_dict(found.run["clocks"])
        self.record.forget_after(self.method.t)
        return True

    def run(self, stop: StopRequest) -> None:
        """Train to the end of the budget.

        Raises:
            Interrupted: when asked to stop; a checkpoint was written.
            Diverged: if a loss is not finite.
        """
        total = self.settings.total_steps
        while True:
            asked = stop.requested
            try:
                if not asked:
                    self._evaluate_dev_if_due(stop)
                    with stop.deferred():
                        self._look_if_due()
            except KeyboardInterrupt as error:  # the weights are those after the step; resuming evaluates them again
                asked = str(error)
            with stop.deferred():
                if asked or self._due(self.settings.save_every):
                    self.save()
                if asked:
                    raise Interrupted(f"{asked} after step {self.method.t} of {total}")
                if self.method.t >= total:
                    return
                self._step()

    def save(self) -> None:
        run = {
            "progress": asdict(self.progress),
            "clocks": self.clocks.state_dict(),
            "rows_hash": self.rows_hash,
            "device": self.device.type,
        }
        self.record.flush()
        checkpoint.save(self.folder, self.method.slots, self.method.state_dict(), run)
        if self.progress.best_step is not None:
            checkpoint.prune_best(self.folder, self.progress.best_step)

    def _due(self, every: int) -> bool:
        t = self.method.t
        return t > 0 and (t % every == 0 or t == self.settings.total_steps)

    def restore_best(self) -> None:
        """Load the weights of the best dev evaluation."""
        if self.progress.best_step is not None:
            checkpoint.restore(self.method.slots, checkpoint.load_best(self.folder, self.progress.best_step))

    def evaluate(self, examples: Sequence[Encoded], threshold: float | None = None) -> Evaluation:
        with self.clocks("evaluate"):
            return evaluate(self.objective, self.task, examples, self.settings.eval_batch_size, threshold=threshold)

    def _step(self) -> None:
        s, p, method = self.settings, self.progress, self.method
        batch = self._batch()
        lr = method.lr
        try:
            with self.clocks("train"):
                loss = method.step(self._closure(batch))
        except Diverged as error:
            raise Diverged(f"{error}, step {method.t + 1}; lower method.lr (now {lr:g})") from None
        p.examples += len(batch)
        p.window_loss += loss
        p.window_steps += 1
        self.record.applied(method.t, lr, method.applied)
        if method.t % s.log_every == 0 or method.t == s.total_steps:
            self._log(lr)
        rate = method.oracle.forwards / self.clocks.wall["train"]
        self.report(1, f"loss {loss:.4f}, {rate:.1f} forwards/s,")

    def _batch(self) -> list[Encoded]:
        """The training examples of the current step."""
        s = self.settings
        order = self.protocol.batch(self.method.t, len(self.train_set), s.batch_size, s.order_seed)
        return [self.train_set[i] for i in order]

    def _mean_loss(self, batch: Sequence[Encoded]) -> Tensor:
        size = self.settings.micro_batch_size or len(batch)
        parts = [self.objective.loss_sum(batch[i : i + size]) for i in range(0, len(batch), size)]
        return sum((total for total, _ in parts[1:]), parts[0][0]) / sum(weight for _, weight in parts)

    def _closure(self, batch: Sequence[Encoded]) -> Callable[[], Tensor]:
        before = self.objective.tokens
        seen = False

        def loss() -> Tensor:
            nonlocal seen
            with self.clocks("forward"):
                value = self._mean_loss(batch)
                if not seen:
                    self.progress.tokens += self.objective.tokens - before
                    seen = True
                # Reading the value waits for the device, and so belongs to the forward pass.
                float(value.detach())
            return value

        return loss

    def _log(self, lr: float) -> None:
        p, method = self.progress, self.method
        line: dict[str, Any] = {
            "step": method.t,
            "forwards": method.oracle.forwards,
            "train/loss": p.window_loss / p.window_steps,
            **method.oracle.notes,
            "lr": lr,
            "train_seconds": self.clocks.wall["train"],
        }
        p.window_loss, p.window_steps = 0.0, 0
        self.record.log(line)
        self.mirror.log(line)

    def _look_if_due(self) -> None:
        """Measure the estimates of the step to come, on its batch."""
        s, p, method = self.settings, self.progress, self.method
        if not s.lens_every or method.t % s.lens_every or p.looked_step == method.t:
            return
        batch = self._batch()
        with self.clocks("lens"):
            if s.lens_gradient:
                found = lens.look(method, lambda: self._mean_loss(batch), draws=s.lens_draws)
            else:
                found = lens.precision(method, lambda: self._mean_loss(batch))
        line: dict[str, Any] = {"step": method.t, "forwards": method.oracle.forwards}
        line |= {f"lens/{name}": value for name, value in found.items()}
        self.record.log(line)
        self.mirror.log(line)
        p.looked_step = method.t

    def _evaluate_dev_if_due(self, stop: StopRequest) -> None:
        p, method = self.progress, self.method
        if not self._due(self.settings.eval_every) or p.evaluated_step == method.t:
            return
        found = self.evaluate(self.dev_set)
        line: dict[str, Any] = {"step": method.t, "forwards": method.oracle.forwards}
        line |= {f"dev/{k}": v for k, v in found.values.items()}
        self.record.log(line)
        self.mirror.log(line)
        if not math.isfinite(found.values["loss"]):
            raise Diverged(f"the dev loss is {found.values['loss']} after step {method.t}; lower method.lr")
        new = found.selection(self.task.metric)
        mark = ""
        with stop.deferred():
            if p.best is None or self.protocol.better(new, p.best):
                checkpoint.save_best(self.folder, method.slots, method.t)
                p.best, p.best_step, p.best_forwards, mark = new, method.t, method.oracle.forwards, " *"
            p.evaluated_step = method.t
        shown = "  ".join(f"{k} {found.values[k]:.3f}" for k in (self.task.metric, "auc", "loss") if k in found.values)
        self.say(f"step {method.t:>6}  dev {shown}{mark}")
