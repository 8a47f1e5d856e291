"""What a run prints reaches any terminal: other encodings, closed and full outputs, names that hold escapes."""

import io
import json
import sys

import pytest
from helpers.processes import Zobench

from zobench.errors import printable, show, tolerant_streams
from zobench.system.console import Console

RUN = (
    "model=tiny-opt", "data=mini", "threads=1", "steps=1", "batch_size=4", "runs_dir=r",
    *(f"task.splits.mini.{part}=8" for part in ("train", "dev", "test")),
)  # fmt: skip
ROW = {
    "task": "sst2", "model": "m", "method": "\x1b]0;owned\x07x", "seed": 0, "trains": False, "state": "finished",
    "directory": "r/[bold]", "zero_shot/test/n": 8, "zero_shot/test/loss": 0.7, "zero_shot/test/accuracy": 0.5,
    "zero_shot/test/accuracy_stderr": 0.177, "wall_seconds": 1.0,
}  # fmt: skip


def ascii_output():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="ascii", errors="strict")


def closed_output():
    sys.stdout = sys.stderr = None


def full_output():
    sys.stdout = open("/dev/full", "w")  # noqa: SIM115


@pytest.mark.parametrize("before", [ascii_output, closed_output, full_output], ids=lambda f: f.__name__)
def test_a_run_ends_well_whatever_becomes_of_its_output(tmp_path, before):
    code, out, err = Zobench(tmp_path, *RUN, "wandb=disabled", before=before).wait()
    assert (code, err) == (0, "")
    (path,) = tmp_path.rglob("summary.json")
    assert json.loads(path.read_text())["state"] == "finished"
    if before is ascii_output:
        assert "+/-" in out
        assert "+-" in out  # the frame of the table
        assert out.isascii()


def test_escapes_in_a_name_are_shown_and_not_obeyed(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    console = Console()
    console.summary(ROW)
    console.say("reason: \x1b[2J \x00 日本 [red]")
    stream.flush()
    text = stream.buffer.getvalue().decode("latin-1")
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "\\x1b]0;owned" in text
    assert "[red]" in text
    assert "\\u65e5" in text


def test_messages_are_shown_on_any_stream(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show("a ± b \x1b[1m", stream)
    assert stream.buffer.getvalue() == b"a +/- b \\x1b[1m\n"
    assert printable("größer ± 日本\n") == "größer ± 日本\n"
    monkeypatch.setattr(sys, "stdout", None)
    tolerant_streams()
    print("no one reads this")


def test_wandb_keeps_its_log_with_the_run_where_home_cannot_be_written(tmp_path):
    code, out, err = Zobench(tmp_path, *RUN, "wandb=offline", environment={"HOME": "/proc/none"}).wait()
    assert code == 0, err
    assert "wandb: /proc/none/.cache/wandb cannot be written" in out
    assert "INFO" not in out + err
