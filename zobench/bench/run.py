"""One benchmark, from what is asked to its tables and its JSON file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from zobench.atomic import clean, write_atomically
from zobench.bench import checkout, models, subjects, table, timing
from zobench.bench import memory as peaks
from zobench.bench.models import Tuned
from zobench.bench.spec import Shape, Spec
from zobench.errors import ConfigError
from zobench.system import costs
from zobench.system.console import Console
from zobench.system.devices import pick_device

Rows = list[dict[str, Any]]


def run(spec: Spec, *, repeats: int, memory: bool, json_file: Path | None) -> dict[str, Any]:
    """Measure what is asked for, print the tables and write the file.

    Args:
        spec: what is asked for.
        repeats: of each measurement of time, after one that is not counted.
        memory: measure peak memory instead of time.
        json_file: where the numbers are written; None for nowhere.

    Returns:
        What the file holds.

    Raises:
        UserError: for what cannot be built or measured.
    """
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        if json_file.is_dir():
            raise ConfigError(f"--json {json_file}: it is a folder; expected the name of a file")
    if spec.threads:
        torch.set_num_threads(spec.threads)
    device = pick_device(spec.device)
    for method in spec.methods:  # on a stand-in: a bad setting must not wait for the model
        subjects.build_method(method, [("-", torch.zeros(8, 8))], spec.tuning)
    console = Console()
    asked = asdict(spec) | {"shapes": [str(shape) for shape in spec.shapes], "repeats": None if memory else repeats}
    found: dict[str, Any] = {"asked": asked, "environment": costs.environment(device), "results": []}
    if spec.official:
        found["official"] = {"repository": checkout.REPOSITORY, "commit": checkout.COMMIT}
    tuned = None if memory else models.load(spec.model, spec.dtype, device, spec.tuning)
    for shape in spec.shapes:
        result: dict[str, Any] = {"shape": str(shape), "batch": shape.batch, "tokens": shape.tokens}
        tuning = "" if spec.tuning == "full" else f", {spec.tuning}"
        where = f"{spec.model}{tuning}, {spec.dtype}, {shape} (batch x tokens), {found['environment']['device_name']}"
        where += f", {torch.get_num_threads()} threads"
        if tuned is None:
            result["memory"] = peaks.rows(spec, shape)
            text = f"{where}; peak memory\n\n{table.memory(result['memory'])}"
        else:
            result["parameters"] = sum(p.numel() for p in tuned.model.parameters())
            result["trainable_parameters"] = sum(p.numel() for _, p in subjects.trained(tuned.model))
            result["time"] = _time(spec, shape, tuned, repeats, console)
            text = f"{where}, {repeats} repeats\n\n{table.timing(result['time'])}\n\n{table.LEGEND}"
        console.say(f"\n{text}")
        found["results"].append(result)
    if json_file:
        write_atomically(json_file, json.dumps(clean(found), indent=1, ensure_ascii=False) + "\n")
        console.say(f"\nwritten: {json_file}")
    return found


def _time(spec: Spec, shape: Shape, tuned: Tuned, repeats: int, console: Console) -> Rows:
    compared = subjects.make_all(spec, tuned, shape)
    console.say(f"{shape}: {len(compared)} rows in turn, {repeats} times after a round that is not counted")
    with console.task(str(shape), len(compared) * (repeats + 1)) as bar:
        samples = timing.interleave(compared, tuned.model, repeats, lambda: bar.advance(1))
    return timing.rows(compared, samples, sum(p.numel() for _, p in subjects.trained(tuned.model)))
