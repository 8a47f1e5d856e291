"""Every command reaches any terminal: one that writes ASCII, one that is full, one that nobody reads."""

import io
import sys
from importlib import import_module

import pytest
from helpers.written import write_run

from zobench.config.words import ALLOW_FOREIGN
from zobench.report.__main__ import main as report

COMMANDS = ("report", "replay", "export", "bench", "testing", "sweep")


def stream(errors="strict"):
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=errors)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_refusal_with_signs_beyond_ascii_is_printed(monkeypatch, name):
    module = import_module(f"zobench.{name}.__main__" if name not in ("replay", "export") else f"zobench.{name}")
    said = stream()
    monkeypatch.setattr(sys, "stderr", said)
    words = ["прогон", "нигде"] if name == "export" else ["прогон"]
    try:
        code = module.main(words)
    except SystemExit as ended:
        code = ended.code
    said.flush()
    assert code in (1, 2)
    assert said.buffer.getvalue().isascii()


@pytest.mark.parametrize("words", [[], ["--claims"], ["--beside"], ["--cite"]], ids=str)
def test_a_report_is_printed_in_ascii(tmp_path, monkeypatch, words):
    for method in ("mezo", "loren"):
        for seed in (0, 1):
            write_run(tmp_path, method, seed, test=0.7 + seed / 50)
    out = stream()
    monkeypatch.setattr(sys, "stdout", out)
    assert report([str(tmp_path), *words]) == 0
    out.flush()
    assert out.buffer.getvalue().isascii()
    assert words in (["--claims"], ["--cite"]) or b"+/-" in out.buffer.getvalue()


def test_a_report_that_nobody_reads_to_its_end_is_no_error(tmp_path, monkeypatch):
    write_run(tmp_path)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert report([str(tmp_path)]) == 0


def test_a_table_of_runs_takes_the_flag_for_code_of_others():
    parser = import_module("zobench.sweep.__main__")._parser()
    assert parser.parse_intermixed_args(["smoke", ALLOW_FOREIGN]).allow_foreign
