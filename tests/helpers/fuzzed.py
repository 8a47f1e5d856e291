"""Commands on damaged records, and what must hold of each: no traceback, no hang, nothing certified that is not so."""

import contextlib
import io
import json
import os
import shutil
import signal
import time
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from helpers.tiny_runs import TINY
from zobench.config.signature import compose
from zobench.record import configs, environments, metrics, predictions, summaries
from zobench.record.reading import Unreadable
from zobench.run.runner import run
from zobench.zo import Method

SECONDS = 10  # of the CPU; what waits for ever is ended after six times as many
WORDS = (*TINY, "task=sst2", "steps=4", "log_every=1", "eval_every=2", "save_every=1")
#: name -> module, and the words of its command; RUNS, RECORD, OUT stand for folders
COMMANDS = {
    "report": ("zobench.report.__main__", "RUNS"),
    "report --table": ("zobench.report.__main__", "RUNS --table OUT/t.csv --table OUT/t.tex --grid OUT/g.csv"),
    "report --html": ("zobench.report.__main__", "RUNS --html OUT/page.html"),
    "report --curves": ("zobench.report.__main__", "RUNS --curves OUT/curves.svg --allow-mixed"),
    "report --lens": ("zobench.report.__main__", "RUNS --lens OUT/lens.svg"),
    "report --pareto": ("zobench.report.__main__", "RUNS --pareto OUT/p.svg --times OUT/t.svg --heatmap OUT/h.svg"),
    "report --claims": ("zobench.report.__main__", "RUNS --claims"),
    "report --cite": ("zobench.report.__main__", "RUNS --cite"),
    "report --beside": ("zobench.report.__main__", "RUNS --beside"),
    "report --zip": ("zobench.report.__main__", "RUNS --zip OUT/runs.zip"),
    "sweep --status": ("zobench.sweep.__main__", "GRID --status"),
    "sweep --dry-run": ("zobench.sweep.__main__", "GRID --dry-run --retry-failed"),
    "replay": ("zobench.replay", "RECORD"),
    "export": ("zobench.export", "RECORD OUT/model"),
    "run again": ("zobench.__main__", "AGAIN"),
    "resume": ("zobench.__main__", "AGAIN"),
}  # fmt: skip


@dataclass
class Outcome:
    """How a command ended."""

    code: object
    said: str
    seconds: float
    #: the traceback of an exception that reached the user
    traceback: str = ""

    @property
    def wrong(self):
        """What must not be, in a word; empty if all is well."""
        if "TooLong" in self.traceback:
            return "hang"
        if self.traceback or "Traceback (most recent call last)" in self.said:
            return "traceback"
        return "hang" if self.seconds > SECONDS else ""


def make_records(folder):
    """A folder ``runs`` with three finished runs, one ``stopped`` half-way, and a grid of the first two.

    Returns:
        The directories of a finished run and of the stopped one, below ``folder``.
    """
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lens = ("lens.every=2", "lens.draws=3")
        first = run(compose(*WORDS, *lens, "seed=0"))["directory"]
        run(compose(*WORDS, *lens, "seed=1"))
        run(compose(*WORDS, "method=kerzoo", "seed=0"))
        step = Method.step

        def stopped_half_way(self, closure):
            if self.t == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, closure)

        cfg = compose(*WORDS, "snapshot_minutes=0", "runs_dir=stopped")
        with patch.object(Method, "step", stopped_half_way), contextlib.suppress(KeyboardInterrupt):
            run(cfg)
        Path("grid.yaml").write_text(
            json.dumps({"common": " ".join([*WORDS, *lens]), "lines": ["method=mezo seed=0,1"]})
        )
    return first, f"stopped/{cfg.out}"


def attempt(name, folder, record):
    """Run a command on the records in a folder, of which one was damaged."""
    module, words = COMMANDS[name]
    again = [*WORDS, "lens.every=2", "lens.draws=3", "seed=0"]
    if name == "resume":
        again = [*WORDS, "snapshot_minutes=0", "runs_dir=stopped"]
    arguments = []
    for word in words.split():
        known = {"RUNS": "runs", "RECORD": record, "GRID": "grid.yaml"}
        arguments += again if word == "AGAIN" else [known.get(word, word.replace("OUT", "out"))]
    shutil.rmtree(Path(folder) / "out", ignore_errors=True)
    return called(module, arguments, folder)


def called(module, arguments, folder):
    """A command's ``main`` in this process, with an end to its time."""
    out = io.StringIO()
    main = import_module(module).main
    start, code, trace = time.process_time(), 0, ""
    previous = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS, 1)  # again and again: what ends a run may hang too
    try:
        with (
            contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out),
            patch("sys.argv", ["zobench", *arguments]), patch.dict(os.environ),
        ):  # fmt: skip
            code = main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        trace = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return Outcome(code, out.getvalue(), time.process_time() - start, trace)


class TooLong(BaseException):
    """No ``except Exception`` may catch it."""


def _too_long(number, frame):
    raise TooLong(f"longer than {6 * SECONDS} s")


def silent(name, record, result, outcome, names):
    """What a command says to be so that is not, in a word; empty if all is well.

    Args:
        record: the damaged record, as the command left it.
        result: the row of the undisturbed run.
        names: columns of the row that are the run's result.
    """
    if name == "replay" and "bit for bit" in outcome.said and result["weights_checksum"] not in outcome.said:
        return "certified"
    if name in ("run again", "resume") and outcome.code in (0, None):
        try:
            row = json.loads((record / "summary.json").read_text())
        except (OSError, ValueError):
            return "no row"
        if {key: row.get(key) for key in names} != {key: result.get(key) for key in names}:
            return "other result"
    return ""


READERS = {
    "summary.json": summaries.read, "config.yaml": configs.read, "environment.json": environments.read,
    "metrics.jsonl": metrics.read,
    "predictions.parquet": lambda record: [predictions.read(record, split) for split in ("dev", "test")],
}  # fmt: skip


def misread(clean, dirty):
    """What a damaged record holds other values of, and says nothing of it: a file's name; empty if all is well."""
    for name, read in READERS.items():
        try:
            values = read(dirty)
        except Unreadable:
            continue
        if values != read(clean):
            return name
    return ""
