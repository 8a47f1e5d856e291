"""Weights and scores made again: weights from the losses alone, scores by forward passes on the dev and test rows."""

import random
from array import array
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from zobench.errors import DataError, UserError
from zobench.objective.metrics import OF_CLASSES
from zobench.record import checkpoint, environments, metrics, predictions, summaries, trajectory
from zobench.record.reading import Unreadable
from zobench.run.evaluate import Evaluation, NotFinite
from zobench.run.rebuild import NotReplayed, OtherModel, Rebuilt, rebuild, threads_of
from zobench.run.remeasure import OtherRows, Remeasured
from zobench.system import costs
from zobench.system.console import Console
from zobench.verify.files import Record
from zobench.verify.verdict import LOSSES, SCORES, WEIGHTS, Verdict, close

#: what is the same of two environments in which results repeat bit for bit
_SAME = ("processor", "device_name", "cpu_capability", "cuda")
#: nats between two scores of one example at the same weights, by another way through the model
_NATS, _NATS_HALF = 1e-3, 0.1
#: steps of a run whose losses are measured again, and nats between two of them
_STEPS, _OF_LOSS, _OF_LOSS_HALF = 3, 1e-5, 0.02
#: of generated answers, the share that a tie may turn
_TURNED = 0.02
#: between what one answer is worth, twice
_OF_SCORE = 1e-6


def make_again(verdict: Verdict, record: Record, folders: Mapping[str, str], allow: Sequence[str] = ()) -> None:
    """Replay a finished run, and evaluate the weights that it selected.

    Args:
        verdict: of the run; is told what holds and what differs.
        folders: of ``data`` and ``model``, where they are elsewhere than the record says.
        allow: packages beside zobench whose classes the record may name.
    """
    row, place = record.row, record.place
    if row["state"] != "finished":
        verdict.leave(WEIGHTS, f"the run {row['state']}; that it did takes its forward passes again")
        return
    again = partial(rebuild, str(place), console=Console(quiet=True), allow=allow, folders=folders)
    try:
        with threads_of(place):
            try:
                rebuilt = again("0", replay=True)
            except NotReplayed as error:
                verdict.leave(WEIGHTS, str(error).removeprefix(f"{place}: ").partition(";")[0])
                rebuilt = again("best")
                if measured := _measured(verdict, rebuilt):
                    _score(verdict, record, measured)
                return
            measured = _measured(verdict, rebuilt)
            replay = _Replay(verdict, record, rebuilt, measured)
            replay.to(row.get("best_step") or 0, "best_weights_checksum")
            if measured and not verdict.differs:
                _score(verdict, record, measured)
            if not verdict.differs:
                replay.to(row["steps"], "weights_checksum")
                replay.close()
    except (OtherModel, Unreadable) as error:
        verdict.refute(str(error).removeprefix(f"{place} "))
    except UserError as error:
        verdict.leave(WEIGHTS, str(error).removeprefix(f"{place}: "))
    else:
        if not verdict.differs and WEIGHTS not in verdict.unverified:
            verdict.hold(WEIGHTS)


class _Replay:
    """Takes a run's steps again along its losses, and holds what it logged against them."""

    def __init__(self, verdict: Verdict, record: Record, rebuilt: Rebuilt, measured: Remeasured | None):
        self.verdict, self.record, self.rebuilt, self.measured = verdict, record, rebuilt, measured
        steps = range(record.row["steps"]) if measured and (record.row.get("processes") or 1) == 1 else range(0)
        #: steps whose losses are measured again, drawn from the system's entropy: nobody can know which
        self.drawn = set(random.SystemRandom().sample(steps, min(_STEPS, len(steps))))
        self.known = trajectory.read(record.place / trajectory.NAME)
        self.logged = {line["step"]: line for line in record.lines if "train/loss" in line}
        self.means: list[float] = []

    def to(self, step: int, column: str) -> None:
        """Go on to a step, at which the row has a checksum of the weights and a count of forward passes."""
        method, verdict, row = self.rebuilt.method, self.verdict, self.record.row
        try:
            if step > len(self.known.steps):
                raise DataError(f"{trajectory.NAME}: {self.known.damage or f'it ends before step {step}'}")
            while method.t < step:
                lr = method.lr
                if method.t in self.drawn:
                    self._measure()
                self.means.append(self.known.take(method))
                self._compare(lr)
        except DataError as error:
            verdict.refute(str(error).removeprefix(f"{self.record.place}/"))
            return
        forwards = row.get("best_forwards") if column.startswith("best") else row["forwards"]
        if forwards not in (None, method.oracle.forwards):
            verdict.refute(
                f"{summaries.NAME}: {forwards} forward passes to step {step}; they are {method.oracle.forwards}"
            )
        made, said = checkpoint.checksum(method.slots), row.get(column)
        if said is None and row["steps"]:
            verdict.leave(WEIGHTS, f"{summaries.NAME} has no {column} to compare them with")
        elif said not in (None, made) and not self._leave(WEIGHTS):
            verdict.refute(f"{summaries.NAME}: {column}={said}, but the losses make weights {made}")

    def close(self) -> None:
        """Say whether the losses that were measured again are those of the record."""
        if self.drawn and not self.verdict.differs:
            self.verdict.hold(LOSSES)
        elif not self.drawn and self.record.row["steps"]:
            self.verdict.leave(LOSSES, "a run of several processes" if self.measured else "no data at hand")

    def _measure(self) -> None:
        """Hold the losses of the next step against those that its forward passes give."""
        step, nats = self.rebuilt.method.t, _OF_LOSS if self.record.row.get("dtype") == "float32" else _OF_LOSS_HALF
        assert self.measured is not None
        then, now = _flat(self.known.steps[step]), _flat(self.measured.losses(self.known))
        if (far := _distance(then, now)) > nats and not self._leave(LOSSES):
            self.verdict.refute(
                f"{trajectory.NAME}: step {step + 1}: its losses are {far:.3g} nats from those that are measured"
            )

    def _leave(self, what: str) -> bool:
        """Leave it open where the run was made on what may round otherwise; whether it was."""
        elsewhere = _elsewhere(self.record, self.rebuilt)
        if elsewhere:
            self.verdict.leave(what, f"made on {elsewhere}, where last bits differ")
        return bool(elsewhere)

    def _compare(self, lr: float) -> None:
        """The line that was logged after this step."""
        line = self.logged.get(self.rebuilt.method.t)
        if line is None:
            return
        loss, self.means = sum(self.means) / len(self.means), []
        for name, made in (("train/loss", loss), ("lr", lr)):
            if not close(line.get(name), made):
                self.verdict.refute(f"{metrics.NAME}: {name}={line.get(name)} at step {line['step']}; it is {made}")


def _elsewhere(record: Record, rebuilt: Rebuilt) -> str | None:
    """On what the run was made, where that may round otherwise than this machine; None for the same."""
    then, now = environments.read(record.place), costs.environment(rebuilt.method.slots[0].param.device)
    torch = [each.get("versions", {}).get("torch") for each in (then, now)]
    if torch[0] == torch[1] and all(then.get(name) == now.get(name) for name in _SAME):
        return None
    return f"{then.get('device_name')} with torch {torch[0]}"


def _measured(verdict: Verdict, rebuilt: Rebuilt) -> Remeasured | None:
    """The rows of the run beside its model; None where they are others, or cannot be had."""
    try:
        return Remeasured(rebuilt)
    except OtherRows as error:
        verdict.refute(str(error))
    except UserError as error:
        verdict.leave(SCORES, str(error))
    return None


def _score(verdict: Verdict, record: Record, measured: Remeasured) -> None:
    """Evaluate the selected weights, and hold the predictions of the record against what they give."""
    try:
        found, metric = measured.scores(), measured.parts.metric
        verdict.test_metric = found["test"].values[metric]
        differs = [line for split, of in found.items() for line in _differences(record, split, of, metric)]
    except NotFinite as error:
        differs = [f"{predictions.NAME}: {error} at the weights that the losses make"]
    if differs and WEIGHTS in verdict.unverified:
        verdict.leave(SCORES, f"{differs[0]}, at weights that are not those of the run to the bit")
    elif differs:
        for line in differs:
            verdict.refute(line)
    else:
        verdict.hold(SCORES)


def _differences(record: Record, split: str, of: Evaluation, metric: str) -> list[str]:
    """In what the recorded predictions of a split are not those of an evaluation, beyond rounding; a line each.

    Args:
        metric: of the run.
    """
    then, now = predictions.read(record.place, split), of.predictions
    where = f"{predictions.NAME}: {split}"
    if [(row["index"], row["gold"]) for row in then] != [(row["index"], row["gold"]) for row in now]:
        return [f"{where}: other rows or right answers than the data have"]
    nats = _NATS if record.row.get("dtype") == "float32" else _NATS_HALF
    pairs = list(zip(then, now, strict=True))
    far = [_distance(a["scores"], b["scores"]) for a, b in pairs]
    if max(far) > nats:
        worst = far.index(max(far))
        return [f"{where} {then[worst]['index']}: its scores are {max(far):.3g} nats from those of the weights"]
    turned = sum(a["prediction"] != b["prediction"] for a, b in pairs)
    if turned > max(1, _TURNED * len(pairs)):
        return [f"{where}: {turned} of {len(pairs)} answers are not those of the weights"]
    if not turned or metric not in OF_CLASSES:  # whose share of an example hangs on all answers
        for a, b in pairs:
            worth = {name: b[name] for name in ("score", "exact_match") if name in b}
            for name, value in worth.items() if a["prediction"] == b["prediction"] else ():
                if not close(a.get(name), value, _OF_SCORE):
                    return [f"{where} {a['index']}: {name}={a.get(name)}, but its answer has {value}"]
    made = [(f"{split}/loss", of.values["loss"], nats)]
    made += [] if turned else [(f"{split}_metric", of.values[metric], _OF_SCORE)]
    row = record.row
    far_off = [(name, value) for name, value, tolerance in made if not close(row.get(name), value, tolerance)]
    return [f"{summaries.NAME}: {name}={row.get(name)}, but the weights give {value}" for name, value in far_off]


def _flat(losses: Sequence[Any]) -> list[float]:
    """Losses of a step in a row, with those of single examples."""
    return [float(x) for each in losses for x in (each if isinstance(each, Sequence | array) else [each])]


def _distance(a: Sequence[float], b: Sequence[float]) -> Any:
    return max((abs(x - y) for x, y in zip(a, b, strict=True)), default=0.0) if len(a) == len(b) else float("inf")
