"""What a run can go on from: which files of its record are whole, and what is made again where they are not.

All of a run follows from its base model and the losses of its trajectory. So damaged weights are replayed; and where
the checkpoint or the lines of the metrics are damaged, the run is made again from its start: evaluations anew, steps
from the losses that are left, without forward passes. The bits are those of the run that nothing happened to.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zobench.errors import DataError
from zobench.record import checkpoint, lines, metrics, trajectory

_ANEW = "start again with overwrite=true"


@dataclass
class Plan:
    """How a run goes on; JSON-able, as all processes of a team follow the plan of the first.

    Attributes:
        saved: the checkpoint that it goes on from; None to begin at step 0.
        sizes: bytes that stay of the files of lines; the steps in the trajectory need no forward passes.
        snapshot: step of the snapshot that shortens the way; None to go from the base model.
        best: step whose weights are made again on the way, as their file is damaged.
        remade: the damage for which the run begins again from its losses, in words.
        said: lines for the console.
    """

    saved: dict[str, Any] | None = None
    sizes: dict[str, int] = field(default_factory=lambda: {metrics.NAME: 0, trajectory.NAME: 0})
    snapshot: int | None = None
    best: int | None = None
    remade: str | None = None
    said: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The plan as the argument of ``Plan(**...)`` in another process."""
        return asdict(self)


@dataclass(frozen=True)
class Planner:
    """Looks through the record of a stopped run; changes nothing.

    Args:
        folder: the run's ``checkpoint`` folder.
        run: a hash of what makes the run this one; a trajectory without a checkpoint must name it.
        replays: whether losses and keys give the weights again.
        check: raises UserError for a checkpoint of another run.
    """

    folder: Path
    run: str
    replays: bool
    check: Callable[[dict[str, Any]], None]

    def plan(self) -> Plan:
        """Find the shortest way.

        Raises:
            UserError: if the checkpoint is of another run, or something is damaged that nothing makes again.
        """
        try:
            saved = checkpoint.load(self.folder)
        except DataError as error:
            return self._from_start(str(error))
        if saved is None:
            return self._from_start(None)
        self.check(saved)
        if not saved.keys() >= {"progress", "clocks"}:
            return self._from_start(f"{self.folder}: the checkpoint is incomplete")
        marks = saved.get("files")
        if marks is None:
            plan = self._unverified(saved)
        else:
            for name in (metrics.NAME, trajectory.NAME):
                if damage := lines.damage(self.folder.parent / name, marks[name]):
                    return self._from_start(damage, saved)
            plan = Plan(saved, {name: mark["bytes"] for name, mark in marks.items()})
        self._add_weights(plan, saved)
        return plan

    def _add_weights(self, plan: Plan, saved: dict[str, Any]) -> None:
        """Choose between best weights and snapshots that are whole, and the way along the trajectory."""
        progress, step = saved["progress"], saved["step"]
        best = progress.get("best_step")
        if best is not None:
            try:
                checkpoint.load_best(self.folder, best, progress.get("best_checksum"))
            except DataError as error:
                if not self.replays:
                    raise DataError(f"{error}; nothing makes it again, {_ANEW}") from error
                plan.said.append(f"{error}; made again from the trajectory")
                plan.best = best
        damaged: list[str] = []
        snapshot = checkpoint.load_snapshot(
            self.folder, step if plan.best is None else plan.best, saved.get("snapshot"), damaged.append
        )
        found = int(snapshot.method["t"]) if snapshot else None
        if not self.replays and found != step:
            why = damaged[0] if damaged else f"{self.folder}: no snapshot of step {step}"
            raise DataError(f"{why}; nothing makes it again, {_ANEW}")
        start = "the base model" if found is None else f"the snapshot of step {found}"
        plan.said += [f"{each}; going from {start} along the trajectory" for each in damaged]
        plan.snapshot = found

    def _from_start(self, why: str | None, saved: dict[str, Any] | None = None) -> Plan:
        """Begin at step 0, with what losses are left.

        Args:
            why: what is damaged; None where there is no checkpoint yet.
            saved: the checkpoint, where that is whole: it has the seconds so far, and who has worked on the run.
        """
        if not self.replays:
            if why:
                raise DataError(f"{why}; such a run is not made again from losses, {_ANEW}")
            return Plan()
        found = trajectory.read(self.folder.parent / trajectory.NAME)
        if found.run != self.run:
            if why is None:
                return Plan()
            its = found.damage or "it does not say that it is of this run"
            raise DataError(f"{why}; {trajectory.NAME} cannot help ({its}): {_ANEW}")
        steps = len(found.steps)
        if why is None and not (steps and found.by):
            return Plan()
        plan = Plan(sizes={metrics.NAME: 0, trajectory.NAME: found.size})
        if why is None:
            plan.said = [f"no checkpoint yet; the losses of {steps} steps are there and need no forward passes"]
            return plan
        if found.damage and trajectory.NAME in why:
            why = f"{found.path}: {found.damage}"
        plan.remade = why
        plan.saved = saved and {name: value for name, value in saved.items() if name != "step"}
        plan.said = [f"{why}; made again from the base model, with the losses of the first {steps} steps"]
        return plan

    def _unverified(self, saved: dict[str, Any]) -> Plan:
        """Go on from a checkpoint of an earlier version, which has no digests."""
        step = saved["step"]
        found = trajectory.read(self.folder.parent / trajectory.NAME, upto=step)
        if self.replays and len(found.steps) < step:
            damage = found.damage or f"step {len(found.steps) + 1} is missing"
            raise DataError(f"{found.path}: {damage}; {_ANEW}")
        size = lines.size_upto(self.folder.parent / metrics.NAME, step)
        said = f"{self.folder} was written without checksums, by an earlier version: what is read is not verified"
        return Plan(saved, {metrics.NAME: size, trajectory.NAME: found.size}, said=[said])
