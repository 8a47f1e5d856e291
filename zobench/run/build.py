"""From a configuration to the parts of a run; what is cheap and can fail comes first."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from zobench.config import instantiate
from zobench.data import rows
from zobench.data.rows import Splits
from zobench.errors import ConfigError, shown
from zobench.models.adapters import adapted, named_parameters
from zobench.models.base import ModelSpec
from zobench.models.facts import layers_of
from zobench.models.identity import model_family, model_parameters
from zobench.models.tokenizer import check_ids, tokenizer_hash
from zobench.models.tuning import Tuning
from zobench.objective import Encoded, Encoder, Objective, check
from zobench.protocols import Protocol
from zobench.run import criteria, parallel
from zobench.run.budget import total_steps
from zobench.run.parts import LoopSettings, Parts, TrainedModel
from zobench.system.console import Console
from zobench.system.devices import pick_device
from zobench.system.memory import PeakMemory
from zobench.tasks.base import Task, incomplete
from zobench.zo import Method, Team


def check_parts(cfg: DictConfig, processes: int = 1) -> None:
    """Make all that needs neither data nor model, on a stand-in parameter, and throw it away.

    A setting that a class refuses is answered before there is a record.

    Args:
        cfg: a configuration that was checked.
        processes: how many share the work.

    Raises:
        ConfigError: with what the class says.
    """
    node = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(node, dict)
    pick_device(str(cfg.device))
    protocol, spec, _ = specs(cfg)
    spec.check()
    task = build_task(node["task"])
    sizes = rows.sizes_of(task, cfg.data.splits or protocol.splits)
    train = sizes["train"] if sizes and isinstance(sizes["train"], int) else cfg.batch_size  # a share is of a file
    if (cfg.micro_batch_size or cfg.length_buckets not in ("auto", 1)) and not protocol.micro_batches:
        raise ConfigError(
            f"micro_batch_size={cfg.micro_batch_size}, length_buckets={cfg.length_buckets}: "
            f"protocol={cfg.choices.protocol} runs a batch in one piece; leave them at null and auto"
        )
    stand_in = instantiate.build(node["method"], "method", [("-", torch.zeros(8, 8))], kind=Method)
    if processes > 1:
        parallel.check(stand_in, cfg.parallel, cfg.choices.protocol, protocol.micro_batches)
    protocol.attach(stand_in, cfg.noise_seed)
    criterion = criteria.criterion_of(cfg)
    criteria.check(criterion, cfg, stand_in, task, protocol, processes)
    stand_in.oracle.forwards_each = criterion.forwards(task)
    if min(cfg.batch_size, train) < (least := stand_in.fewest_examples):
        raise ConfigError(
            f"batch_size={cfg.batch_size}, {train} training examples: method={cfg.choices.method} weighs the examples "
            f"of a batch against one another; it needs {least} or more of both"
        )
    _settings(cfg, stand_in)


def build(
    cfg: DictConfig, console: Console, team: Team, tell: Callable[[Mapping[str, Any]], None] = lambda facts: None
) -> Parts:
    """Make the parts of a run; what is cheap and can fail comes first.

    Args:
        cfg: a configuration that was checked.
        console: is told of the data, and of what was cut.
        team: the processes that share the work.
        tell: is told columns of the row as soon as they are known, whatever fails after.

    Raises:
        UserError: for what the user can mend.
    """
    node = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(node, dict)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    device = pick_device(str(cfg.device))
    peak = PeakMemory(device)
    protocol, spec, tuning = specs(cfg)
    task = build_task(node["task"])
    splits = load_splits(cfg, protocol)
    tell({"rows_hash": splits.rows_hash, "prompt_hash": splits.prompt_hash})
    console.say(
        f"{cfg.choices.task}: {len(splits.train)} train, {len(splits.dev)} dev, {len(splits.test)} test; "
        f"{cfg.choices.model} on {device}"
    )
    trained = build_trained(cfg, device, protocol, spec, tuning, tell)
    loaded, method, settings = trained.loaded, trained.method, trained.settings
    if spec.any_folder:
        console.say(_described(spec, trained, protocol))
    attention, wanted = loaded.model.config._attn_implementation, spec.attention or protocol.attention
    if attention != wanted:
        console.say(f"attention={attention}: transformers has no {wanted} for {type(loaded.model).__name__}")
    if doubt := spec.start_doubt(loaded.tokenizer, protocol.start_token):
        console.say(doubt)
    train, dev, test = encode(task, splits, loaded.tokenizer, spec, protocol)
    check_ids(loaded.model, loaded.tokenizer, (*train, *dev, *test))
    truncated = sum(e.truncated for e in (*train, *dev, *test))
    if truncated:
        console.say(f"{truncated} examples are longer than {spec.max_length} tokens and were cut on the left")
    objective = protocol.objective(loaded.model, loaded.tokenizer, task, tuning.cache_gib, cfg.length_buckets)
    _settle(objective, protocol, [*train, *dev, *test], console)
    criterion = criteria.with_own_score(cfg)
    criterion.prepare(objective, train, pads=not method.taps)
    return Parts(
        device=device,
        peak=peak,
        division=parallel.divide(team, cfg.parallel),
        protocol=protocol,
        task=task,
        model=loaded.model,
        as_loaded=trained.as_loaded,
        method=method,
        objective=objective,
        criterion=criterion,
        settings=settings,
        train=train,
        dev=dev,
        test=test,
        facts={
            "variant": node["method"].get("variant", protocol.variant),
            "rows_hash": splits.rows_hash,
            "prompt_hash": splits.prompt_hash,
            "truncated_examples": truncated,
            "train_examples": len(train),
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "trainable_parameters": sum(slot.param.numel() for slot in method.slots),
            "forward_path": objective.forward_path,
            "padding": objective.padding,
            "attention": attention,
            "selection": protocol.selection,
            "metric": criterion.metric(task),
            "trains": settings.total_steps > 0,
            "processes": team.size,
            "parallel": cfg.parallel if team.size > 1 else None,
        },
    )


def _described(spec: ModelSpec, trained: TrainedModel, protocol: Protocol) -> str:
    """The facts by which a model is used, in one line: its option's, or its folder's where they are left open."""
    model, token = trained.loaded.model, spec.start_token.get(protocol.start_token)
    size = sum(param.numel() for param in trained.as_loaded.values())
    targets = dict.fromkeys(name.rpartition(".")[2] for name in adapted(model))
    depth = f" in {len(layers_of(model))} layers" if layers_of(model) else ""
    return (
        f"{model_family(model)}, {size:,} parameters{depth}; {f'start token {token}' if token else 'no start token'}, "
        f"sequences of up to {spec.max_length} tokens"
        + (f"; LoRA adapts {', '.join(targets)}" if targets else "")
        + (f"; commit {spec.commit}" if spec.commit else "")
    )


def encode(
    task: Task, splits: Splits, tokenizer: Any, spec: ModelSpec, protocol: Protocol
) -> tuple[list[Encoded], list[Encoded], list[Encoded]]:
    """The rows of train, dev and test as the model reads them."""
    start = spec.start_id(tokenizer, protocol.start_token)
    encoder = Encoder(tokenizer, start=start, max_length=spec.max_length)
    return encoder.encode(task, splits.train), encoder.encode(task, splits.dev), encoder.encode(task, splits.test)


def build_task(node: Mapping[str, Any]) -> Task:
    """Make the task that a node describes.

    Raises:
        ConfigError: if its class is no task, or one that lacks its columns or its prompt.
    """
    target = node.get("_target_")
    task: Task = instantiate.build(node, "task", kind=Task)
    problem = incomplete(task)
    if problem:
        raise ConfigError(f"task._target_={shown(target)}: {problem}")
    return task


def _settle(objective: Objective, protocol: Protocol, examples: list[Encoded], console: Console) -> None:
    """Check that the model is computed as it would itself, and say where that takes longer than usual."""
    agreement = check.settle(objective, examples)
    if agreement.refused:
        worst = max(agreement.refused.values())
        by = (
            f"give other log-probabilities than the model's own, by {worst:.2g} nats"
            if worst < math.inf
            else "do not fit"
        )
        console.say(f"forward passes run: {objective.forward_path}; faster ways {by} ({', '.join(agreement.refused)})")
    elif protocol.shortens_forwards and objective.forward_path == "whole":
        console.say("every forward pass runs the whole model at all positions: its layers cannot be run in parts")


def load_splits(cfg: DictConfig, protocol: Protocol) -> Splits:
    """Read and draw the examples of a run.

    Raises:
        UserError: for what the user can mend.
    """
    node: Any = OmegaConf.to_container(cfg.task, resolve=True)
    return rows.load(
        build_task(node),
        cfg.choices.task,
        directory=cfg.data.dir,
        splits=cfg.data.splits or protocol.splits,
        data_seed=cfg.data_seed,
        test_seed=protocol.test_seed(cfg.data_seed),
        strict=protocol.strict_splits,
    )


def specs(cfg: DictConfig) -> tuple[Protocol, ModelSpec, Tuning]:
    """Make protocol, model and tuning as a configuration describes them; nothing is loaded."""
    node = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(node, dict)
    kinds = {"protocol": Protocol, "model": ModelSpec, "tuning": Tuning}
    protocol, spec, tuning = (instantiate.build(node[group], group, kind=kind) for group, kind in kinds.items())
    return protocol, spec, tuning


def build_trained(
    cfg: DictConfig,
    device: torch.device,
    protocol: Protocol,
    spec: ModelSpec,
    tuning: Tuning,
    tell: Callable[[Mapping[str, Any]], None] = lambda facts: None,
) -> TrainedModel:
    """Load the model, mark what trains, and make the method; no data is needed.

    Args:
        tell: is told columns of the row as soon as they are known.

    Raises:
        UserError: for what the user can mend.
    """
    loaded = spec.load(dtype=getattr(torch, cfg.dtype), device=device, attention=spec.attention or protocol.attention)
    spec.check_length(loaded.model.config)
    as_loaded = dict(loaded.model.named_parameters())
    tell(
        {
            "model_family": model_family(loaded.model),
            "model_parameters": model_parameters(loaded.model),
            "model_layers": len(layers_of(loaded.model)) or None,
            "model_commit": spec.commit,
            "max_length": spec.max_length,
            "start_token": spec.start_token.get(protocol.start_token),
            "lora_targets": ", ".join(spec.targets or ()) or None,
            "tokenizer_hash": tokenizer_hash(loaded.tokenizer),
        }
    )
    tuning.apply(loaded.model, spec, cfg.init_seed)
    named = named_parameters(loaded.model)  # frozen ones too: a share of the whole model's memory may hold draws
    node = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(node, dict)
    method = instantiate.build(node["method"], "method", named, kind=Method, seed=cfg.noise_seed)
    protocol.attach(method, cfg.noise_seed)
    method.oracle.forwards_each = criteria.criterion_of(cfg).forwards(build_task(node["task"]))
    settings = _settings(cfg, method)
    method.total_steps = settings.total_steps
    return TrainedModel(loaded, method, settings, as_loaded)


def _settings(cfg: DictConfig, method: Method) -> LoopSettings:
    total = total_steps(cfg.steps, cfg.forwards, method)
    fifth = max(1, -(-total // 5))
    return LoopSettings(
        total_steps=total,
        batch_size=cfg.batch_size,
        micro_batch_size=cfg.micro_batch_size,
        eval_batch_size=cfg.eval_batch_size,
        eval_every=cfg.eval_every or fifth,
        save_every=cfg.save_every,
        snapshot_minutes=cfg.snapshot_minutes,
        log_every=cfg.log_every,
        order_seed=cfg.order_seed,
        lens_every=cfg.lens.every,
        lens_draws=cfg.lens.draws,
        lens_gradient=cfg.lens.gradient,
    )
