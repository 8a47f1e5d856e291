"""What a run prints: a progress line, a line per evaluation, and the table at the end."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from zobench.errors import give_up, printable
from zobench.system.verdict import verdict

_PLAIN_EVERY_S = 20.0


class Terminal(RichConsole):
    """Shows any text on any terminal, and goes silent, and lets the run go on, when nobody reads it any more."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Text as rich shows it, without what would move the cursor or cannot be encoded."""
        return super().render_str(printable(text, self.encoding), **how)

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError:  # a closed pipe, a full disk
            self.quiet = True
            give_up(sys.stdout)


#: in front of every line that this process prints
_speaker = ""


def speak_as(name: str) -> None:
    """Have each line of this process begin with a name: several processes print on one terminal.

    Args:
        name: such as ``cell 4 of 18``.
    """
    global _speaker
    _speaker = f"{name}: "


class Console:
    """Prints for a person: live progress bars on a terminal, a plain line now and then elsewhere.

    Args:
        quiet: print nothing, as in a process that does not lead its team.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._rich = Terminal(highlight=False, soft_wrap=sys.stdout is None or not sys.stdout.isatty(), quiet=quiet)

    def say(self, text: str) -> None:
        """Print a line, or several, as they are."""
        for line in text.splitlines() if _speaker else [text]:
            self._rich.print(_speaker + line, markup=False)

    def task(self, name: str, total: int, done: int = 0) -> "Bar":
        """Make a bar, which is a context.

        Args:
            name: what is being done.
            total: units of work in all.
            done: those that are behind.
        """
        return Bar(self._rich, name, total, done)

    def summary(self, row: Mapping[str, Any]) -> None:
        """Show a run's row: measures on the test split, zero-shot beside fine-tuned, and what it cost."""
        if any(key.startswith("zero_shot/test/") for key in row):
            self._rich.print(_results(row))
        for line in _facts(row):
            self.say(line)


class Bar:
    """One progress bar; off a terminal, a line every twenty seconds."""

    def __init__(self, console: RichConsole, name: str, total: int, done: int):
        self._console, self._name, self._total, self._done = console, name, total, done
        self._progress: Progress | None = None
        self._start = self._said = time.monotonic()
        self._start_done = done

    def __enter__(self) -> "Bar":
        if self._console.is_terminal:
            columns = (TextColumn(self._name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(
                *columns, TextColumn("{task.fields[text]}"), console=self._console, transient=True
            )
            self._progress.start()
            self._task = self._progress.add_task(self._name, total=self._total, completed=self._done, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, n: int = 1, text: str = "") -> None:
        """Count ``n`` units as done; ``text`` stands beside the bar."""
        self._done += n
        if self._progress is not None:
            self._progress.update(self._task, advance=n, text=text)
        elif time.monotonic() - self._said > _PLAIN_EVERY_S:
            self._said = time.monotonic()
            rate = (self._done - self._start_done) / (self._said - self._start)
            left = (self._total - self._done) / rate if rate else float("inf")
            words = (self._name, f"{self._done}/{self._total}", text, f"{left:.0f} s left")
            self._console.print(_speaker + " ".join(filter(None, words)))


def cell_title(row: Mapping[str, Any]) -> str:
    """What tells a cell from the others of a table.

    >>> cell_title({"task": "sst2", "model": "smollm2", "method": "mezo", "method.lr": 1e-6, "seed": 0})
    'sst2, smollm2, mezo, lr 1e-06, seed 0'
    """
    words = [str(row.get(key)) for key in ("task", "model", "method")]
    words += [str(word) for word in [row.get("tuning")] if word not in (None, "full")]
    words += [f"objective={word}" for word in [row.get("objective")] if word not in (None, "loss")]
    if isinstance(row.get("method.lr"), int | float):
        words.append(f"lr {row['method.lr']:g}")
    return ", ".join([*words, f"seed {row.get('seed')}"])


def _results(row: Mapping[str, Any]) -> Table:
    columns = [("zero-shot", "zero_shot/test/"), ("fine-tuned", "test/")]
    n = row.get("zero_shot/test/n", "?")
    table = Table(title=Text(printable(f"{cell_title(row)}: test, n = {n}")))
    table.add_column("")
    shown = [
        (title, prefix)
        for title, prefix in columns
        if f"{prefix}loss" in row and (prefix != "test/" or row.get("trains"))
    ]
    for title, _ in shown:
        table.add_column(title, justify="right")
    names = [
        (f"score: {row.get('objective.score')}", "score", True),
        ("accuracy", "accuracy", True),
        ("accuracy, threshold from dev", "accuracy_calibrated", False),
        ("macro-F1", "macro_f1", True),
        ("macro-F1, threshold from dev", "macro_f1_calibrated", False),
        ("MCC", "mcc", True),
        ("MCC, threshold from dev", "mcc_calibrated", False),
        ("AUC", "auc", True),
        ("F1", "f1", True),
        ("exact match", "exact_match", row.get("metric") == "exact_match"),
        ("loss", "loss", False),
    ]
    others = tuple(name for name in ("macro_f1", "mcc") if name != row.get("metric"))
    for label, key, with_error in names:
        if f"zero_shot/test/{key}" in row and not key.startswith(others):
            cells = [_cell(row, f"{prefix}{key}", with_error) for _, prefix in shown]
            table.add_row(Text(printable(label)), *cells)
    return table


def _cell(row: Mapping[str, Any], key: str, with_error: bool) -> str:
    error = row.get(f"{key}_stderr")
    return _number(row.get(key), ".3f") + (f" ± {error:.3f}" if with_error and error is not None else "")


def _number(value: float | None, form: str) -> str:
    """A value of a row, which another version may have written; a dash where it has none."""
    return "-" if value is None else format(value, form)


def _facts(row: Mapping[str, Any]) -> list[str]:
    lines = [f"{row['state']}" + (f": {row['reason']}" if row.get("reason") else "")]
    judged = verdict(row)
    if judged:
        lines.append(judged)
    elif row.get("zero_shot/test/majority") and row.get("metric") == "accuracy":
        lines[0] += f"; always the majority class: {row['zero_shot/test/majority']:.3f}"
    if row.get("best_step") is not None:
        lines.append(
            f"best dev {row.get('metric')} {_number(row.get('dev_metric'), '.3f')} at step {row['best_step']} of "
            f"{_number(row.get('steps'), '')} ({_number(row.get('forwards'), '')} forward passes, "
            f"{_number(row.get('backwards'), '')} backward)"
        )
    if row.get("train_seconds") is not None:
        seconds = ("wall_seconds", "forward_seconds", "evaluate_seconds", "cache_seconds")
        wall, forward, evaluate, cache = (_number(row.get(name), ".0f") for name in seconds)
        sizes = ("peak_gib", "weights_gib", "method_state_gib")
        peak, weights, state = (_number(row.get(name), ".2f") for name in sizes)
        lines.append(
            f"{wall} s: training {row['train_seconds']:.0f} (in forwards {forward}), evaluation {evaluate}, cache "
            f"{cache}; peak memory {peak} GiB, of it weights {weights}, method state {state}"
        )
    lines.append(f"record: {row.get('directory')}")
    return lines
