"""How far a run is, and its checkpoints: what is saved, when, and how a run goes on from it."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from zobench.errors import ConfigError, DataError
from zobench.models.adapters import named_parameters
from zobench.objective.virtual_tokens import prefixed
from zobench.record import checkpoint, tensors, trajectory
from zobench.record.recorder import Recorder
from zobench.run import parallel, recovery
from zobench.run.parts import Parts
from zobench.run.provenance import Provenance, identity, of_environment
from zobench.system.console import Bar
from zobench.system.costs import Clocks
from zobench.zo import Team

#: seconds between small checkpoints, unless the run sets a number of steps
SAVE_SECONDS = 60.0


@dataclass
class Progress:
    """What the training loop remembers between steps; saved with each checkpoint."""

    evaluated_step: int = 0
    looked_step: int = -1
    best_step: int | None = None
    best_forwards: int = 0
    best_checksum: str | None = None
    best: dict[str, float] | None = None
    examples: int = 0
    tokens: int = 0
    window_loss: float = 0.0
    window_steps: int = 0
    snapshot_seconds: float = 0.0  # outside forwards, at the last snapshot
    zero_shot: dict[str, float] = field(default_factory=dict)
    remade: str | None = None  # the damage for which the run began again, in words


class Checkpoints:
    """The checkpoints of one run: how far it is, and now and then its weights.

    A method that is told losses alone comes back along its trajectory; a first-order one needs a snapshot in each.

    Args:
        folder: where they are.
        parts: of the run; the base model must be as it was loaded, as its weights are hashed here.
        recorder: keeps the lines and losses that a checkpoint speaks of.
        clocks: of the run.
        provenance: settings and code that the run is of.
        say: prints a line.
    """

    def __init__(
        self,
        folder: Path,
        parts: Parts,
        recorder: Recorder,
        clocks: Clocks,
        provenance: Provenance,
        say: Callable[[str], None],
    ):
        self.folder, self.parts, self.recorder, self.clocks, self.say = folder, parts, recorder, clocks, say
        #: whether losses and keys give the weights again
        self.replays = parts.method.replays
        #: checksums of the weights before any step: of those that train, and of all
        self.base, self.model = checkpoint.checksums(parts.as_loaded, parts.method.slots)
        #: the damage for which the run begins again from its losses, in words
        self.remade: str | None = None
        self.provenance = provenance
        #: every commit that has worked on the run, oldest first; and what its losses say of their code
        self.commits = provenance.commits({})
        self.by = provenance.saved(self.commits)
        #: what has changed since the checkpoint that the run goes on from; None for nothing
        self.since: str | None = None
        #: bytes of the files of lines that the run goes on from
        self.sizes = recovery.Plan().sizes
        self.run = self._identity(provenance.signature)
        self._known = trajectory.Trajectory(folder.parent / trajectory.NAME)
        self._snapshot: dict[str, Any] | None = None
        self._saved_at = time.monotonic()

    def _identity(self, signature: str) -> str:
        rows, device = self.parts.facts["rows_hash"], self.parts.device.type
        return identity(signature, rows, self.base, self.model, device, self.parts.division.shards.size)

    def resume(self, task: Callable[[str, int], Bar]) -> Progress | None:
        """Take the method to the step of the newest checkpoint; None if the run begins at step 0.

        The way is from its snapshot, or the base model, along the trajectory. What is damaged is made again
        (``zobench.run.recovery``).

        Args:
            task: makes a progress bar of a title and a number of steps.

        Raises:
            UserError: if rows, base model, kind of device or number of shards are not those of the checkpoint; if
                something is damaged that nothing makes again.
        """
        planner = recovery.Planner(self.folder, self.run, self.replays, self._check)
        plan = recovery.Plan(**self.parts.division.team.from_first(lambda: planner.plan().as_json()))
        for line in plan.said:
            self.say(line)
        self._known = trajectory.read(self._known.path, size=plan.sizes[trajectory.NAME])
        before = {**self._known.by, **(plan.saved or {})}
        if before and "commits" not in before:
            before |= of_environment(self.folder.parent)
        self.commits, self.since = self.provenance.commits(before), self.provenance.since(before)
        self.by = self.provenance.saved(self.commits)
        progress = self._go(plan, task) if plan.saved and "step" in plan.saved else None
        if plan.saved:
            self.clocks.load_state_dict(plan.saved["clocks"])
            self.parts.peak.earlier = plan.saved.get("peak", 0)
        self.sizes = plan.sizes
        self.remade = progress.remade if progress else plan.remade
        return progress

    def _go(self, plan: recovery.Plan, task: Callable[[str, int], Bar]) -> Progress:
        """Make the weights of a checkpoint."""
        saved, method = plan.saved or {}, self.parts.method
        progress = _progress(saved["progress"], self.folder)
        self._snapshot = saved.get("snapshot")
        if plan.snapshot is not None:
            snapshot = checkpoint.load_snapshot(self.folder, plan.snapshot, self._snapshot)
            if snapshot is None or snapshot.method["t"] != plan.snapshot:
                raise DataError(f"{self.folder}: the snapshot of step {plan.snapshot} is not the same in all processes")
            checkpoint.restore(method.slots, snapshot.weights)
            method.load_state_dict(snapshot.method)
            if self._known.steps:
                method.oracle.recall(self._known.moved(method))
        with task("replaying", saved["step"] - method.t) as bar:
            compares = self.since is not None and self.replays and (progress.best_step or 0) > method.t
            if plan.best is not None or compares:
                assert progress.best_step is not None
                self._known.follow(method, progress.best_step, bar.advance)
                made = checkpoint.checksum(method.slots)
                if progress.best_checksum not in (None, made):
                    raise DataError(
                        f"{self.folder}: the best weights hash to {progress.best_checksum}, made again to {made}: "
                        "code, libraries or processor changed since; put them back, or start again with overwrite=true"
                    )
            if plan.best is not None:
                self.save_best()
            self._known.follow(method, saved["step"], bar.advance)
        return progress

    def known(self, step: int) -> bool:
        """Whether the losses of a step, counted from 0, are there from an earlier start."""
        return step < len(self._known.steps)

    def take_again(self) -> float:
        """Take the method's next step with the losses that it saw before; their mean."""
        oracle = self.parts.method.oracle
        team, oracle.team = oracle.team, Team()  # the losses are those of all processes already
        try:
            return self._known.take(self.parts.method)
        finally:
            oracle.team = team

    def _check(self, saved: dict[str, Any]) -> None:
        """Raises UserError if this is not the run that a checkpoint was made of."""
        device = self.parts.device.type
        model = self.model
        if "signature" not in saved and saved.get("model_checksum") not in (None, model):
            # Versions that wrote no signature hashed adapters with the model.
            model = tensors.checksum(dict(named_parameters(self.parts.model)))
        if saved["device"] != device:
            raise ConfigError(
                f"device={device}: {self.folder} was written on {saved['device']}, which rounds "
                "otherwise; go on there, or start again with overwrite=true"
            )
        for what, then, now in (
            ("data", saved["rows_hash"], self.parts.facts["rows_hash"]),
            ("base model", saved.get("model_checksum", model), model),
            ("first prefix" if prefixed(self.parts.model) else "base model", saved["base_checksum"], self.base),
        ):
            if then != now:
                todo = "go on on such a processor as wrote it" if what == "first prefix" else "put the old files back"
                raise DataError(
                    f"the {what} changed since {self.folder} was written: {then}, now {now}; {todo}, "
                    "or start again with overwrite=true"
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
        files = self.recorder.flush()
        outside, limit = self.clocks.outside, parts.settings.snapshot_minutes
        if not self.replays or (limit is not None and outside - progress.snapshot_seconds >= 60 * limit):
            self._snapshot = checkpoint.save_snapshot(self.folder, method.slots, method.state_dict())
            progress.snapshot_seconds = outside
        run = {
            "progress": asdict(progress),
            "files": files,
            "snapshot": self._snapshot,
            "clocks": self.clocks.state_dict(),
            "device": parts.device.type,
            "rows_hash": parts.facts["rows_hash"],
            "base_checksum": self.base,
            "model_checksum": self.model,
            "shards": parts.division.shards.size,
            "peak": parts.peak.bytes,
            **self.by,
        }
        self.recorder.check()
        checkpoint.save(self.folder, method.t, run)
        checkpoint.prune(self.folder, method.t, progress.best_step)

    def save_best(self) -> str | None:
        """Keep the weights as they are, those of the best dev evaluation so far; their checksum, where this leads."""
        if not self.parts.division.team.leads:
            return None
        self.recorder.check()
        with self.parts.peak.uncounted():
            return checkpoint.save_best(self.folder, self.parts.method.slots, self.parts.method.t)

    def restore_best(self, progress: Progress) -> None:
        """Load the weights of the best dev evaluation. Raises DataError if their file was damaged meanwhile."""
        if progress.best_step is None:
            return
        with self.parts.peak.uncounted():
            try:
                weights = checkpoint.load_best(self.folder, progress.best_step, progress.best_checksum)
            except DataError as error:
                todo = "the same command makes it again" if self.replays else "start again with overwrite=true"
                raise DataError(f"{error}; {todo}") from error
            checkpoint.restore(self.parts.method.slots, weights)

    def finish(self, *, keep_weights: bool) -> None:
        """Clear what a finished run does not need; what no trajectory gives again stays."""
        if self.parts.division.team.leads:
            self.recorder.check()
            checkpoint.finish(self.folder, keep_weights=keep_weights or not self.replays)


def _progress(saved: dict[str, Any], folder: Path) -> Progress:
    """What a checkpoint remembers. Raises DataError where that is not what ``save`` writes."""
    progress = Progress()
    known = {each.name: getattr(progress, each.name) for each in fields(Progress)}
    kinds: dict[type, tuple[type, ...]] = {int: (int,), float: (int, float), dict: (dict,)}
    for name, value in saved.items():
        right = kinds.get(type(known.get(name)), (int, str, dict, type(None)))
        if name not in known or not isinstance(value, right):
            raise DataError(f"{folder}: progress.{name} is {str(value)[:40]}; start again with overwrite=true")
        setattr(progress, name, value)
    best, step = progress.best, progress.best_step
    if best is not None and (best.keys() != {"metric", "loss"} or not all(map(math.isfinite, best.values()))):
        raise DataError(f"{folder}: progress.best is {str(best)[:40]}; start again with overwrite=true")
    if (best is None) != (step is None):
        raise DataError(f"{folder}: progress.best_step is {step}; start again with overwrite=true")
    return progress
