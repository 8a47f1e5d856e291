"""Records that are damaged, or a stranger's: each file has one reader, and a bad record ends no report."""

import json
import os
import shutil

import pytest
from helpers import damage, fuzzed
from helpers.written import write_run
from hypothesis import HealthCheck, Phase, given, seed, settings

from zobench import report
from zobench.errors import DataError
from zobench.record import configs, environments, metrics, predictions, summaries
from zobench.record.reading import SMALL, Unreadable
from zobench.record.runs import find
from zobench.report.__main__ import main

QUICK = ("report --table", "report --claims", "report --beside", "report --zip", "sweep --status")
SLOW = ("report --html", "report --curves", "report --lens", "sweep --dry-run")
SAMPLED = {
    "database": None, "deadline": None, "phases": [Phase.generate], "suppress_health_check": [*HealthCheck],
}  # fmt: skip
READ = ("summary.json", "config.yaml", "environment.json", "metrics.jsonl", "predictions.parquet")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """(folder, directories of a finished and of a stopped run below it)."""
    folder = tmp_path_factory.mktemp("clean")
    return folder, fuzzed.make_records(folder)


def held(clean, folder, name, change):
    """A command on a copy of the records of which one was changed; it must neither raise nor hang."""
    source, (record, _) = clean
    shutil.rmtree(folder / "dirty", ignore_errors=True)
    shutil.copytree(source, folder / "dirty", symlinks=True)
    change.apply(folder / "dirty" / record)
    outcome = fuzzed.attempt(name, folder / "dirty", record)
    assert not outcome.wrong, f"{name} on {change}:\n{outcome.traceback or outcome.said}"
    assert not set(outcome.said) & set("\x1b\x07\u202e"), f"{name} on {change}: a control character is printed"


@pytest.mark.parametrize(("names", "examples"), [(QUICK, 25), (SLOW, 4)], ids=["quick", "slow"])
def test_no_damage_to_a_record_ends_a_report(clean, tmp_path, names, examples):
    @seed(20260101)
    @settings(max_examples=examples, **SAMPLED)
    @given(damage.damages(clean[0] / clean[1][0], READ))
    def case(change):
        held(clean, tmp_path, names[case.number % len(names)], change)
        case.number += 1

    case.number = 0
    case()


def test_no_configuration_ends_a_replay_without_a_line(clean, tmp_path):
    @seed(20260102)
    @settings(max_examples=6, **SAMPLED)
    @given(damage.damages(clean[0] / clean[1][0], ["config.yaml", "summary.json"]))
    def case(change):
        held(clean, tmp_path, "replay", change)

    case()


@pytest.mark.parametrize("what", damage.SWAPS)
@pytest.mark.parametrize("name", READ)
def test_what_is_no_file_is_said_at_once(clean, tmp_path, name, what):
    source, (record, _) = clean
    shutil.copytree(source / record, tmp_path / "run")
    damage.swap(tmp_path / "run" / name, what)
    readers = {
        "summary.json": summaries.read, "config.yaml": configs.read, "environment.json": environments.read,
        "metrics.jsonl": metrics.read, "predictions.parquet": lambda run: predictions.read(run, "test"),
    }  # fmt: skip
    with pytest.raises(Unreadable, match=name):
        readers[name](tmp_path / "run")


@pytest.mark.parametrize("content", damage.CONTENTS)
def test_a_content_that_is_none_is_refused_by_every_reader(tmp_path, content):
    for name in READ:
        (tmp_path / name).write_bytes(damage.CONTENTS[content])
    for read in (summaries.read, configs.read, lambda run: predictions.read(run, "test")):
        with pytest.raises(Unreadable):
            read(tmp_path)
    if content not in ("object", "only a state"):  # any object may say something of a machine
        with pytest.raises(Unreadable):
            environments.read(tmp_path)
    lines, _ = metrics.read(tmp_path)
    assert lines == []


def test_a_huge_file_is_not_read(tmp_path):
    (tmp_path / "summary.json").write_bytes(b" ")
    os.truncate(tmp_path / "summary.json", 2**40)
    with pytest.raises(Unreadable, match=f"at most {SMALL:,} are read"):
        summaries.read(tmp_path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("test_metric", "x"), ("test_metric", 1.5), ("test_metric", 10**400), ("test_metric", None), ("seed", []),
        ("seed", -1), ("seed", None), ("method", {}), ("method", 5), ("method", "a\x1b[2J"), ("method", "x" * 9999),
        ("method.lr", "fast"), ("method.lr", [1]), ("steps", "many"), ("steps", 0.5), ("forwards", 2**63),
        ("peak_gib", "x"), ("peak_gib", -1.0), ("cpu_hours", 1e300), ("state", "done"), ("versions", [1]),
        ("own", {"a": 1}), ("o\x1bwn", 1), ("device", 0), ("trains", "yes"), ("test/accuracy", 0.123),
    ],
)  # fmt: skip
def test_a_row_that_breaks_a_column_is_left_out_and_named(tmp_path, capsys, column, value):
    for seed_ in range(2):
        write_run(tmp_path, "mezo", seed_)
    bad = write_run(tmp_path, "kerzoo", 0, **{"test/accuracy": 0.7})
    row = json.loads((bad / "summary.json").read_text())
    (bad / "summary.json").write_text(json.dumps(row | {column: value}))
    frame = report.load(tmp_path)
    ((place, reason),) = frame.attrs["left_out"]
    assert (len(frame), place) == (2, str(bad))
    assert reason.startswith("summary.json: ")
    assert column.replace("\x1b", "\\x1b") in reason
    assert len(reason) < 300
    assert main([str(tmp_path)]) == 0
    assert "left out: 1 unreadable" in capsys.readouterr().out


def test_columns_of_ones_own_stay(tmp_path):
    write_run(tmp_path, mine=0.5, note="a text")
    frame = report.load(tmp_path)
    assert (frame["mine"][0], frame["note"][0], frame.attrs["left_out"]) == (0.5, "a text", [])


def test_predictions_that_are_not_those_of_the_row_are_left_out(tmp_path):
    directory = write_run(tmp_path, scores=[1, 0, 1, 1])
    assert len(report.predictions(report.load(tmp_path))) == 4
    shutil.copy(write_run(tmp_path / "other", scores=[1, 0, 1, 0]) / "predictions.parquet", directory)
    ((place, reason),) = report.predictions(report.load(tmp_path)).attrs["left_out"]
    assert place == str(directory)
    assert "its test examples score 0.5, but summary.json says test_metric=0.75" in reason


def test_links_are_followed_once_and_what_cannot_be_searched_is_named(tmp_path):
    write_run(tmp_path / "scratch", "mezo", 0)
    runs = tmp_path / "runs"
    write_run(runs, "kerzoo", 0)
    links = {"mezo": "../scratch", "again": "../scratch", "loop": ".", "gone": "nowhere", "own": "own"}
    for name, aim in links.items():
        (runs / name).symlink_to(aim)
    frame = report.load(runs)
    assert sorted(frame["method"]) == ["kerzoo", "mezo"]
    reasons = dict(frame.attrs["left_out"])
    assert set(reasons) == {str(runs / "gone"), str(runs / "own")}
    assert all("cannot be searched" in reason for reason in reasons.values())


@pytest.mark.parametrize("stray", [("summary.json",), ("config.yaml", "metrics.jsonl")])
def test_a_record_above_others_hides_none(tmp_path, stray):
    write_run(tmp_path / "sst2", "mezo", 0)
    for name in stray:
        shutil.copy(next((tmp_path / "sst2").iterdir()) / "summary.json", tmp_path / name)
    found = find(tmp_path)
    assert len(found.runs) == 1
    ((place, reason),) = found.left_out
    assert place == str(tmp_path)
    assert "it holds another run" in reason


def test_a_damaged_summary_is_put_aside_and_the_run_goes_on(clean, tmp_path):
    source, (_, stopped) = clean
    shutil.copytree(source, tmp_path / "dirty")
    path = tmp_path / "dirty" / stopped / "summary.json"
    path.write_text("{")
    outcome = fuzzed.attempt("resume", tmp_path / "dirty", stopped)
    assert outcome.code in (0, None), outcome.said
    assert "torn or not JSON" in outcome.said
    assert "going on after step" in outcome.said
    assert json.loads(path.read_text())["state"] == "finished"
    assert path.with_name("summary.json.damaged").read_text() == "{"


def test_a_result_that_cannot_be_read_is_not_run_over(clean, tmp_path):
    source, (record, _) = clean
    shutil.copytree(source, tmp_path / "dirty")
    path = tmp_path / "dirty" / record / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test_metric": 7}))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    outcome = fuzzed.attempt("run again", tmp_path / "dirty", record)
    assert outcome.code == 1
    assert "test_metric=7; expected a finite number" in outcome.said
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_an_error_is_a_data_error_with_file_and_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "forwards": 2}\n{"step": "x", "forwards": 2}\n{}\n')
    lines, wrong = metrics.read(tmp_path)
    assert len(lines) == 1
    assert all(isinstance(error, DataError) for error in wrong)
    assert str(wrong[0]).startswith(f"{tmp_path / 'metrics.jsonl'}, line 2: step='x'; expected an integer")
