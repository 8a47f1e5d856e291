"""A record tells that its files are as the run left them: whatever is changed within its range is noticed."""

import json
import os
import shutil
import zipfile

import pyarrow.parquet as pq
import pytest
from helpers import damage, fuzzed
from helpers.tiny_runs import summary_of
from helpers.written import write_run

from zobench import report
from zobench.record import metrics, packing, summaries
from zobench.record.reading import Unreadable
from zobench.report.__main__ import main


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """(folder, directories of a finished and of a stopped run below it)."""
    folder = tmp_path_factory.mktemp("clean")
    return folder, fuzzed.make_records(folder)


@pytest.fixture
def dirty(clean, tmp_path):
    shutil.copytree(clean[0], tmp_path / "dirty", symlinks=True)
    return tmp_path / "dirty", *clean[1]


def nudged(path):
    """Change one number of a file by little, within all ranges."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pylist()
        table[0]["scores"][0] -= 1e-6
        damage.write(path, table)
    elif path.suffix == ".yaml":
        path.write_text(path.read_text().replace("log_every: 1", "log_every: 2"))
    else:
        old, new = {"summary.json": ('"test/loss": 0.7', '"test/loss": 0.6'), "environment.json": ("threads", "thread"),
                    "metrics.jsonl": ('"train/loss": 0.7', '"train/loss": 0.6')}[path.name]  # fmt: skip
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize("name", fuzzed.READERS)
def test_a_change_within_the_range_is_noticed_unless_the_record_is_of_an_earlier_version(dirty, name):
    folder, record, _ = dirty
    run = folder / record
    read = fuzzed.READERS[name]
    read(run)
    nudged(run / name)
    with pytest.raises(Unreadable, match=r"changed since the run .*remove digest and digests from summary\.json"):
        read(run)
    (run / "summary.json").write_text(json.dumps(summary_of(run)))
    read(run)


def test_the_order_and_the_spaces_of_a_summary_do_not_matter(dirty):
    folder, record, _ = dirty
    path = folder / record / "summary.json"
    row, values = summaries.read(path.parent), json.loads(path.read_text())
    path.write_text(json.dumps(values, sort_keys=True, indent=4).replace("\n", "\r\n"))
    assert summaries.read(path.parent) == row
    assert not {"digest", "digests"} & row.keys()


@pytest.mark.parametrize("digest", [None, 5, [], {}, "", "0" * 16])
def test_a_digest_that_is_none_does_not_fit(dirty, digest):
    path = dirty[0] / dirty[1] / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": digest}))
    with pytest.raises(Unreadable, match="digest"):
        summaries.read(path.parent)


def test_a_changed_record_is_left_out_and_named_and_not_run_over(dirty, capsys):
    folder, record, _ = dirty
    nudged(folder / record / "summary.json")
    frame = report.load(folder / "runs")
    assert len(frame) == 2
    ((name, reason),) = frame.attrs["left_out"]
    assert (name, reason.partition(": ")[2][:30]) == (str(folder / record), "changed since the run wrote it")
    for command in ("run again", "replay"):
        outcome = fuzzed.attempt(command, folder, record)
        assert outcome.code == 1
        assert "changed since the run wrote it" in outcome.said
    nudged(folder / record / "metrics.jsonl")
    assert report.curves(frame).attrs["left_out"] == []


def test_a_run_that_goes_on_and_is_stopped_again_has_digests_that_fit(dirty):
    folder, _, stopped = dirty
    for read in (summaries.read, metrics.read):
        read(folder / stopped)
    outcome = fuzzed.attempt("resume", folder, stopped)
    assert outcome.code in (0, None), outcome.said
    for read in fuzzed.READERS.values():
        read(folder / stopped)


@pytest.mark.parametrize("name", ["metrics.jsonl", "trajectory.jsonl", ".lock", "checkpoint/state.json"])
def test_a_run_does_not_wait_at_a_pipe(dirty, name):
    folder, _, stopped = dirty
    damage.swap(folder / stopped / name, "pipe")
    outcome = fuzzed.attempt("resume", folder, stopped)
    assert not outcome.wrong, outcome
    assert outcome.seconds < fuzzed.SECONDS


@pytest.mark.parametrize("what", ["pipe", "directory", "socket"])
def test_a_zip_is_made_of_the_records_that_can_be_read_and_names_the_others(tmp_path, capsys, what):
    bad, good = (write_run(tmp_path / "runs", seed=seed) for seed in (0, 1))
    damage.swap(bad / "metrics.jsonl", what)
    assert main([str(tmp_path / "runs"), "--zip", str(tmp_path / "runs.zip")]) == 0
    written, left_out = capsys.readouterr().out.splitlines()
    assert written.endswith("runs.zip, 1 runs")
    assert left_out.startswith(f"left out: {bad}: metrics.jsonl: ")
    assert [*report.load(tmp_path / "runs.zip")["directory"]] == [f"{tmp_path / 'runs.zip'}/{good.name}"]


def test_a_changed_record_is_noticed_in_a_zip(dirty, tmp_path):
    folder, record, _ = dirty
    nudged(folder / record / "predictions.parquet")
    packing.pack({"run": folder / record}, tmp_path / "runs.zip")
    frame = report.load(tmp_path / "runs.zip")
    assert len(frame) == 1
    found = report.predictions(frame)
    assert found.empty
    assert "changed since the run wrote it" in found.attrs["left_out"][0][1]


def test_useless_lines_without_end_are_named_once(tmp_path):
    run = write_run(tmp_path)
    (run / "metrics.jsonl").write_bytes(b"{}\n" * 10**5)
    with pytest.raises(Unreadable, match="more than 1000 lines that cannot be used"):
        metrics.read(run)


@pytest.mark.parametrize("names", [["a/summary.json"] * 2, ["a\nb/summary.json"], ["a\x1b[2J/x"], ["a\u202eb/x"]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_of_names_that_deceive_is_refused_in_a_line(tmp_path, capsys, names):
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as file:
        for name in names:
            file.writestr(name, "{}")
    assert main([str(tmp_path / "runs.zip")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "not a zip of records: it holds" in said


def test_lines_without_end_are_not_read(tmp_path):
    run = write_run(tmp_path)
    with open(run / "metrics.jsonl", "ab") as file:
        os.truncate(file.fileno(), 0)
        file.write(b"\n" * (10**6 + 1))
    with pytest.raises(Unreadable, match="1,000,001 lines; at most 1,000,000 are read"):
        metrics.read(run)
