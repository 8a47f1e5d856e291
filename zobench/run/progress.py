"""How far a run is, and its checkpoints: what is saved, when, and how a run goes on from it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zobench.errors import ConfigError, DataError
from zobench.record import checkpoint, trajectory
from zobench.record.recorder import Recorder
from zobench.run import parallel
from zobench.run.build import Parts
from zobench.system.console import Bar
from zobench.system.costs import Clocks

#: seconds between small checkpoints, unless the run sets a number of steps
SAVE_SECONDS = 60.0


@dataclass
class Progress:
    """What the training loop remembers between steps; saved with each checkpoint."""

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


class Checkpoints:
    """The checkpoints of one run: how far it is, and now and then its weights.

    A method that is told losses alone comes back along its trajectory; a first-order one needs a snapshot in each.

    Args:
        folder: where they are.
        parts: of the run; the base model must be as it was loaded, as its weights are hashed here.
    """

    def __init__(self, folder: Path, parts: Parts, recorder: Recorder, clocks: Clocks):
        self.folder, self.parts, self.recorder, self.clocks = folder, parts, recorder, clocks
        #: whether losses and keys give the weights again
        self.replays = not parts.method.backwards_per_step
        #: checksums of the weights before any step: of those that train, and of all
        self.base, self.model = checkpoint.checksums(parts.model, parts.method.slots)
        self._saved_at = time.monotonic()

    def resume(self, task: Callable[[str, int], Bar]) -> Progress | None:
        """Take the method to the step of the newest checkpoint; None if there is none.

        The way is from its snapshot, or the base model, along the trajectory.

        Args:
            task: makes a progress bar of a title and a number of steps.

        Raises:
            UserError: if rows, base model, kind of device or number of shards are not those of the checkpoint.
        """
        saved = checkpoint.load(self.folder)
        if saved is None:
            self.recorder.forget_after(-1)
            return None
        self._check(saved)
        step, method = saved["step"], self.parts.method
        self.recorder.forget_after(step)
        if snapshot := checkpoint.load_snapshot(self.folder, step):
            checkpoint.restore(method.slots, snapshot.weights)
            method.load_state_dict(snapshot.method)
        with task("replaying", step - method.t) as bar:
            trajectory.replay(method, self.folder.parent, step, bar.advance)
        self.clocks.load_state_dict(saved["clocks"])
        self.parts.peak.earlier = saved.get("peak", 0)
        return Progress(**saved["progress"])

    def _check(self, saved: dict[str, Any]) -> None:
        """Raises UserError if this is not the run that a checkpoint was made of."""
        device = self.parts.device.type
        for what, then, now in (
            ("data", saved["rows_hash"], self.parts.facts["rows_hash"]),
            ("base model", saved["base_checksum"], self.base),
            ("base model", saved.get("model_checksum", self.model), self.model),
        ):
            if then != now:
                raise DataError(
                    f"the {what} changed since {self.folder} was written: {then}, now {now}; put the old files back, "
                    "or start again with overwrite=true"
                )
        if saved["device"] != device:
            raise ConfigError(
                f"device={device}: {self.folder} was written on {saved['device']}, which rounds "
                "otherwise; go on there, or start again with overwrite=true"
            )
        parallel.check_shards(saved, self.parts.division.shards, self.folder)

    def are_due(self) -> bool:
        """Whether it is a minute since the last checkpoint, in a run that sets no number of steps between them."""
        return self.replays and time.monotonic() - self._saved_at > SAVE_SECONDS

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, with a snapshot where the way from the last one has become long."""
        self._saved_at = time.monotonic()
        if self.parts.division.team.leads:
            with self.parts.peak.uncounted():
                self._save(progress)

    def _save(self, progress: Progress) -> None:
        parts, method = self.parts, self.parts.method
        self.recorder.flush()
        outside, limit = self.clocks.outside, parts.settings.snapshot_minutes
        if not self.replays or (limit is not None and outside - progress.snapshot_seconds >= 60 * limit):
            checkpoint.save_snapshot(self.folder, method.slots, method.state_dict())
            progress.snapshot_seconds = outside
        run = {
            "progress": asdict(progress),
            "clocks": self.clocks.state_dict(),
            "device": parts.device.type,
            "rows_hash": parts.facts["rows_hash"],
            "base_checksum": self.base,
            "model_checksum": self.model,
            "shards": parts.division.shards.size,
            "peak": parts.peak.bytes,
        }
        checkpoint.save(self.folder, method.t, run)
        checkpoint.prune(self.folder, method.t, progress.best_step)

    def save_best(self) -> None:
        """Keep the weights as they are, those of the best dev evaluation so far."""
        if self.parts.division.team.leads:
            with self.parts.peak.uncounted():
                checkpoint.save_best(self.folder, self.parts.method.slots, self.parts.method.t)

    def restore_best(self, progress: Progress) -> None:
        """Load the weights of the best dev evaluation."""
        if progress.best_step is not None:
            with self.parts.peak.uncounted():
                checkpoint.restore(self.parts.method.slots, checkpoint.load_best(self.folder, progress.best_step))

    def finish(self, *, keep_weights: bool) -> None:
        """Clear what a finished run does not need; what no trajectory gives again stays."""
        if self.parts.division.team.leads:
            checkpoint.finish(self.folder, keep_weights=keep_weights or not self.replays)
