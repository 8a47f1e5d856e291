"""Only what zobench wrote is removed, and only once the run that takes its place is ready to start."""

import json
import os
import shutil
import sys
from itertools import count
from pathlib import Path

import pytest
from helpers.processes import SERVER
from helpers.tiny_runs import TINY, summary_of
from omegaconf import OmegaConf

from zobench.config.settings import check_settings
from zobench.config.signature import compose
from zobench.errors import ConfigError, RunExists, UserError
from zobench.record import contents
from zobench.record.directory import Record
from zobench.run import cell
from zobench.run.recovery import Plan
from zobench.run.runner import run

CELL = (*TINY, "steps=2", "out=mine")
WRITES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a finished run, with files of a mirror."""
    directory = Path(run(compose(*CELL, "keep_weights=true", f"runs_dir={tmp_path_factory.mktemp('f')}"))["directory"])
    for name in ("wandb/offline-run-1/files/config.yaml", "wandb/debug.log", "tensorboard/events.out.tfevents.1.host"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("x")
    (directory / "wandb/latest-run").symlink_to("offline-run-1")
    return directory


def copied(finished, runs, state=None):
    """A copy of the record; of a run that was stopped, with a checkpoint, if a state is given."""
    directory = shutil.copytree(finished, runs / "mine", symlinks=True)
    if state:
        row = summary_of(directory)
        (directory / "summary.json").write_text(json.dumps(row | {"state": state}))
        facts = {key: row[key] for key in ("rows_hash", "base_checksum", "model_checksum")}
        (directory / "checkpoint/state.json").write_text(json.dumps({"step": 1, "device": "cpu", **facts}))
    return directory


def content(directory):
    """Every file with its bytes, but for the lock and what was only being written."""
    found = (path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def size(path):
    return path.stat().st_size if path.exists() else 0


def overwrites(settings, point):
    """A new run begins in the directory of another; the process dies before its n-th change there."""
    cfg, changes = OmegaConf.create(settings), 0

    def counted(event, arguments):
        nonlocal changes
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (opens or event in WRITES) and "/mine" in str(arguments[0]):
            changes += 1
            if changes == point:
                os._exit(9)

    sys.addaudithook(counted)
    record = Record(Path(cfg.runs_dir) / cfg.out, cfg)
    record.begin(settings["row"] | {"state": "running"})
    record.forget_after(Plan().sizes)
    os._exit(0)


def killed_at_every_point(settings, old, runs):
    """In a process: copies of a record in ``runs/<point>/mine``, each overwritten up to its own point."""
    os.fsync = lambda file: None  # of no use where the machine lives on
    for point in count(1):
        runs_dir = runs / f"{point:03}"
        shutil.copytree(old, runs_dir / "mine", symlinks=True)
        if not (child := os.fork()):
            overwrites(settings | {"runs_dir": str(runs_dir)}, point)
        if not os.waitpid(child, 0)[1]:
            return


@pytest.mark.parametrize("state", [None, "interrupted"])
def test_killed_at_any_point_an_overwriting_leaves_the_old_record_or_a_run_that_begins_anew(state, finished, tmp_path):
    settings = OmegaConf.to_container(compose(*CELL, "overwrite=true"), resolve=True)
    old = copied(finished, tmp_path, state)
    row = settings["row"] = summary_of(old)
    process = SERVER.Process(target=killed_at_every_point, args=(settings, old, tmp_path / "all"))
    process.start()
    process.join(90)
    *cut, last = sorted((tmp_path / "all").glob("*/mine"))
    kept = [content(directory) == content(old) for directory in cut]
    assert kept == sorted(kept, reverse=True)
    assert 1 < sum(kept) < len(kept) - 1
    cfg = compose(*CELL)
    for directory in cut[sum(kept) :]:
        record = Record(directory, cfg)  # neither finished nor of another run
        assert record.anew or not any(size(directory / name) for name in ("metrics.jsonl", "trajectory.jsonl"))
        record.begin(row | {"state": "running"})
        record.close()
        left = content(directory)
        assert left["trajectory.jsonl"] == left["metrics.jsonl"] == b""
        assert not {name for name in left if name.startswith(("checkpoint", "predictions"))}
        assert not (directory / ".overwriting").exists()
    assert set(content(last)) == {"config.yaml", "summary.json", "metrics.jsonl", "trajectory.jsonl"}
    assert summary_of(last)["state"] == "running"


FAILS = {
    "a model that is not there": ["model=tiny-pretrained", "model.dir=/nowhere"],
    "data that are not there": ["data=local", "data.dir=/nowhere", "data.splits=mini"],
    "a setting that a class refuses": ["method.eps=-1.0"],
    "memory": ["tuning=last_layers", "tuning.layers=99"],
}


@pytest.mark.parametrize("words", FAILS.values(), ids=FAILS)
@pytest.mark.parametrize("state", [None, "interrupted", "running"])
def test_a_start_that_fails_leaves_the_record_to_the_byte(words, state, finished, tmp_path):
    before = content(directory := copied(finished, tmp_path, state))
    kept = [word for word in CELL if word.split("=")[0] not in [other.split("=")[0] for other in words]]
    with pytest.raises(UserError):
        run(compose(*kept, *words, f"runs_dir={tmp_path}", "overwrite=true"))
    assert content(directory) == before


def test_a_bug_of_ours_leaves_the_record_to_the_byte(finished, tmp_path, monkeypatch):
    before = content(directory := copied(finished, tmp_path))
    monkeypatch.setattr(cell, "Trainer", None)
    with pytest.raises(TypeError):
        run(compose(*CELL, f"runs_dir={tmp_path}", "overwrite=true"))
    assert content(directory) == before


@pytest.mark.parametrize("raised", [MemoryError, KeyboardInterrupt("SIGINT")])
def test_no_memory_for_the_first_evaluation_leaves_the_record_to_the_byte(raised, finished, tmp_path, monkeypatch):
    before = content(directory := copied(finished, tmp_path))

    def fails(*arguments, **named):
        raise raised

    monkeypatch.setattr(cell.Trainer, "evaluate", fails)
    with pytest.raises((UserError, KeyboardInterrupt)):
        run(compose(*CELL, f"runs_dir={tmp_path}", "overwrite=true"))
    assert content(directory) == before


def test_what_zobench_did_not_write_stays_and_is_named(finished, tmp_path, capsys):
    directory = copied(finished, tmp_path)
    mine = {"notes.txt": b"1", "checkpoint/notes.txt": b"2", "export/model.safetensors": b"3", "wandb/mine/a": b"4"}
    for name, text in mine.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(text)
    row = run(compose(*CELL, f"runs_dir={tmp_path}", "overwrite=true", "keep_weights=true"))
    assert row["state"] == "finished"
    said = capsys.readouterr().out
    left = content(directory)
    for name, text in mine.items():
        assert left[name] == text
        assert name.split("/a")[0].removesuffix("/model.safetensors") in said
    assert "tensorboard" not in {name.split("/")[0] for name in left}


def test_a_checkpoint_folder_on_another_disk_is_emptied_and_stays_a_link(finished, tmp_path):
    directory, elsewhere = copied(finished, tmp_path), tmp_path / "scratch"
    shutil.move(directory / "checkpoint", elsewhere)
    (elsewhere / "notes.txt").write_text("mine")
    (directory / "checkpoint").symlink_to(elsewhere)
    assert contents.clear(directory) == ["checkpoint/notes.txt"]
    assert [path.name for path in elsewhere.iterdir()] == ["notes.txt"]
    assert (directory / "checkpoint").is_symlink()


FOREIGN = {
    "a project": {"summary.json": '{"my": 1}', "src/main.py": ""},
    "a result": {"summary.json": '{"my": 1}'},
    "a configuration": {"config.yaml": "my: 1"},
    "tables": {"metrics.jsonl": '{"my": 1}\n'},
    "a torn file among others": {"summary.json": "{", "src/main.py": ""},
    "other runs": {"tiny/0123abcd/summary.json": "{}"},
    "code": {".git/config": ""},
}


@pytest.mark.parametrize("overwrite", ["overwrite=true", "overwrite=false"])
@pytest.mark.parametrize("files", FOREIGN.values(), ids=FOREIGN)
def test_a_folder_of_something_else_is_refused(files, overwrite, tmp_path):
    for name, text in files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    before = content(tmp_path / "mine")
    with pytest.raises(ConfigError, match="and no run of zobench; a run needs a directory of its own"):
        run(compose(*CELL, f"runs_dir={tmp_path}", overwrite))
    assert content(tmp_path / "mine") == before


def test_a_run_within_another_is_refused(finished, tmp_path):
    copied(finished, tmp_path)
    with pytest.raises(ConfigError, match=r"mine/deeper/still lies within .*/mine, which holds a run"):
        run(compose(*CELL[:-1], "out=mine/deeper/still", f"runs_dir={tmp_path}"))


@pytest.mark.parametrize(
    "out", ["null", "5", "1.5", "true", "''", "'  '", "/tmp/x", "..", "../x", "a/../../x", "a/../b", ".", "'a\x1bb'"]
)
def test_a_run_stays_below_its_runs_dir(out):
    with pytest.raises(ConfigError, match=r"out=.*: expected a folder below runs_dir"):
        check_settings(compose(*CELL[:-1], f"out={out}"))


def test_a_run_may_be_anywhere_below_its_runs_dir():
    for out in ("mine", "a/b", "'прогон'", "'with blanks'", "a/${signature:}"):
        check_settings(compose(*CELL[:-1], f"out={out}"))


DAMAGE = {
    "torn": b'{"state": "fini', "empty": b"", "a list": b"[]", "null": b"null", "not UTF-8": b"\xff\xfe",
    "nothing": b"{}", "no state": b'{"state": null}', "another kind of state": b'{"state": 5}', "deep": b"[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_summary_is_put_aside_and_the_run_goes_on(damage, finished, tmp_path):
    directory, said = copied(finished, tmp_path, "interrupted"), []
    (directory / "summary.json").write_bytes(damage)
    cfg = compose(*CELL, f"runs_dir={tmp_path}")
    record = Record(directory, cfg, said.append)
    assert record.replaces  # there is a checkpoint
    assert (directory / "summary.json").read_bytes() == damage
    record.begin({"state": "running"})
    record.close()
    assert len(said) == 1
    assert said[0].startswith("summary.json: ")
    assert said[0].endswith(
        f"kept as {directory}/summary.json.damaged; the run goes on from its checkpoint, if there is one"
    )
    assert (directory / "summary.json.damaged").read_bytes() == damage
    assert (directory / "checkpoint/state.json").is_file()
    (directory / "summary.json").write_bytes(damage)
    record = Record(directory, compose(*CELL, f"runs_dir={tmp_path}", "overwrite=true"))
    record.begin({"state": "running"})
    record.close()
    assert {path.name for path in directory.iterdir()} == {
        "config.yaml", "summary.json", "metrics.jsonl", "trajectory.jsonl", ".lock"
    }  # fmt: skip


@pytest.mark.parametrize("restarts", [None, "x", [], 1.5, 3])
def test_a_damaged_count_of_restarts_stops_nothing(restarts, finished, tmp_path):
    directory = copied(finished, tmp_path, "interrupted")
    (directory / "summary.json").write_text(json.dumps(summary_of(directory) | {"restarts": restarts}))
    record = Record(directory, compose(*CELL, f"runs_dir={tmp_path}"))
    assert record.restarts == (4 if restarts == 3 else 0)
    record.close()


def test_a_damaged_result_is_not_run_over_unless_asked(finished, tmp_path):
    before = content(directory := copied(finished, tmp_path))
    damaged = json.dumps(summary_of(directory) | {"test_metric": 7})
    (directory / "summary.json").write_text(damaged)
    with pytest.raises(UserError, match="test_metric=7"):
        run(compose(*CELL, f"runs_dir={tmp_path}"))
    assert content(directory) == before | {"summary.json": damaged.encode()}
    assert run(compose(*CELL, f"runs_dir={tmp_path}", "overwrite=true"))["state"] == "finished"


@pytest.mark.parametrize("keep", [True, False])
def test_checkpoints_that_a_kill_left_are_cleared_by_the_next_command(keep, finished, tmp_path):
    directory = copied(finished, tmp_path, "finished")
    (directory / "checkpoint/step-00000002").mkdir()
    (directory / "checkpoint/step-00000002/weights.safetensors").touch()
    stored = (directory / "config.yaml").read_text().replace("keep_weights: true", f"keep_weights: {str(keep).lower()}")
    (directory / "config.yaml").write_text(stored)
    with pytest.raises(RunExists):
        Record(directory, compose(*CELL, f"runs_dir={tmp_path}"))
    left = {path.name[:4] for path in directory.glob("checkpoint/*")}
    assert left == ({"best"} if keep else set())
    assert (directory / "checkpoint").exists() == keep
