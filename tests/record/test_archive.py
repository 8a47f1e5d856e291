"""Records as one zip: read like the folders they came from, and never more than read."""

import shutil
import struct
import zipfile
from pathlib import Path

import pytest
from helpers.written import write_run

from zobench import report
from zobench.errors import DataError, UserError
from zobench.record import archive
from zobench.record.reading import SMALL
from zobench.record.runs import find
from zobench.report.__main__ import main


@pytest.fixture
def runs(tmp_path):
    """Two methods with predictions; one run keeps weights and wandb's files."""
    for seed in range(2):
        for method in ("mezo", "kerzoo"):
            directory = write_run(tmp_path / "runs" / method, method, seed, scores=[1, 0, 1, seed])
    for name in ("checkpoint/best-00000100.safetensors", "wandb/offline-run-1/run-1.wandb"):
        (directory / name).parent.mkdir(parents=True)
        (directory / name).write_bytes(b"...")
    return tmp_path / "runs"


@pytest.fixture
def zipped(runs):
    """The zip that the command makes of them."""
    file = runs.parent / "sweep.zip"
    assert main([str(runs), "--zip", str(file)]) == 0
    return file


def without_place(frame):
    return frame.drop(columns="directory")


def test_a_zip_gives_what_its_folder_gives(runs, zipped):
    one, other = report.load(runs), report.load(zipped)
    assert list(other["directory"]) == [d.replace(str(runs), str(zipped)) for d in one["directory"]]
    for read in (lambda frame: frame, report.curves, report.predictions):
        assert without_place(read(other)).equals(without_place(read(one)))
        assert len(read(other))
    assert without_place(report.load(zipped / "mezo")).equals(without_place(report.load(runs / "mezo")))


def test_a_zip_holds_the_records_alone_and_equal_records_make_equal_zips(runs, zipped, capsys):
    names = zipfile.ZipFile(zipped).namelist()
    assert {name.rpartition("/")[2] for name in names} <= set(archive.FILES)
    assert names == sorted(names)
    first = zipped.read_bytes()
    for path in runs.rglob("*.json"):
        path.touch()
    assert main([str(runs), "--zip", str(zipped)]) == 0
    assert zipped.read_bytes() == first
    again, part = zipped.with_name("again.zip"), zipped.with_name("part.zip")
    assert main([str(zipped), "--zip", str(again)]) == 0
    assert again.read_bytes() == first
    assert main([str(zipped), "--zip", str(part), "--where", "seed=1"]) == 0
    assert f"written: {part}, 2 runs" in capsys.readouterr().out
    assert set(report.load(part)["seed"]) == {1}


def test_runs_that_would_lie_at_one_place_are_not_packed(runs, zipped, tmp_path, capsys):
    assert main([str(runs), str(zipped), "--zip", str(tmp_path / "both.zip")]) == 1
    assert "would both be" in capsys.readouterr().err
    assert main([str(runs), "--zip", "sweep.tar"]) == 2
    assert "sweep.tar: records are packed as .zip" in capsys.readouterr().err


def test_a_zip_is_read_where_it_is_named(zipped, capsys):
    folder = zipped.parent / "records"
    folder.mkdir()
    zipped.rename(folder / zipped.name)
    assert main([str(folder)]) == 1
    assert f"a zip is read where it is named: {folder / zipped.name}" in capsys.readouterr().err
    with pytest.raises(UserError, match="nowhere: no such folder"):
        report.load(folder / zipped.name / "nowhere")


@pytest.mark.parametrize("name", ["../x/y", "/x/y", "x//y", "x\\y", "x/./y", "x/" * 99 + "y"])
def test_a_name_that_leads_out_of_the_zip_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as made:
        made.writestr(name, "{}")
    with pytest.raises(DataError, match="not a zip of records: it holds the name"):
        report.load(tmp_path / "bad.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_what_is_no_zip_is_named(tmp_path):
    (tmp_path / "bad.zip").write_text("summary.json")
    with pytest.raises(DataError, match=r"bad\.zip: not a zip that can be read"):
        report.load(tmp_path / "bad.zip")


def reasons(zipped, change):
    """Why runs are left out of a copy in which ``change`` has edited the bytes, given the headers of its files."""
    data = bytearray(zipped.read_bytes())
    change(data, zipfile.ZipFile(zipped).infolist())
    other = zipped.with_name("changed.zip")
    other.write_bytes(data)
    return [reason for _, reason in report.load(other).attrs["left_out"]]


def test_a_damaged_file_is_left_out(zipped):
    def flip(data, members):
        summary = next(member for member in members if member.filename.endswith("summary.json"))
        data[summary.header_offset + 30 + len(summary.filename) + summary.compress_size // 2] ^= 255

    (reason,) = reasons(zipped, flip)
    assert "damaged" in reason


def test_a_file_that_unpacks_to_more_than_it_says_is_cut_and_left_out(zipped):
    def understate(data, members):
        at = data.index(b"PK\1\2")  # the first entry of the directory at the end
        for member in members:
            struct.pack_into("<I", data, member.header_offset + 22, 10)
            struct.pack_into("<I", data, at + 24, 10)
            at += 46 + sum(struct.unpack_from("<HHH", data, at + 28))

    assert ["damaged" in reason for reason in reasons(zipped, understate)] == [True] * 4


def test_a_file_too_large_is_not_unpacked(zipped):
    with zipfile.ZipFile(zipped, "a", zipfile.ZIP_DEFLATED) as made:
        made.writestr("huge/summary.json", " " * (SMALL + 1))
    ((place, reason),) = report.load(zipped).attrs["left_out"]
    assert place == str(zipped / "huge")
    assert f"at most {SMALL:,} are read" in reason


def test_runs_in_what_a_run_keeps_are_not_looked_for(runs):
    write_run(next((runs / "mezo").iterdir()) / "checkpoint")
    by_hand = shutil.make_archive(str(runs.parent / "by-hand"), "zip", runs)
    for place in (runs, archive.locate(by_hand)):
        assert len(find(place).runs) == 4


def test_an_address_need_not_exist(zipped):
    assert archive.locate("runs/sst2") == Path("runs/sst2")
    place = archive.locate(zipped / "nowhere" / "summary.json")
    assert not place.is_file()
    with pytest.raises(FileNotFoundError, match="No such file"):
        place.read_text()
