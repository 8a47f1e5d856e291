"""Options of a user's own: files that are not plain settings, classes that are none, and what Hydra must not run."""

import pytest
from helpers import commands

TINY = (
    "model=tiny-opt", "data=mini", "wandb=disabled", "steps=1", "batch_size=2",
    *(f"task.splits.mini.{part}=4" for part in ("train", "dev", "test")),
)  # fmt: skip
CLASS = "_target_: zobench.methods.mezo.MeZO\nlr: 1.0e-4\n"
BOMB = "a: &a [1,2,3,4,5,6,7,8,9]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = {
    "a tab": b"_target_: x.Y\n\tlr: 1\n",
    "a tag of Python": b"lr: !!python/object/apply:os.getcwd []\n",
    "a binary byte": b"lr: \x00\x01\n",
    "a list": b"- lr\n- eps\n",
    "a number": b"5\n",
    "a key twice": b"lr: 1\nlr: 2\n",
    "Latin-1": "# m\xfcde\nlr: 1\n".encode("latin-1"),
    "two documents": b"lr: 1\n---\nlr: 2\n",
    "aliases that grow": BOMB.encode(),
    "an alias of itself": b"a: &a\n  b: *a\n",
    "deep": b"a: " + b"[" * 5000 + b"]" * 5000,
    "huge": b"a: 1\n#" + b"x" * 1_100_000,
    "a date that is none": b"lr: 2001-13-45\n",
    "defaults that are no list": b"defaults: 5\n_target_: zobench.methods.mezo.MeZO\nlr: 1.0\n",
    "the environment": CLASS.encode() + b"eps: ${oc.env:HOME}\n",
    "nothing": b"",
}
TARGETS = (
    "os.path", "math.pi", "builtins.eval", "os.path.join", "..", "5", "null", "[a]", "{a: 1}", "''", "nosuch.Class",
    "a b.C", "zobench.tasks.template.TemplateTask", "zobench.zo.Method.step", "builtins.dict", "zobench.zo.rules.SGD",
)  # fmt: skip


def with_file(tmp_path, place, content):
    path = tmp_path / "mine" / f"{place}.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def run(tmp_path, *arguments):
    return commands.command("zobench", *TINY, "--config-dir", "mine", *arguments, cwd=tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_plain_settings_is_named_in_a_line(tmp_path, name):
    path = with_file(tmp_path, "method/own", FILES[name])
    ended = run(tmp_path, "method=own")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert path.relative_to(tmp_path).as_posix() in ended.stderr or name == "nothing"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_no_method_is_refused_in_a_line(tmp_path, target):
    with_file(tmp_path, "method/own", f"_target_: {target}\nlr: 1.0e-4\n")
    ended = run(tmp_path, "method=own")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "method._target_=" in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("target", ["zobench.tasks.base.Task", "own_tasks.Empty"])
def test_a_task_that_says_nothing_is_refused(tmp_path, monkeypatch, target):
    (tmp_path / "own_tasks.py").write_text("from zobench.tasks.base import Task\n\n\nclass Empty(Task):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    fields = "hub: x\nsubset: x\nrevision: x\nrows: {}\nsplits: {clean: {train: 1, dev: 1, test: 1}}\n"
    with_file(tmp_path, "task/own", f"_target_: {target}\n{fields}")
    ended = commands.command("zobench", "model=tiny-opt", "task=own", "--config-dir", "mine", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert f"task._target_={target}" in ended.stderr


def test_a_class_of_ones_own_is_asked_before_a_sweep_starts(tmp_path, monkeypatch):
    (tmp_path / "own_methods.py").write_text(
        "from zobench.methods.mezo import MeZO\nfrom zobench.zo.checks import within\n\n\n"
        "class Mine(MeZO):\n    def __init__(self, named, *, share: float, **common):\n"
        '        within("[0, 1]", share=share)\n        super().__init__(named, **common)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    with_file(tmp_path, "method/own", "_target_: own_methods.Mine\nlr: 1.0e-4\nshare: 0.5\n")
    ended = run(tmp_path, "-m", "method=own", "method.share=0.5,2")
    assert (ended.returncode, ended.stderr) == (2, "zobench: method.share=2: must lie in [0, 1]\n")
    assert not (tmp_path / "runs").exists()
    assert run(tmp_path, "method=own").returncode == 0


FOREIGN = {
    "a preset": ("experiment/nice", "# @package _global_\nhydra:\n  callbacks:\n    x: {CALL}\n", "experiment=nice"),
    "a package": ("experiment/nice", "# @package hydra.callbacks.x\n{LINES}", "experiment=nice"),
    "a group of Hydra's": ("hydra/callbacks/nice", "x: {CALL}\n", "hydra/callbacks=nice"),
    "a launcher": ("hydra/launcher/nice", "{LINES}", "hydra/launcher=nice"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_preset_has_hydra_run_nothing_of_others(tmp_path, name):
    place, text, choice = FOREIGN[name]
    call = "{_target_: builtins.open, file: made, mode: w}"
    lines = "_target_: builtins.open\nfile: made\nmode: w\n"
    with_file(tmp_path, place, text.replace("{CALL}", call).replace("{LINES}", lines))
    ended = run(tmp_path, *(["-m"] if "launcher" in choice else []), choice)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "builtins.open: code of others" in ended.stderr
    assert not (tmp_path / "made").exists()
    if name == "a preset":
        run(tmp_path, choice, "--allow-foreign")
        assert (tmp_path / "made").exists()
