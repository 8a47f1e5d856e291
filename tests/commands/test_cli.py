"""The command line as a newcomer meets it: help, mistakes, a folder of one's own, a sweep."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import commands

import zobench
from zobench.config.folders import conf_dir
from zobench.config.start import START

ROOT = Path(zobench.__file__).resolve().parent.parent
TINY = (
    "model=tiny-opt", "data=mini", "wandb=disabled", "threads=1", "steps=2", "batch_size=4",
    "task.splits.mini.train=8", "task.splits.mini.dev=8", "task.splits.mini.test=8",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    cpu_seconds: float = 0.0


def zobench_process(*arguments, cwd, python_options=()):
    """``python -m zobench`` to its end, away from the checkout; CPU seconds are the child's own."""
    # A child that uses several threads would be billed for all of them.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    out, err = cwd / ".stdout", cwd / ".stderr"
    with out.open("w") as o, err.open("w") as e:
        child = subprocess.Popen(
            [sys.executable, *python_options, "-m", "zobench", *arguments], cwd=cwd, env=environment, stdout=o, stderr=e
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return Ended(child.returncode, out.read_text(), err.read_text(), used.ru_utime + used.ru_stime)


@pytest.fixture
def command(tmp_path):
    """``command("method=mezo")``: the same in this process, which need not import torch again."""

    def run(*arguments):
        ended = commands.command("zobench", *arguments, cwd=tmp_path)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


def summaries(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("summary.json"))]


def test_help_is_one_page_of_what_to_do_each_with_its_command(tmp_path):
    ended = zobench_process("--help", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    for aim in ("compare methods", "fine-tune my model", "add a method", "check a table"):
        (place,) = (i for i, line in enumerate(lines) if line.startswith(f"  {aim}:"))
        assert lines[place + 1].startswith("      python -m zobench")
    assert "python -m zobench --list" in lines[-1]


def test_commands_of_the_first_page_are_right(command):
    """Those that name nothing of the user's own; a dry run or the first complaint stands for what takes long."""
    commands = [line.split()[3:] for line in START.splitlines() if line.startswith("      python -m zobench ")]
    own = {"--config-dir", "cfg"}
    for words in (words for words in commands if not own & set(words)):
        ended = command(*words, "--cfg", "job")
        assert (ended.code, "_target_" in ended.out) == (0, True), ended.err


def test_the_list_has_every_option_of_every_group_in_a_second(tmp_path):
    zobench_process("--list", cwd=tmp_path)  # byte-compiles after an edit
    ended = zobench_process("--list", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.cpu_seconds < 1.0
    words = set(ended.out.split())
    for path in conf_dir().rglob("*.yaml"):
        group = path.parent.relative_to(conf_dir()).as_posix()
        if group.split("/")[0] not in (".", "hydra"):
            assert {group.removeprefix("defaults/"), path.stem} <= words, path
    # Every setting of config.yaml is shown with what it means.
    for name in ("seed", "steps", "forwards", "batch_size", "eval_every", "save_every", "device", "dtype"):
        assert re.search(rf"^ +{name}=\S+ +\w+", ended.out, re.M), name


@pytest.mark.parametrize("argument", ["--list", "method=mezoo"])
def test_quick_answers_import_neither_torch_nor_hydra(tmp_path, argument):
    ended = zobench_process(argument, cwd=tmp_path, python_options=("-X", "importtime"))
    imported = {line.rsplit("|", 1)[1].strip() for line in ended.err.splitlines() if line.startswith("import time:")}
    assert "yaml" in imported  # the probe works
    assert not {name.split(".")[0] for name in imported} & {"torch", "hydra", "omegaconf", "numpy", "transformers"}


@pytest.mark.parametrize(("argument", "limit_s"), [("stepz=3", 0.5), ("steps=-1", 2.0)], ids=["key", "value"])
def test_a_mistake_is_answered_before_anything_loads_and_leaves_no_folder(tmp_path, argument, limit_s):
    ended = zobench_process(argument, cwd=tmp_path)
    assert ended.code == 2
    assert argument in ended.err
    assert ended.cpu_seconds < limit_s
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("method=mezoo", "did you mean method=mezo?"),
        ("model=opt1.3b", "did you mean model=opt-1.3b?"),
        ("protocol=mezo-exact", "did you mean protocol=mezo_exact?"),
        ("experiment=nosuchthing", "no such experiment"),
        ("stepz=3", "did you mean steps?"),
        ("method.epss=1e-3", "did you mean method.eps?"),
        ("model.max_lenght=10", "did you mean model.max_length?"),
        ("steps=-1", "steps=-1: expected an integer of at least 0"),
        ("steps=1.5", "steps=1.5: expected an integer"),
        ("batch_size=0", "batch_size=0: expected an integer of at least 1"),
        ("method.lr=fast", "method.lr=fast: expected a number"),
        ("method.lr=nan", "method.lr=nan: expected a finite number"),
        ("dtype=fp16", "did you mean dtype=float16?"),
        ("device=gpu", "expected auto, cpu, cuda"),
        ("data=local", "data.dir=DIR"),
        ("task=my_tickets", "one of your own, DIR/task/my_tickets.yaml, needs --config-dir DIR"),
    ],
)
def test_a_mistake_is_answered_in_one_message(command, argument, said):
    ended = command(argument)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.startswith("zobench: ")
    assert ended.err.count("zobench: ") == 1
    assert len(ended.err.splitlines()) <= 2
    assert ended.out == ""


@pytest.mark.parametrize(
    "arguments",
    [("method=null",), ("=3",), ("~method",), ("tags=[a",), ("seed=0,1",), ("model",), ("method=",), ("--fo",)],
    ids=" ".join,
)
def test_malformed_command_lines_exit_with_2_and_no_traceback(command, arguments):
    ended = command(*arguments)
    assert "Traceback" not in ended.err
    assert "HYDRA_FULL_ERROR" not in ended.err
    assert ended.code == 2


def test_a_value_the_method_refuses_is_answered_without_traceback(command, tmp_path):
    ended = command("method.eps=0", *TINY, "runs_dir=r")
    assert (ended.code, ended.err) == (2, "zobench: method.eps=0: must be positive\n")
    assert not (tmp_path / "r").exists()


def test_an_unwritable_place_is_answered_without_traceback(command, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    ended = command(*TINY, "runs_dir=taken/r")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "taken" in ended.err


def test_cfg_job_prints_the_configuration_and_runs_nothing(tmp_path):
    ended = zobench_process("--cfg", "job", "method=adamw", "method.lr=0.5", cwd=tmp_path)
    assert ended.code == 0
    assert "_target_: zobench.methods.adamw.AdamW" in ended.out
    assert "lr: 0.5" in ended.out
    assert not (tmp_path / "runs").exists()
    assert ended.cpu_seconds < 2.0


@pytest.fixture
def own_folder(tmp_path):
    """``--config-dir`` with a method of one's own, two probes of MeZO."""
    (tmp_path / "mine" / "method").mkdir(parents=True)
    text = "# My MeZO: two probes\n_target_: zobench.methods.mezo.MeZO\nlr: 1.0e-4\nprobes: 2\neps: 1.0e-3\n"
    (tmp_path / "mine" / "method" / "twoprobes.yaml").write_text(text)
    return "--config-dir", "mine"


def test_a_folder_of_ones_own_is_known_to_the_list_and_checks(command, own_folder):
    assert "My MeZO: two probes" in command("--list", *own_folder).out
    wrong = command(*own_folder, "method=twoprobe")
    assert (wrong.code, "did you mean method=twoprobes?" in wrong.err) == (2, True)
    wrong = command(*own_folder, "method=twoprobes", "method.lr=fast")
    assert (wrong.code, "method.lr=fast: expected a number" in wrong.err) == (2, True)


def test_a_sweep_writes_one_record_per_cell_and_a_bad_cell_leaves_the_others(command, tmp_path, own_folder):
    sweep = ("-m", "method=twoprobes", "task.splits.mini.train=8,4000", "seed=0,1")
    ended = command(*own_folder, *TINY, *sweep, "runs_dir=r")
    rows = summaries(tmp_path / "r")
    assert sorted((row["state"], row["seed"]) for row in rows) == [
        ("failed", 0), ("failed", 1), ("finished", 0), ("finished", 1),
    ]  # fmt: skip
    finished = [row for row in rows if row["state"] == "finished"]
    assert {(row["method"], row["method.lr"], row["forwards"]) for row in finished} == {("twoprobes", 1e-4, 8)}
    assert len({row["directory"] for row in finished}) == len({row["weights_checksum"] for row in finished}) == 2
    assert ended.code != 0
    assert "train=4000 and dev=8 rows are wanted" in ended.err
    assert "Traceback" not in ended.err
    titles = [line for line in ended.out.splitlines() if re.match(r"cell \d of 4:", line)]
    assert titles[1] == "cell 2 of 4: sst2, tiny-opt, twoprobes, lr 0.0001, seed 1, task.splits.mini.train=8"
    assert len(titles) == 4


def test_two_spellings_of_one_folder_are_one_cell_of_a_sweep(command, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    folders = f"runs_dir=r,./r,link/r,{tmp_path}/r"
    ended = command("-m", *TINY, folders, "steps=0")
    assert "sweep of 1 cell:" in ended.out
    assert len(summaries(tmp_path / "r")) == 1


def test_a_method_without_effect_says_that_no_weight_moved(command, tmp_path):
    assert "finished: no weight moved in 2 steps" in command(*TINY, "method.eps=1e-300", "runs_dir=r").out
    (row,) = summaries(tmp_path / "r")
    assert row["weights_checksum"] == row["base_checksum"]
    assert row["reason"].startswith("no weight moved")
