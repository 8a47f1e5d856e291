"""One cell of the comparison table while it runs: the order of its stages, and its row."""

from pathlib import Path

import torch
from omegaconf import DictConfig

from zobench.errors import CannotWrite, RunLost, UserError
from zobench.objective import virtual_tokens
from zobench.record import checkpoint, lock
from zobench.record.inputs import remember_model
from zobench.record.recorder import Recorder
from zobench.record.summaries import RESULTS
from zobench.run import provenance
from zobench.run.build import build
from zobench.run.evaluate import Evaluation
from zobench.run.parts import Parts
from zobench.run.row import Row, begin_counting, chosen, named, result, spent
from zobench.run.train import Trainer
from zobench.system import costs
from zobench.system.console import Console
from zobench.system.signals import StopRequest
from zobench.zo import Team


class Cell:
    """Builds, evaluates zero-shot, trains, evaluates the best checkpoint; ``end`` closes the record in any state.

    Args:
        cfg: the run's configuration.
        directory: the run's.
        recorder: is told all that happens.
        console: shows progress.
        team: the processes that share the work.
    """

    def __init__(self, cfg: DictConfig, directory: Path, recorder: Recorder, console: Console, team: Team):
        self.cfg, self.directory, self.recorder = cfg, directory, recorder
        self.console, self.team = console, team
        self.clocks = costs.Clocks()
        self.trainer: Trainer | None = None
        self.provenance = provenance.of(cfg)
        self.row: Row = {"state": "running", "reason": None, **chosen(cfg, directory, self.provenance)}
        #: whether the record is this start's by now
        self.begun = False
        #: whether it has come to what an earlier start had not done
        self.started = False
        #: what is to be known of a run that finished
        self.remark: str | None = None
        if not recorder.replaces:
            self._begin()

    def run(self, stop: StopRequest) -> None:
        """Go through all stages. Raises what they raise; the caller ends the row."""
        self.team.together(lambda: lock.wait_for(self.directory))
        parts = self.team.together(lambda: build(self.cfg, self.console, self.team, self.row.update))
        way = f"{parts.objective.forward_path}, padding: {parts.objective.padding}"
        self.team.check_same("the way in which the model is run", lambda: way)
        environment = costs.environment(parts.device)
        self.row |= {"device": str(parts.device), **parts.facts, "versions": environment["versions"]}
        trainer = self.trainer = Trainer(
            parts, self.directory, self.recorder, self.clocks, self.provenance, self.console.say
        )
        self.row["base_checksum"] = trainer.checkpoints.base
        self.row["model_checksum"] = trainer.checkpoints.model
        remember_model(self.cfg, self.row["inputs.model"], self.row)
        self._compare_team(trainer)
        resumed = not self.recorder.anew and self.team.together(lambda: trainer.resume(self.console.task))
        trainer.compare_weights()
        if self.begun or resumed:
            self._start(trainer, environment)
        if resumed:
            self.console.say(f"going on after step {parts.method.t} of {parts.settings.total_steps}")
        if trainer.checkpoints.since:
            self.console.say(trainer.checkpoints.since)
        self._fill_cache(parts)
        begin_counting(parts)
        if not resumed:
            self._evaluate_zero_shot(trainer, environment)
        self.row |= trainer.progress.zero_shot
        self._train(trainer, stop)
        if parts.settings.total_steps:
            self._evaluate_best(trainer)

    def end(self, state: str, reason: str | None = None) -> Row:
        """Write the final row and let the recorders go; a start that did not begin leaves no trace.

        Raises:
            CannotWrite, RunLost: if a result cannot be written; of another state the console is told.
        """
        self.row |= {"state": state, "reason": reason or self.remark}
        if not self.begun:
            return self.row
        if self.trainer is not None:
            self._count_costs(self.trainer)
        try:
            self.recorder.summary(self.row)
        except (CannotWrite, RunLost) as failed:
            error = self.lost(failed) or failed
            if state in RESULTS:
                raise error from None
            if reason is None or str(error) not in reason:
                self.console.say(str(error))
        if state == "finished" and self.trainer is not None:  # nothing needs the checkpoints now
            self.trainer.checkpoints.finish(keep_weights=self.cfg.keep_weights)
        self.recorder.finish(self.row)
        return self.row

    def lost(self, error: BaseException) -> RunLost | None:
        """What is behind a file's error where the run's directory went away just before the file was used."""
        if isinstance(error, OSError | UserError):
            try:
                self.recorder.check()
            except RunLost as lost:
                return lost
        return None

    def _begin(self) -> None:
        self.begun = True
        self.team.from_first(lambda: self.recorder.begin(self.row))

    def _start(self, trainer: Trainer, environment: Row) -> None:
        """From here on the record is this start's: all that can fail early has not."""
        self.started = True
        self.row["commits"] = trainer.checkpoints.commits
        if not self.begun:
            self._begin()
        self.recorder.environment(environment | {"commits": trainer.checkpoints.commits})
        self.recorder.forget_after(trainer.checkpoints.sizes)

    def _compare_team(self, trainer: Trainer) -> None:
        """Raises TeamError if the processes do not have the same data, model and losses."""
        if self.team.size > 1:
            names = ("rows_hash", "prompt_hash", "tokenizer_hash", "base_checksum", "model_checksum", "eval_every")
            row = self.row | {"eval_every": trainer.settings.eval_every}
            self.team.check_alike(lambda: {name: str(row[name]) for name in names})
            provenance.compare_losses(self.team, self.team.together(trainer.first_loss), getattr(torch, self.cfg.dtype))

    def _fill_cache(self, parts: Parts) -> None:
        """Run the frozen layers once for all examples that will be asked for."""
        if parts.objective.prefix is None:
            return
        sequences = sum(len(parts.objective.tails(examples)) for examples in parts.cached)
        with self.clocks("cache"), self.console.task("caching the frozen layers", sequences) as bar:
            used = [parts.objective.prepare(examples, bar.advance) for examples in parts.cached][-1]
        for complaint in parts.objective.prefix.complaints:
            self.console.say(complaint)
        self.console.say(f"cached the frozen layers of {sequences} sequences, {used / 2**20:.0f} MiB")

    def _evaluate_zero_shot(self, trainer: Trainer, environment: Row) -> None:
        """Evaluate the model as it came; of a run that trains nothing that is the result."""
        metric = trainer.parts.metric
        final = not trainer.settings.total_steps
        with virtual_tokens.left_out():
            dev = trainer.evaluate("dev", recorded=final)
            test = trainer.evaluate("test", dev.threshold, recorded=final)
        if not self.begun:
            self._start(trainer, environment)
        trainer.progress.zero_shot = named("zero_shot/dev", dev.values) | named("zero_shot/test", test.values)
        self.recorder.log({"step": 0, "forwards": 0, **trainer.progress.zero_shot})
        self.console.say(f"zero-shot test {metric} {test.values[metric]:.3f}")
        if final:
            self._conclude(trainer, dev, test)

    def _train(self, trainer: Trainer, stop: StopRequest) -> None:
        with self.console.task("training", trainer.settings.total_steps, trainer.method.t) as bar:
            trainer.run(stop, bar.advance)
        if asked := self.team.stop():  # during the last checkpoint
            raise KeyboardInterrupt(asked)

    def _evaluate_best(self, trainer: Trainer) -> None:
        """Evaluate the weights of the best dev evaluation; those of the last step too, if they are others."""
        progress, slots = trainer.progress, trainer.method.slots
        with trainer.parts.peak.uncounted():
            self.row["weights_checksum"] = checkpoint.checksum(slots)
        if self.row["weights_checksum"] == trainer.checkpoints.base:
            self.remark = f"no weight moved in {trainer.method.t} steps; method.lr and method.eps may be too small"
        if progress.best_step != trainer.method.t:
            self.row |= named("last/test", trainer.evaluate("test").values)
        self.team.together(lambda: trainer.checkpoints.restore_best(progress))
        dev = trainer.evaluate("dev", recorded=True)
        self._conclude(trainer, dev, trainer.evaluate("test", dev.threshold, recorded=True))
        with trainer.parts.peak.uncounted():
            self.row["best_weights_checksum"] = checkpoint.checksum(slots)
        self.row |= {"best_step": progress.best_step, "best_forwards": progress.best_forwards}

    def _conclude(self, trainer: Trainer, dev: Evaluation, test: Evaluation) -> None:
        """Record the final evaluations and predictions."""
        values = named("dev", dev.values) | named("test", test.values)
        self.row |= values | result(trainer.parts.metric, dev, test)
        trainer.log(named("final", values))
        self.recorder.predictions({"dev": dev.predictions, "test": test.predictions})

    def _count_costs(self, trainer: Trainer) -> None:
        self.row |= spent(trainer.parts, trainer.progress, self.clocks)
        self.row["bytes_per_step"] = trainer.bytes_per_step
        if "weights_checksum" not in self.row:  # hashing all weights is not for nothing
            moved = trainer.settings.total_steps > 0
            slots = trainer.method.slots
            self.row["weights_checksum"] = checkpoint.checksum(slots) if moved else trainer.checkpoints.base
