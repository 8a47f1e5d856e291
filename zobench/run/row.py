"""The row of a run: what ``summary.json`` says of its settings, its results and its costs.

``zobench.record.columns`` has the meaning of each column.
"""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from zobench.config.signature import SCHEMA
from zobench.record.inputs import digests, score_code
from zobench.record.lookup import origin_of, place, place_of
from zobench.run.evaluate import Evaluation
from zobench.run.parts import Parts
from zobench.run.progress import Progress
from zobench.run.provenance import Provenance
from zobench.system import costs
from zobench.zo import noise

Row = dict[str, Any]
_CHOICES = ("method", "model", "task", "tuning", "protocol", "objective", "experiment")
_SETTINGS = (
    "seed", "data_seed", "noise_seed", "order_seed", "init_seed", "batch_size", "micro_batch_size", "device", "dtype",
)  # fmt: skip

_PARTS = ("method", "tuning", "objective")


def chosen(cfg: DictConfig, directory: Path, provenance: Provenance) -> Row:
    """What is known from the start: choices, seeds and settings of the run, its code, and where its record is."""
    return {
        **of_settings(OmegaConf.to_container(cfg, resolve=True)),
        **({"objective.score_code": score_code(cfg)} if cfg.objective.get("score") else {}),
        "schema": SCHEMA,
        "config_hash": provenance.signature,
        "data": origin_of(cfg),
        "data.dir": place_of(cfg, "data"),
        "model.dir": place(cfg.model.get("dir")),
        "directory": str(directory),
        **digests(cfg),
        "zobench_version": provenance.zobench_version,
        "git_commit": provenance.commit,
        "commits": provenance.commits({}),
    }


def of_settings(settings: Any) -> Row:
    """The columns that are settings of the run: choices, seeds, and what method, tuning and objective are set to.

    Args:
        settings: the run's configuration in plain values; those of earlier versions may lack some.
    """
    return {
        **{name: settings["choices"][name] for name in _CHOICES if name in settings["choices"]},
        **{name: settings[name] for name in _SETTINGS if name in settings},
        **{key: value for part in _PARTS if part in settings for key, value in _flat(part, settings[part]).items()},
    }


def named(prefix: str, values: Row) -> Row:
    """Values under ``prefix/name``.

    >>> named("dev", {"loss": 0.5})
    {'dev/loss': 0.5}
    """
    return {f"{prefix}/{name}": value for name, value in values.items()}


def result(metric: str, dev: Evaluation, test: Evaluation) -> Row:
    """What the run came to: the task's metric on both splits with its standard error."""
    return {
        "dev_metric": dev.values[metric],
        "dev_metric_stderr": dev.values[f"{metric}_stderr"],
        "test_metric": test.values[metric],
        "test_metric_stderr": test.values[f"{metric}_stderr"],
    }


def begin_counting(parts: Parts) -> None:
    """Count the run's memory from now on: its weights, state and cache are there, and so is the code of its noise."""
    for dtype in {slot.param.dtype for slot in parts.method.slots}:
        noise.add_(torch.zeros(1, dtype=dtype, device=parts.device), 0, {0: 1.0})
    parts.peak.begin(sum(_held(parts)))


def _held(parts: Parts) -> tuple[int, int, int]:
    """Bytes of the model's weights, the method's state, and what is cached: activations and draws."""
    weights = sum(p.numel() * p.element_size() for p in parts.model.parameters())
    prefix = parts.objective.prefix
    return weights, parts.method.state_bytes(), (prefix.bytes if prefix else 0) + parts.method.held.bytes


def spent(parts: Parts, progress: Progress, clocks: costs.Clocks) -> Row:
    """What the run cost until now: steps, passes, seconds and memory."""
    method, team = parts.method, parts.division.team
    weights, state, cache = _held(parts)
    return {
        "steps": method.t,
        "forwards": method.oracle.forwards,
        "backwards": method.oracle.backwards,
        "evaluation": method.oracle.evaluation or None,
        "examples_seen": progress.examples,
        "tokens_seen": progress.tokens,
        "remade": progress.remade,
        **clocks.row(parts.device, team.size),
        **parts.peak.row(weights, state, cache),
        "state_bytes": state,
        "eval_every": parts.settings.eval_every,
    }


def _flat(prefix: str, node: Any) -> Row:
    """Nested settings as columns: ``method.rule.beta``; a rule's class as ``method.rule``."""
    columns: Row = {}
    for key, value in node.items():
        if isinstance(value, dict):
            columns |= _flat(f"{prefix}.{key}", value)
        elif key != "_target_":
            columns[f"{prefix}.{key}"] = value
        elif "." in prefix:
            columns[prefix] = str(value).rpartition(".")[2].lower()
    return columns
