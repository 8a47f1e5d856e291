"""One benchmark, from what is asked to its tables and its JSON file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from zobench.atomic import clean, write_atomically
from zobench.bench import checkout, models, subjects, table, timing
from zobench.bench import memory as peaks
from zobench.bench.spec import Shape, Spec
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
    if spec.threads:
        torch.set_num_threads(spec.threads)
    device = pick_device(spec.device)
    for method in spec.methods:  # on a stand-in: a bad setting must not wait for the model
        subjects.build_method(method, [("weight", torch.zeros(8, 8))])
    console = Console()
    asked = asdict(spec) | {"shapes": [str(shape) for shape in spec.shapes], "repeats": None if memory else repeats}
    found: dict[str, Any] = {"asked": asked, "environment": costs.environment(device), "results": []}
    if spec.official:
        found["official"] = {"repository": checkout.REPOSITORY, "commit": checkout.COMMIT}
    model: Any = None if memory else models.load(spec.model, spec.dtype, device)
    for shape in spec.shapes:
        result: dict[str, Any] = {"shape": str(shape), "batch": shape.batch, "tokens": shape.tokens}
        where = f"{spec.model}, {spec.dtype}, {shape} (batch x tokens), {device}, {torch.get_num_threads()} threads"
        if memory:
            result["memory"] = peaks.rows(spec, shape)
            text = f"{where}; peak memory\n\n{table.memory(result['memory'])}"
        else:
            result["parameters"] = sum(p.numel() for p in model.parameters())
            result["time"] = _time(spec, shape, model, repeats, console)
            text = f"{where}, {repeats} repeats; ratio to two trimmed forwards\n\n{table.timing(result['time'])}"
        console.say(f"\n{text}")
        found["results"].append(result)
    if json_file:
        write_atomically(json_file, json.dumps(clean(found), indent=1, ensure_ascii=False) + "\n")
        console.say(f"\nwritten: {json_file}")
    return found


def _time(spec: Spec, shape: Shape, model: Any, repeats: int, console: Console) -> Rows:
    compared = [subjects.make(spec, name, model, shape) for name in subjects.names(spec)]
    with console.task(str(shape), len(compared) * (repeats + 1)) as bar:
        samples = timing.interleave(compared, model, repeats, lambda: bar.advance(1))
    return timing.rows(compared, samples, sum(p.numel() for p in model.parameters()))
