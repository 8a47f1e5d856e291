"""What a run measured, measured again at weights that were made again: scores of rows, and losses of a step."""

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from zobench.errors import ConfigError, DataError
from zobench.objective import check
from zobench.record import checkpoint
from zobench.record.trajectory import Trajectory
from zobench.run import parallel
from zobench.run.batches import Batches
from zobench.run.build import build_task, encode, load_splits, specs
from zobench.run.criteria import criterion_of
from zobench.run.evaluate import Evaluation, evaluate
from zobench.run.parts import Parts
from zobench.run.rebuild import Rebuilt
from zobench.system.costs import Clocks
from zobench.system.memory import PeakMemory
from zobench.zo import Team
from zobench.zo.closure import Entry


class OtherRows(DataError):
    """The rows at hand, or their prompts, are others than those of the record."""


class Remeasured:
    """A rebuilt model beside the rows of its run.

    Raises:
        OtherRows: if the rows at hand are not those of the run.
        UserError: if they cannot be had, or the score is a function of the user's own.
    """

    def __init__(self, rebuilt: Rebuilt):
        cfg, summary, trained = rebuilt.cfg, rebuilt.summary, rebuilt.trained
        node: Any = OmegaConf.to_container(cfg, resolve=True)
        if (path := (node.get("objective") or {}).get("score")) is not None:
            raise ConfigError(f"objective.score={path} is a function of the run's own, not called here")
        protocol, spec, _ = specs(cfg)
        model, tokenizer = rebuilt.loaded.model, rebuilt.loaded.tokenizer
        spec.complete_texts(model.config, tokenizer)
        splits, task = load_splits(cfg, protocol), build_task(node["task"])
        for name in ("rows_hash", "prompt_hash"):
            if summary.get(name) not in (None, found := getattr(splits, name)):
                raise OtherRows(f"rows: {name} is {summary[name]}, of the rows at hand {found}")
        train, dev, test = encode(task, splits, tokenizer, spec, protocol)
        objective = protocol.objective(model, tokenizer, task, 0.0, cfg.length_buckets)
        check.settle(objective, [*train, *dev, *test])
        criterion, device = criterion_of(cfg), rebuilt.method.slots[0].param.device
        criterion.prepare(objective, train, pads=not rebuilt.method.taps)
        self.parts = Parts(
            device=device,
            peak=PeakMemory(device),
            division=parallel.divide(Team(), None),
            protocol=protocol,
            task=task,
            model=model,
            as_loaded=trained.as_loaded,
            method=rebuilt.method,
            objective=objective,
            criterion=criterion,
            settings=trained.settings,
            train=train,
            dev=dev,
            test=test,
            facts={},
        )
        self._batches = Batches(self.parts, Clocks())
        rebuilt.method.oracle.further = self._batches.further

    def scores(self) -> dict[str, Evaluation]:
        """Evaluations of the dev and test rows, as a run makes them in the end. Raises NotFinite as ``evaluate``."""
        parts, found, threshold = self.parts, {}, None
        for split, examples in (("dev", parts.dev), ("test", parts.test)):
            size = parts.settings.eval_batch_size
            found[split] = evaluate(
                parts.objective, parts.task, examples, size, threshold=threshold, criterion=parts.criterion
            )
            threshold = found[split].threshold
        return found

    def losses(self, known: Trajectory) -> Sequence[Entry]:
        """What the method's next step sees, by forward passes; weights and state are as before.

        Args:
            known: the trajectory that was followed up to here.
        """
        method = self.parts.method
        weights = {name: held.clone() for name, held in checkpoint.weights_of(method.slots).items()}
        state = {name: v.clone() if hasattr(v, "clone") else v for name, v in method.state_dict().items()}
        method.oracle.recall(known.moved(method))
        try:
            method.step(self._batches.closure(self._batches.of(method.t)))
            return list(method.oracle.seen)
        finally:
            checkpoint.restore(method.slots, weights)
            method.load_state_dict(state)
