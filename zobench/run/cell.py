"""One cell of the comparison table while it runs: the order of its stages, and its row."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config.signature import SCHEMA, signature
from zobench.errors import CannotWrite
from zobench.record import checkpoint
from zobench.record.directory import Record
from zobench.record.summaries import RESULTS
from zobench.record.wandb_mirror import WandbMirror
from zobench.run.build import Parts, build
from zobench.run.evaluate import Evaluation
from zobench.run.train import Trainer
from zobench.system import costs
from zobench.system.console import Console
from zobench.system.signals import StopRequest
from zobench.zo import Team


class Cell:
    """Builds, evaluates zero-shot, trains, evaluates the best checkpoint; ``end`` closes the record in any state."""

    def __init__(self, cfg: DictConfig, record: Record, console: Console, team: Team):
        self.cfg, self.record, self.console, self.team = cfg, record, console, team
        self.clocks = costs.Clocks()
        self.row: dict[str, Any] = {"state": "running", "reason": None, **self._identity()}
        self.parts: Parts | None = None
        self.trainer: Trainer | None = None
        record.summary(self.row)
        settings = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(settings, dict)
        self.mirror = WandbMirror(
            settings["wandb"] | ({} if team.leads else {"mode": "disabled"}),
            directory=record.directory,
            name=f"{cfg.choices.method}-s{cfg.seed}",
            tags=["zo", *([cfg.choices.experiment] if cfg.choices.experiment else []), *cfg.tags],
            config=settings,
            say=console.say,
        )

    def run(self, stop: StopRequest) -> None:
        """All stages. Raises what they raise; the caller ends the row."""
        parts = self.parts = self.team.together(lambda: build(self.cfg, self.console, self.team))
        self.row |= {"device": str(parts.device), **parts.facts}
        environment = costs.environment(parts.device)
        self.record.environment(environment)
        self.row |= {k: environment[k] for k in ("git_commit", "versions")}
        trainer = self.trainer = Trainer(
            parts=parts, record=self.record, mirror=self.mirror, clocks=self.clocks, say=self.console.say
        )
        total = parts.settings.total_steps
        self.row["base_checksum"] = trainer.base
        resumed = self.team.together(lambda: trainer.resume(self.console.task))
        trainer.compare_weights()
        if resumed:
            self.console.say(f"going on after step {parts.method.t} of {total}")
        self._fill_cache(parts)
        if not resumed:
            self._zero_shot(trainer, parts)
        self.row |= trainer.progress.zero_shot
        with self.console.task("training", total, parts.method.t) as bar:
            trainer.report = bar.advance
            trainer.run(stop)
        if asked := self.team.stop():  # during the last checkpoint
            raise KeyboardInterrupt(asked)
        if total:
            self._final(trainer, parts)

    def end(self, state: str, reason: str | None = None) -> dict[str, Any]:
        """Write the final row, print it, and let wandb go. A row that cannot be written is raised if it is a result."""
        self.row |= {"state": state, "reason": reason}
        result = state in RESULTS
        if self.parts is not None and self.trainer is not None:
            self.row |= self._costs(self.parts, self.trainer)
        try:
            self.record.summary(self.row)
        except CannotWrite as error:
            if result:
                raise
            self.console.say(str(error))
        if state == "finished" and self.trainer is not None and self.team.leads:  # nothing needs the checkpoints now
            checkpoint.finish(self.trainer.folder, keep_weights=self.cfg.keep_weights or not self.trainer.replays)
        self.mirror.finish(self.row)
        if result:
            self.console.summary(self.row)
        return self.row

    def _identity(self) -> dict[str, Any]:
        cfg, choices = self.cfg, self.cfg.choices
        seeds = {name: cfg[name] for name in ("seed", "data_seed", "noise_seed", "order_seed", "init_seed")}
        return {
            **{name: choices[name] for name in ("method", "model", "task", "tuning", "protocol", "data", "experiment")},
            **seeds,
            **{name: cfg[name] for name in ("batch_size", "micro_batch_size", "device", "dtype")},
            **_flat("method", OmegaConf.to_container(cfg.method, resolve=True)),
            **_flat("tuning", OmegaConf.to_container(cfg.tuning, resolve=True)),
            "schema": SCHEMA,
            "config_hash": signature(_root_=cfg),
            "data.dir": cfg.data.dir,
            "model.dir": cfg.model.get("dir"),
            "directory": str(self.record.directory),
        }

    def _fill_cache(self, parts: Parts) -> None:
        if parts.objective.prefix is None:
            return
        trained = parts.train if parts.settings.total_steps else []
        examples = [*trained, *parts.dev, *parts.test]
        sequences = len(parts.objective.tails(examples))
        with self.clocks("cache"), self.console.task("caching the frozen layers", sequences) as bar:
            used = parts.objective.prepare(examples, bar.advance)
        self.console.say(f"cached the frozen layers of {sequences} sequences, {used / 2**20:.0f} MiB")

    def _zero_shot(self, trainer: Trainer, parts: Parts) -> None:
        dev = trainer.evaluate(parts.dev)
        test = trainer.evaluate(parts.test, dev.threshold)
        values = {f"zero_shot/dev/{k}": v for k, v in dev.values.items()}
        values |= {f"zero_shot/test/{k}": v for k, v in test.values.items()}
        trainer.progress.zero_shot = values
        self.record.log({"step": 0, "forwards": 0, **values})
        self.mirror.log({"forwards": 0, **values})
        self.console.say(f"zero-shot test {parts.task.metric} {test.values[parts.task.metric]:.3f}")
        if not parts.settings.total_steps:
            self._result(parts, dev, test)

    def _final(self, trainer: Trainer, parts: Parts) -> None:
        self.row["weights_checksum"] = checkpoint.checksum(parts.method.slots)
        if trainer.progress.best_step != parts.method.t:
            last = trainer.evaluate(parts.test)
            self.row |= {f"last/test/{k}": v for k, v in last.values.items()}
        self.team.together(trainer.restore_best)
        dev = trainer.evaluate(parts.dev)
        self._result(parts, dev, trainer.evaluate(parts.test, dev.threshold))
        self.row["best_weights_checksum"] = checkpoint.checksum(parts.method.slots)
        self.row |= {"best_step": trainer.progress.best_step, "best_forwards": trainer.progress.best_forwards}

    def _result(self, parts: Parts, dev: Evaluation, test: Evaluation) -> None:
        values = {f"dev/{k}": v for k, v in dev.values.items()} | {f"test/{k}": v for k, v in test.values.items()}
        metric = parts.task.metric
        self.row |= values | {
            "dev_metric": dev.values[metric],
            "dev_metric_stderr": dev.values[f"{metric}_stderr"],
            "test_metric": test.values[metric],
            "test_metric_stderr": test.values[f"{metric}_stderr"],
        }
        line: dict[str, Any] = {"step": parts.method.t, "forwards": parts.method.oracle.forwards}
        line |= {f"final/{k}": v for k, v in values.items()}
        self.record.log(line)
        self.mirror.log(line)
        self.record.predictions({"dev": dev.predictions, "test": test.predictions})

    def _costs(self, parts: Parts, trainer: Trainer) -> dict[str, Any]:
        method, prefix = parts.method, parts.objective.prefix
        weights = sum(p.numel() * p.element_size() for p in parts.model.parameters())
        state = method.state_bytes()
        if "weights_checksum" not in self.row:  # hashing all weights is not for nothing
            moved = parts.settings.total_steps > 0
            self.row["weights_checksum"] = checkpoint.checksum(method.slots) if moved else trainer.base
        return {
            "steps": method.t,
            "forwards": method.oracle.forwards,
            "backwards": method.oracle.backwards,
            "examples_seen": trainer.progress.examples,
            "tokens_seen": trainer.progress.tokens,
            **self.clocks.row(parts.device, self.team.size),
            **costs.memory(parts.device, weights, state, prefix.bytes if prefix else 0),
            "state_bytes": state,
            "eval_every": parts.settings.eval_every,
            "bytes_per_step": trainer.bytes_per_step,
        }


def _flat(prefix: str, node: Any) -> dict[str, Any]:
    """Nested settings as columns: ``method.rule.beta``; a rule's class as ``method.rule``."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            found |= _flat(f"{prefix}.{key}", value)
        elif key != "_target_":
            found[f"{prefix}.{key}"] = value
        elif "." in prefix:
            found[prefix] = str(value).rpartition(".")[2].lower()
    return found
