"""The training loop: steps, evaluations, the best checkpoint, and going on where a run stopped."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from zobench.errors import ConfigError, DataError
from zobench.objective import Encoded
from zobench.record import checkpoint, trajectory
from zobench.record.directory import Record
from zobench.record.wandb_mirror import WandbMirror
from zobench.run import parallel
from zobench.run.build import Parts
from zobench.run.evaluate import Evaluation, evaluate
from zobench.system.console import Bar
from zobench.system.costs import Clocks
from zobench.system.signals import StopRequest
from zobench.zo import Diverged, lens

#: seconds between small checkpoints, unless the run sets a number of steps
SAVE_SECONDS = 60.0


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
    snapshot_seconds: float = 0.0  # outside forwards, at the last snapshot
    zero_shot: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Fine-tunes one model on one task with one method, under one protocol."""

    def __init__(
        self, *, parts: Parts, record: Record, mirror: WandbMirror, clocks: Clocks, say: Callable[[str], None]
    ):
        self.settings, self.method, self.objective = parts.settings, parts.method, parts.objective
        self.task, self.protocol = parts.task, parts.protocol
        self.train_set, self.dev_set = parts.train, parts.dev
        self.rows_hash, self.device = parts.facts["rows_hash"], parts.device
        self.division, self.team, self.shards = parts.division, parts.division.team, parts.division.shards
        self.begun = 0  # the step that this start went on from
        self._tokens = 0  # of this process's share of a batch
        self.record, self.mirror, self.clocks, self.say = record, mirror, clocks, say
        self.report: Callable[[int, str], None] = lambda n, text: None
        self.progress = Progress()
        self.folder = record.directory / "checkpoint"
        self.replays = not self.method.backwards_per_step
        self.base = checkpoint.checksum(self.method.slots)
        self._saved_at = time.monotonic()

    def resume(self, task: Callable[[str, int], Bar]) -> bool:
        """Go on from the newest checkpoint, if there is one: from its snapshot or the base model, along the trajectory.

        Raises:
            UserError: if rows, base model, kind of device or number of shards are not those of the checkpoint.
        """
        found = checkpoint.load(self.folder)
        if found is None:
            self.record.forget_after(-1)
            return False
        self._check(found)
        step, method = found["step"], self.method
        self.record.forget_after(step)
        if snapshot := checkpoint.load_snapshot(self.folder, step):
            checkpoint.restore(method.slots, snapshot.weights)
            method.load_state_dict(snapshot.method)
        with task("replaying", step - method.t) as bar:
            trajectory.replay(method, self.record.directory, step, bar.advance)
        self.begun = step
        self.progress = Progress(**found["progress"])
        self.clocks.load_state_dict(found["clocks"])
        return True

    def _check(self, found: dict[str, Any]) -> None:
        """Raises UserError if this is not the run that a checkpoint was made of."""
        for what, then, now in (
            ("data", found["rows_hash"], self.rows_hash),
            ("base model", found["base_checksum"], self.base),
        ):
            if then != now:
                raise DataError(
                    f"the {what} changed since {self.folder} was written: {then}, now {now}; put the old files back, "
                    "or start again with overwrite=true"
                )
        if found["device"] != self.device.type:
            raise ConfigError(
                f"device={self.device.type}: {self.folder} was written on {found['device']}, which rounds "
                "otherwise; go on there, or start again with overwrite=true"
            )
        parallel.check_shards(found, self.shards, self.folder)

    def run(self, stop: StopRequest) -> None:
        """Train to the end of the budget.

        Raises:
            Interrupted: when asked to stop; a checkpoint was written.
            Diverged: if a loss is not finite.
        """
        total = self.settings.total_steps
        self.method.oracle.team = self.division.oracle
        while True:
            asked = self.team.stop()
            try:
                if not asked:
                    self._evaluate_dev_if_due(stop)
                    with stop.deferred():
                        self._run_lens_if_due()
            except KeyboardInterrupt as error:  # the weights are those after the step; resuming evaluates them again
                asked = str(error)
            with stop.deferred():
                if asked or self._save_is_due():
                    self.save()
                if asked:
                    raise Interrupted(f"{asked} after step {self.method.t} of {total}")
                if self.method.t >= total:
                    return
                self._step()

    def save(self) -> None:
        """Write a checkpoint, with a snapshot where the way from the last one has become long."""
        p, method = self.progress, self.method
        self._saved_at = time.monotonic()
        if not self.team.leads:
            return
        self.record.flush()
        outside, limit = self.clocks.outside, self.settings.snapshot_minutes
        if not self.replays or (limit is not None and outside - p.snapshot_seconds >= 60 * limit):
            checkpoint.save_snapshot(self.folder, method.slots, method.state_dict())
            p.snapshot_seconds = outside
        run: dict[str, Any] = {"progress": asdict(p), "clocks": self.clocks.state_dict(), "device": self.device.type}
        run |= {"rows_hash": self.rows_hash, "base_checksum": self.base, "shards": self.shards.size}
        checkpoint.save(self.folder, method.t, run)
        checkpoint.prune(self.folder, method.t, p.best_step)

    def _save_is_due(self) -> bool:
        if self._due(self.settings.save_every or self.settings.eval_every):
            return True
        return self.settings.save_every is None and self.replays and time.monotonic() - self._saved_at > SAVE_SECONDS

    def _due(self, every: int) -> bool:
        t = self.method.t
        return t > 0 and (t % every == 0 or t == self.settings.total_steps)

    def restore_best(self) -> None:
        """Load the weights of the best dev evaluation."""
        if self.progress.best_step is not None:
            checkpoint.restore(self.method.slots, checkpoint.load_best(self.folder, self.progress.best_step))

    def evaluate(self, examples: Sequence[Encoded], threshold: float | None = None) -> Evaluation:
        with self.clocks("evaluate"):
            size = self.settings.eval_batch_size
            return evaluate(self.objective, self.task, examples, size, threshold=threshold, team=self.team)

    def compare_weights(self) -> None:
        """Raises TeamError if the processes are not at one step, with the same weights to the bit."""
        step, slots = self.method.t, self.method.slots
        self.team.check_same(f"the weights after step {step}", lambda: f"{step} {parallel.fingerprint(slots)}")

    @property
    def bytes_per_step(self) -> float | None:
        """Bytes of scalars that all processes together contribute in a step: losses, and whether a signal asks to stop.
        ``Team.bytes`` says how they are counted."""
        steps = self.method.t - self.begun
        return self.team.bytes / steps if steps else None

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
        p.tokens += int(self.shards.sums(lambda: [self._tokens], 1)[0])
        p.window_loss += loss
        p.window_steps += 1
        if self.replays:
            self.record.log_losses(method.t, method.oracle.seen, method.oracle.missed or ())
        if method.t % s.log_every == 0 or method.t == s.total_steps:
            self._log(lr)
        rate = method.oracle.forwards / self.clocks.wall["train"]
        self.report(1, f"loss {loss:.4f}, {rate:.1f} forwards/s,")

    def _batch(self) -> list[Encoded]:
        """The training examples of the current step."""
        s = self.settings
        order = self.protocol.batch(self.method.t, len(self.train_set), s.batch_size, s.order_seed)
        return [self.train_set[i] for i in order]

    def _mean_loss(self, batch: Sequence[Encoded], mine: Sequence[Encoded]) -> Tensor:
        """The mean loss of a batch, or of the examples ``mine`` their part in it."""
        if not mine:
            return torch.zeros(())
        size = self.settings.micro_batch_size or len(mine)
        first, *others = (self.objective.loss_sum(mine[i : i + size])[0] for i in range(0, len(mine), size))
        return sum(others, first) / self.objective.weight(batch)

    def _closure(self, batch: Sequence[Encoded]) -> Callable[[], Tensor]:
        before, mine = self.objective.tokens, self.shards.share(batch)
        seen = False

        def loss() -> Tensor:
            nonlocal seen
            with self.clocks("forward"):
                value = self._mean_loss(batch, mine)
                if not seen:
                    self._tokens = self.objective.tokens - before
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

    def _run_lens_if_due(self) -> None:
        """Measure the estimates of the step to come, on its batch."""
        s, p, method = self.settings, self.progress, self.method
        if not s.lens_every or method.t % s.lens_every or p.looked_step == method.t:
            return
        batch = self._batch()
        with self.clocks("lens"):
            if s.lens_gradient:
                found = lens.look(method, lambda: self._mean_loss(batch, batch), draws=s.lens_draws)
            else:
                found = lens.precision(method, lambda: self._mean_loss(batch, batch))
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
        self.compare_weights()
        line: dict[str, Any] = {"step": method.t, "forwards": method.oracle.forwards}
        line |= {f"dev/{k}": v for k, v in found.values.items()}
        new = found.selection(self.task.metric)
        mark = ""
        with stop.deferred():  # logged and marked as evaluated together, or the line would be written twice
            self.record.log(line)
            self.mirror.log(line)
            if not math.isfinite(found.values["loss"]):
                raise Diverged(f"the dev loss is {found.values['loss']} after step {method.t}; lower method.lr")
            if p.best is None or self.protocol.better(new, p.best):
                if self.team.leads:
                    checkpoint.save_best(self.folder, method.slots, method.t)
                p.best, p.best_step, p.best_forwards, mark = new, method.t, method.oracle.forwards, " *"
            p.evaluated_step = method.t
        shown = "  ".join(f"{k} {found.values[k]:.3f}" for k in (self.task.metric, "auc", "loss") if k in found.values)
        self.say(f"step {method.t:>6}  dev {shown}{mark}")
