"""The command line as a newcomer meets it: help, mistakes, a folder of one's own, a sweep. Real processes."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import zobench
from zobench.config.folders import conf_dir

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
    cpu_seconds: float


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


def summaries(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("summary.json"))]


def test_help_lists_every_option_of_every_group_in_a_second(tmp_path):
    zobench_process("--help", cwd=tmp_path)  # byte-compiles after an edit
    ended = zobench_process("--help", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.cpu_seconds < 1.0
    words = set(ended.out.split())
    for path in conf_dir().rglob("*.yaml"):
        group = path.parent.relative_to(conf_dir()).as_posix()
        if group.split("/")[0] not in (".", "hydra"):
            assert {group, path.stem} <= words, path
    # Every setting of config.yaml is shown with what it means.
    for name in ("seed", "steps", "forwards", "batch_size", "eval_every", "save_every", "device", "dtype"):
        assert re.search(rf"^ +{name}=\S+ +\w+", ended.out, re.M), name


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["method=mezoo"], ["stepz=3"]])
def test_quick_answers_import_neither_torch_nor_hydra(tmp_path, arguments):
    ended = zobench_process(*arguments, cwd=tmp_path, python_options=("-X", "importtime"))
    imported = {line.rsplit("|", 1)[1].strip() for line in ended.err.splitlines() if line.startswith("import time:")}
    assert "yaml" in imported  # the probe works
    assert not {name.split(".")[0] for name in imported} & {"torch", "hydra", "omegaconf", "numpy", "transformers"}


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("method=mezoo", "did you mean method=mezo?"),
        ("model=opt1.3b", "did you mean model=opt-1.3b?"),
        ("task=sst-2", "did you mean task=sst2?"),
        ("tuning=lorra", "did you mean tuning=lora?"),
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
    ],
)
def test_a_mistake_is_answered_in_one_message_before_anything_loads(tmp_path, argument, said):
    ended = zobench_process(argument, cwd=tmp_path)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.startswith("zobench: ")
    assert ended.err.count("zobench: ") == 1
    assert len(ended.err.splitlines()) <= 2
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert ended.cpu_seconds < 2.0


def test_a_mistake_leaves_no_folder_behind(tmp_path):
    zobench_process("steps=-1", cwd=tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [("method=null",), ("=3",), ("~method",), ("tags=[a",), ("seed=0,1",), ("model",), ("method=",), ("--fo",)],
    ids=" ".join,
)
def test_malformed_command_lines_exit_with_2_and_no_traceback(tmp_path, arguments):
    ended = zobench_process(*arguments, cwd=tmp_path)
    assert "Traceback" not in ended.err
    assert "HYDRA_FULL_ERROR" not in ended.err
    assert ended.code == 2


def test_a_value_the_method_refuses_is_answered_without_traceback(tmp_path):
    ended = zobench_process("method.eps=0", *TINY, "runs_dir=r", cwd=tmp_path)
    assert (ended.code, ended.err) == (2, "zobench: method.eps=0: must be positive\n")
    (row,) = summaries(tmp_path / "r")
    assert (row["state"], "method.eps=0: must be positive" in row["reason"]) == ("failed", True)


def test_an_unwritable_place_is_answered_without_traceback(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    ended = zobench_process(*TINY, "runs_dir=taken/r", cwd=tmp_path)
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


def test_a_folder_of_ones_own_adds_a_method(tmp_path):
    (tmp_path / "mine" / "method").mkdir(parents=True)
    own = "# My MeZO: two probes\n_target_: zobench.methods.mezo.MeZO\nlr: 1.0e-4\nprobes: 2\n"
    (tmp_path / "mine" / "method" / "twoprobes.yaml").write_text(own)
    assert "My MeZO: two probes" in zobench_process("--help", "--config-dir", "mine", cwd=tmp_path).out
    ended = zobench_process("--config-dir", "mine", "method=twoprobes", *TINY, "runs_dir=r", cwd=tmp_path)
    assert ended.code == 0, ended.err
    (row,) = summaries(tmp_path / "r")
    assert (row["method"], row["method.lr"], row["forwards"]) == ("twoprobes", 1e-4, 8)

    wrong = zobench_process("--config-dir", "mine", "method=twoprobe", cwd=tmp_path)
    assert (wrong.code, "did you mean method=twoprobes?" in wrong.err) == (2, True)
    wrong = zobench_process("--config-dir", "mine", "method=twoprobes", "method.lr=fast", cwd=tmp_path)
    assert (wrong.code, "method.lr=fast: expected a number" in wrong.err) == (2, True)


def test_a_sweep_writes_one_record_per_cell(tmp_path):
    ended = zobench_process("-m", "seed=0,1", *TINY, "runs_dir=r", cwd=tmp_path)
    assert ended.code == 0, ended.err
    rows = summaries(tmp_path / "r")
    assert sorted(row["seed"] for row in rows) == [0, 1]
    assert {row["state"] for row in rows} == {"finished"}
    assert len({row["directory"] for row in rows}) == len({row["weights_checksum"] for row in rows}) == 2


def test_a_bad_cell_of_a_sweep_leaves_the_others_and_no_traceback(tmp_path):
    ended = zobench_process("-m", "method.eps=0,1e-3", *TINY, "runs_dir=r", cwd=tmp_path)
    assert sorted(row["state"] for row in summaries(tmp_path / "r")) == ["failed", "finished"]
    assert ended.code != 0
    assert "method.eps=0: must be positive" in ended.err
    assert "Traceback" not in ended.err
