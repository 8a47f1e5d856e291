"""A run's scores again: evaluations of the weights as they were made again, on the rows that its record names."""

from typing import Any

from omegaconf import OmegaConf

from zobench.errors import ConfigError, DataError
from zobench.objective import Encoder, check
from zobench.run.build import build_task, load_splits, specs
from zobench.run.criteria import criterion_of
from zobench.run.evaluate import Evaluation, evaluate
from zobench.run.rebuild import Rebuilt


class OtherRows(DataError):
    """The rows at hand, or their prompts, are others than those of the record."""


def rescore(rebuilt: Rebuilt) -> dict[str, Evaluation]:
    """Evaluate a rebuilt model on the dev and test rows of its run, as a run does in the end.

    Returns:
        An evaluation for ``dev`` and for ``test``, with the predictions.

    Raises:
        OtherRows: if the rows at hand are not those of the run.
        NotFinite: if a score is no finite number.
        UserError: if they cannot be had, or the score is a function of the user's own.
    """
    cfg, summary = rebuilt.cfg, rebuilt.summary
    node: Any = OmegaConf.to_container(cfg, resolve=True)
    if (node.get("objective") or {}).get("score"):
        raise ConfigError(
            f"objective.score={node['objective']['score']} is a function of the run's own, not called here"
        )
    protocol, spec, _ = specs(cfg)
    model, tokenizer = rebuilt.loaded.model, rebuilt.loaded.tokenizer
    spec.complete_texts(model.config, tokenizer)
    splits, task = load_splits(cfg, protocol), build_task(node["task"])
    for name in ("rows_hash", "prompt_hash"):
        if summary.get(name) not in (None, found := getattr(splits, name)):
            raise OtherRows(f"rows: {name} is {summary[name]}, of the rows at hand {found}")
    encoder = Encoder(tokenizer, start=spec.start_id(tokenizer, protocol.start_token), max_length=spec.max_length)
    examples = {"dev": encoder.encode(task, splits.dev), "test": encoder.encode(task, splits.test)}
    objective = protocol.objective(model, tokenizer, task, 0.0, cfg.length_buckets)
    check.settle(objective, [*examples["dev"], *examples["test"]])
    found, threshold, size = {}, None, cfg.eval_batch_size or cfg.batch_size
    for split, of in examples.items():
        found[split] = evaluate(
            objective, task, of, size, threshold=threshold, criterion=criterion_of(cfg), recorded=True
        )
        threshold = found[split].threshold
    return found
