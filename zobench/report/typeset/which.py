"""Which method to use: by memory, by time and by size of model, as far as runs can tell."""

import math
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from zobench.errors import UserError
from zobench.report.compare.board import make_board
from zobench.report.compare.comparable import parts
from zobench.report.compare.memory import SHARED
from zobench.report.compare.slices import Slice
from zobench.report.compare.standing import RULES, TIED, VERDICTS, Choice, Standing, standings
from zobench.report.compare.units import unit_of
from zobench.report.frames.runs import Row
from zobench.report.typeset.headline import guesses
from zobench.report.typeset.table import Table, number, spread

_SHARED_SETTINGS = ("tuning", "protocol", "data", "dtype", "batch_size", "device")


def which(frame: pd.DataFrame) -> str:
    """Write the page "Which method should I use?" in Markdown.

    Args:
        frame: from ``load``; runs that agree in all but method, task and model.

    Raises:
        Mixed: if the runs are not comparable.
        UserError: if no run of a method that trains without backward passes is finished.
    """
    board = make_board(frame, ["method", "task", "model"])
    models = standings(board)
    if not models:
        raise UserError("no method that trains without backward passes has a finished run: there is nothing to choose")
    hours = "cpu_hours" if board.on_cpu else "gpu_hours"
    memory = "peak_mib" if board.frame["peak_of_the_run_alone"].all() else "held_mib"
    runs = pd.concat([slice_.runs for slice_ in board.slices])
    budget = f"{board.frame['forwards'].max():,.0f} forward passes a run"
    shared = "; ".join([f"{name.replace('_', ' ')} {_listed(runs, name)}" for name in _SHARED_SETTINGS] + [budget])
    text = [
        "# Which method should I use?",
        f"Read off {len(runs)} runs, and no surer than they are ({shared}). Elsewhere it is a first guess.",
        "    python -m zobench.report RUNS --which FILE.md",
        _answers(models, hours, memory).markdown(),
        "## Task by task",
        *(_task(model, slice_, hours, memory).markdown() for model in models for slice_ in model.slices),
        "## How to read this",
        "\n".join(f"- {note}" for note in [*RULES, *board.said(), *board.tried(), *board.power()]),
    ]
    return "\n\n".join(part.rstrip("\n") for part in text) + "\n"


def _answers(models: Sequence[Standing], hours: str, memory: str) -> Table:
    """The short answer: three lines a model, the smallest model first."""
    rows = []
    for model in models:
        size = model.model + _size(model.parameters)
        choices = {"the least memory": (model.least(memory), memory), "the least time": (model.least(hours), hours)}
        rows.append([size, "the best result", ", ".join(model.of_verdict(TIED)) or "it depends", _sure(model)])
        for want, (choice, name) in choices.items():
            taken = ", ".join(row for row, _ in choice.take) or "unknown"
            rows.append([size, want, taken, _why(choice, name, model)])
    frame = pd.DataFrame(rows, columns=["model", "you want", "take", "how sure that is"])
    columns: dict[str, Callable[[Row], str]] = {
        name: lambda row, name=name: row[name] for name in frame.columns  # type: ignore[misc]
    }  # fmt: skip
    notes = [
        "memory and time are weighed among the methods that are tied for best on every task; time is that of training, "
        "added over the tasks, memory the highest of them"
    ]
    notes += [f"memory is that of weights and method state; the peak is {SHARED}"] * (memory == "held_mib")
    notes += ["one model only: these runs do not tell what a larger one prefers"] * (len(models) == 1)
    return Table(frame, columns, notes)


def _task(model: Standing, slice_: Slice, hours: str, memory: str) -> Table:
    """How the methods stand on one task."""

    def verdict(line: Row) -> str:
        said, better = model.verdict(slice_, line)
        return f"{said} than {', '.join(better)}" if better else said

    lines = pd.DataFrame(model.lines(slice_))
    columns: dict[str, Callable[[Row], str]] = {
        "method": lambda line: line["row"],
        f"test {slice_.metric} (runs)": lambda line: f"{spread(line, 'test_metric')} ({line['runs']})",
        "verdict": verdict,
        "better than no training": lambda line: "-" if not line["runs"] else "not shown" if guesses(line) else "yes",
        "time": lambda line: _amount(line[hours], hours, lines[hours].max()),
        "memory": lambda line: _amount(line[memory], memory, lines[memory].max()),
    }
    return Table(lines, columns, [], slice_.title)


def _sure(model: Standing) -> str:
    tied = len(model.of_verdict(TIED))
    said = ["no method is tied for best on every task"] if not tied else [f"a tie of {tied}"] if tied > 1 else []
    for verdict in VERDICTS[:-1]:
        of = [f"{row} ({', '.join(tasks)})" for row, (said_of, tasks) in model.verdicts.items() if said_of == verdict]
        said += [f"{verdict}: {', '.join(of)}"] if of else []
    return "; ".join(said) or "no other method was run on every task"


def _why(choice: Choice, name: str, model: Standing) -> str:
    if not choice.take:
        return "not on record for a method that is tied for best"
    most = max(cost for _, cost in [*choice.take, *choice.dearer, *choice.cheaper])

    def told(costs: Iterable[tuple[str, float]]) -> str:
        return ", ".join(f"{row} {_amount(cost, name, most)}" for row, cost in costs)

    said = [told(choice.take) + ", equal within noise" * (len(choice.take) > 1)]
    said += [f"no better, and dearer: {told(choice.dearer)}"] * bool(choice.dearer)
    for verdict in VERDICTS:
        those = [(row, cost) for row, cost in choice.cheaper if model.verdicts[row][0] == verdict]
        said += [f"cheaper, and {verdict}: {told(those)}"] * bool(those)
    return "; ".join(said)


def _amount(value: float, name: str, most: float) -> str:
    """Write hours in the unit that fits the largest of them, or MiB."""
    if pd.isna(value):
        return "-"
    if name.endswith("mib"):
        return number(value, ",.0f") + " MiB"
    seconds, unit = unit_of(3600 * most)
    return f"{3600 * value / seconds:.3g} {unit}"


def _size(parameters: float) -> str:
    """A number of parameters in thousands, millions or billions, in brackets; nothing where it is not known.

    >>> _size(95472.0), _size(134515008.0), _size(13e9), _size(math.inf)
    (' (95.5k)', ' (135M)', ' (13B)', '')
    """
    if parameters == math.inf:
        return ""
    scale, unit = next(pair for pair in ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")) if parameters >= pair[0])
    return f" ({parameters / scale:.3g}{unit})"


def _listed(runs: pd.DataFrame, name: str) -> str:
    return ", ".join(part[name] for part, _ in parts(runs, [name]))
