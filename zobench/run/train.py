"""The training loop: steps, evaluations, the best checkpoint, and going on where a run stopped."""

from collections.abc import Callable
from pathlib import Path

import torch

from zobench.errors import DataError, ModelError
from zobench.objective import MeanLoss
from zobench.record.recorder import Recorder
from zobench.run import parallel
from zobench.run.batches import Batches
from zobench.run.evaluate import Evaluation, NotFinite, evaluate
from zobench.run.parts import Parts
from zobench.run.progress import Checkpoints, Progress
from zobench.run.provenance import Provenance
from zobench.run.row import Row, named
from zobench.system.console import Bar
from zobench.system.costs import Clocks
from zobench.system.signals import StopRequest
from zobench.zo import Diverged, lens

Report = Callable[[int, str], None]


class Interrupted(Exception):
    """A signal asked the run to stop; a checkpoint of its last step was written."""


class Trainer:
    """Fine-tunes one model on one task with one method, under one protocol.

    Args:
        parts: what the run is made of.
        directory: the run's.
        recorder: is told every line.
        clocks: measure training, evaluations and the lens apart.
        provenance: settings and code that the run is of.
        say: prints a line.
    """

    def __init__(
        self,
        parts: Parts,
        directory: Path,
        recorder: Recorder,
        clocks: Clocks,
        provenance: Provenance,
        say: Callable[[str], None],
    ):
        self.parts, self.recorder, self.clocks, self.say = parts, recorder, clocks, say
        self.settings, self.method, self.team = parts.settings, parts.method, parts.division.team
        self.batches = Batches(parts, clocks)
        self.method.oracle.further = self.batches.further
        self.checkpoints = Checkpoints(directory / "checkpoint", parts, recorder, clocks, provenance, say)
        self.progress = Progress()
        self.begun = 0  # the step that this start went on from

    def resume(self, task: Callable[[str, int], Bar]) -> bool:
        """Go on from the newest checkpoint, if there is one. Raises as ``Checkpoints.resume``."""
        progress = self.checkpoints.resume(task)
        if progress is None:
            self.progress.remade = self.checkpoints.remade
            return False
        if progress.examples != sum(len(self.batches.of(step)) for step in range(self.method.t)):
            folder = self.checkpoints.folder
            raise DataError(
                f"{folder}: {progress.examples} examples by step {self.method.t}, which is not what these steps take; "
                "it is damaged, start again with overwrite=true"
            )
        self.progress, self.begun = progress, self.method.t
        return True

    def run(self, stop: StopRequest, report: Report) -> None:
        """Train to the end of the budget.

        Args:
            stop: says when a signal asks to stop.
            report: is told of each step: 1, and a line about it.

        Raises:
            Interrupted: when asked to stop; a checkpoint was written.
            Diverged: if a loss is not finite.
        """
        self.method.oracle.team = self.parts.division.oracle
        with stop.deferred():  # whatever stops it, the step and its checkpoint are whole
            while self._goes_on(stop):
                report(1, self.step())

    def _goes_on(self, stop: StopRequest) -> bool:
        """Do what is due after a step: evaluation, lens, checkpoint; say whether another step follows."""
        total = self.settings.total_steps
        asked = self.team.stop()
        if not asked:
            try:
                with stop.at_once():
                    self._evaluate_dev_if_due(stop)
                self.run_lens_if_due()
            except KeyboardInterrupt as error:  # the weights are those after the step; resuming evaluates them again
                asked = str(error)
        if asked or self._save_is_due():
            self.checkpoints.save(self.progress)
        if asked:
            raise Interrupted(f"{asked} after step {self.method.t} of {total}")
        return self.method.t < total

    def evaluate(self, split: str, threshold: float | None = None, *, recorded: bool = False) -> Evaluation:
        """Evaluate a split, ``dev`` or ``test``, at the weights as they are.

        Args:
            threshold, recorded: those of ``evaluate.evaluate``.

        Raises:
            Diverged: if a score is not finite after some step.
            ModelError: if it is not before any.
        """
        parts, size, step = self.parts, self.settings.eval_batch_size, self.method.t
        examples = {"dev": parts.dev, "test": parts.test}[split]
        try:
            with self.clocks("evaluate"):
                return evaluate(
                    parts.objective, parts.task, examples, size, threshold=threshold, team=self.team,
                    criterion=parts.criterion, recorded=recorded,
                )  # fmt: skip
        except NotFinite as error:
            if step:
                raise Diverged(f"{split}: {error}, step {step}; lower method.lr (now {self.method.lr:g})") from None
            dtype = str(next(parts.model.parameters()).dtype).removeprefix("torch.")
            raise ModelError(
                f"{split}: {error} before any step: weights of the model are damaged, or numbers too large for "
                f"dtype={dtype}; look at the model's files, or set dtype=float32"
            ) from None

    def first_loss(self) -> float:
        """The loss of a few examples at the weights as they are; it leaves no trace."""
        with torch.no_grad():
            return float(MeanLoss(self.parts.objective, (self.parts.train or self.parts.dev)[:2], rows=1)())

    def compare_weights(self) -> None:
        """Raises TeamError if the processes are not at one step, with the same weights to the bit."""
        step, slots = self.method.t, self.method.slots
        self.team.check_same(f"the weights after step {step}", lambda: f"{step} {parallel.fingerprint(slots)}")

    @property
    def bytes_per_step(self) -> float | None:
        """Bytes that all processes together contribute in a step, as ``Team.bytes`` counts them; None before any.

        They are scalars: losses, and whether a signal asks to stop.
        """
        steps = self.method.t - self.begun
        return self.team.bytes / steps if steps else None

    def _save_is_due(self) -> bool:
        s = self.settings
        return self._due(s.save_every or s.eval_every) or (s.save_every is None and self.checkpoints.are_due())

    def _due(self, every: int) -> bool:
        t = self.method.t
        return t > 0 and (t % every == 0 or t == self.settings.total_steps)

    def step(self) -> str:
        """Take a step; a few words on it."""
        s, p, method = self.settings, self.progress, self.method
        batch = self.batches.of(method.t)
        lr, known = method.lr, self.checkpoints.known(method.t)
        try:
            with self.clocks("train"):
                if known:
                    self.batches.count(batch)
                    loss = self.checkpoints.take_again()
                else:
                    loss = method.step(self.batches.closure(batch))
        except Diverged as error:
            has_eps = not (method.backwards_per_step or "eps" in method.decides)
            or_eps = " or method.eps" * (not method.t and has_eps)  # nothing has moved before
            raise Diverged(f"{error}, step {method.t + 1}; lower method.lr (now {lr:g}){or_eps}") from None
        p.examples += len(batch)
        p.tokens += self.batches.tokens()
        p.window_loss += loss
        p.window_steps += 1
        if self.checkpoints.replays and not known:
            missed = method.oracle.missed or ()
            run, by = self.checkpoints.run, self.checkpoints.by
            self.recorder.log_losses(method.t, method.oracle.seen, missed, run, by)
        if method.t % s.log_every == 0 or method.t == s.total_steps:
            self._log_step(lr)
        return f"loss {loss:.4f}, {method.oracle.forwards / self.clocks.wall['train']:.1f} forwards/s,"

    def _log_step(self, lr: float) -> None:
        p = self.progress
        loss = p.window_loss / p.window_steps
        p.window_loss, p.window_steps = 0.0, 0
        seconds = self.clocks.wall["train"]
        self.log({"train/loss": loss, **self.method.oracle.notes, "lr": lr, "train_seconds": seconds})

    def log(self, values: Row) -> None:
        """Record values as a line of the step that was taken last."""
        self.recorder.log({"step": self.method.t, "forwards": self.method.oracle.forwards, **values})

    def run_lens_if_due(self) -> None:
        """Measure the estimates of the step to come, on its batch."""
        s, p, method = self.settings, self.progress, self.method
        if not s.lens_every or method.t % s.lens_every or p.looked_step == method.t:
            return
        loss = self.batches.loss(self.batches.of(method.t))
        try:
            with self.clocks("lens"):
                if s.lens_gradient:
                    readings = lens.look(method, loss, draws=s.lens_draws)
                else:
                    readings = lens.precision(method, loss)
        except Diverged as error:
            raise Diverged(f"lens: {error} of its own, step {method.t}; lower method.lr or method.eps") from None
        self.log(named("lens", readings))
        p.looked_step = method.t

    def _evaluate_dev_if_due(self, stop: StopRequest) -> None:
        p, method, metric = self.progress, self.method, self.parts.metric
        if not self._due(self.settings.eval_every) or p.evaluated_step == method.t:
            return
        with self.clocks("dev"):
            dev = self.evaluate("dev")
        self.compare_weights()
        new = dev.selection(metric)
        mark = ""
        with stop.deferred():  # logged and marked as evaluated together, or the line would be written twice
            self.log(named("dev", dev.values))
            if p.best is None or self.parts.protocol.better(new, p.best):
                p.best_checksum = self.checkpoints.save_best()
                p.best, p.best_step, p.best_forwards, mark = new, method.t, method.oracle.forwards, "  best so far"
            p.evaluated_step = method.t
        shown = "  ".join(f"{k} {dev.values[k]:.3f}" for k in (metric, "auc", "loss") if k in dev.values)
        self.say(f"step {method.t:>6}  dev {shown}{mark}")
