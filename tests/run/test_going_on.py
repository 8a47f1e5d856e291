"""A stopped run goes on under its own settings alone; what code and libraries worked on it is said and kept."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from helpers.damage import reseal
from helpers.tiny_runs import TINY, lines_of, summary_of
from omegaconf import OmegaConf

from zobench.config.signature import compose
from zobench.errors import ConfigError, DataError
from zobench.record import inputs, trajectory
from zobench.run import provenance
from zobench.run.runner import run
from zobench.run.train import Trainer
from zobench.zo import SGD, Method

CELL = (*TINY, "steps=8", "eval_every=8", "save_every=2", "method.lr=1e-3", "out=mine")


def stopped(runs, words=CELL):
    """The directory of a run that was stopped in its fifth step."""
    step = Method.step

    def disturbed(self, closure):
        if self.t == 4:
            raise KeyboardInterrupt("SIGTERM")
        return step(self, closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Method, "step", disturbed)
        with pytest.raises(KeyboardInterrupt):
            run(compose(*words, f"runs_dir={runs}"))
    return runs / "mine"


@pytest.fixture(scope="module")
def stop(tmp_path_factory):
    return stopped(tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(compose(*CELL, f"runs_dir={tmp_path_factory.mktemp('whole')}"))


def content(directory):
    return {p.name: p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != ".lock"}


#: settings that name the run, and what is said of each
OTHERS = {
    "method.lr=1e-4": "method.lr=0.001, now 0.0001", "method.eps=1e-2": "method.eps=0.001, now 0.01",
    "method/rule=momentum": "method.rule=sgd, now momentum", "method=kerzoo": "method=mezo, now kerzoo",
    "seed=1": "seed=0, now 1", "order_seed=5": "order_seed=0, now 5", "noise_seed=5": "noise_seed=0, now 5",
    "data_seed=5": "data_seed=0, now 5", "init_seed=5": "init_seed=0, now 5", "batch_size=2": "batch_size=4, now 2",
    "steps=9": "steps=8, now 9", "eval_every=4": "eval_every=8, now 4", "dtype=bfloat16": "dtype=float32, now bfloat16",
    "micro_batch_size=2": "micro_batch_size=None, now 2", "length_buckets=2": "length_buckets=1, now 2",
    "task.splits.mini.test=6": "splits.test=8, now 6", "tuning=lora": "tuning=full, now lora",
    "protocol=mezo_exact": "protocol=clean, now mezo_exact", "model.max_length=64": "model.max_length=2048, now 64",
}  # fmt: skip


@pytest.mark.parametrize("without", [None, "summary.json", "config.yaml"])
@pytest.mark.parametrize("word", OTHERS)
def test_other_settings_are_refused_by_name(word, without, stop, tmp_path):
    directory = shutil.copytree(stop, tmp_path / "mine")
    if without:
        (directory / without).unlink()
    before = content(directory)
    words = [w for w in CELL if w.split("=")[0] != word.split("=")[0]]
    with pytest.raises(ConfigError, match=r"mine holds another run \(.*\); give this one its own") as error:
        run(compose(*words, word, f"runs_dir={tmp_path}"))
    said = OTHERS[word] if without != "config.yaml" else f"named {summary_of(stop)['config_hash']}, this is"
    assert said in str(error.value) or str(error.value).count(", now ") == 3
    assert "\n" not in str(error.value)
    assert content(directory) == before


def test_settings_that_do_not_name_the_run_may_change(stop, whole, tmp_path):
    shutil.copytree(stop, tmp_path / "mine")
    words = ("save_every=3", "log_every=2", "eval_batch_size=4", "tags=[a]", "keep_weights=true", "snapshot_minutes=0")
    row = run(compose(*TINY, "steps=8", "eval_every=8", *words, *CELL[-2:], f"runs_dir={tmp_path}"))
    assert row["weights_checksum"] == whole["weights_checksum"]


OLD = ("schema", "signature", "zobench_version", "commits", "code", "libraries")


def test_a_checkpoint_of_an_older_version_goes_on_where_its_configuration_agrees(stop, whole, tmp_path):
    directory = shutil.copytree(stop, tmp_path / "mine")
    state, row = json.loads((directory / "checkpoint/state.json").read_text()), summary_of(directory)
    assert set(OLD) < set(state)
    (directory / "checkpoint/state.json").write_text(
        json.dumps({k: v for k, v in state.items() if k not in (*OLD, "digest")})
    )
    older = {
        key: value for key, value in row.items() if key not in ("schema", "commits", "model_family", "inputs.data")
    }
    (directory / "summary.json").write_text(json.dumps(older | {"config_hash": "0123abcd"}))
    with pytest.raises(ConfigError, match=r"holds another run \(method.lr=0.001, now 0.002\)"):
        run(compose(*CELL[:-2], "method.lr=2e-3", "out=mine", f"runs_dir={tmp_path}"))
    assert run(compose(*CELL, f"runs_dir={tmp_path}"))["weights_checksum"] == whole["weights_checksum"]


def test_another_commit_version_and_library_are_said_and_kept(stop, whole, tmp_path, capsys, monkeypatch):
    directory = shutil.copytree(stop, tmp_path / "mine")
    first = summary_of(directory)
    assert first["commits"] == provenance.of(compose(*CELL)).commits({})
    libraries = (("torch", "9.9"), ("numba", "8.8"))
    monkeypatch.setattr(provenance, "_installed", lambda: ("7.7", "f" * 40 + "-dirty", libraries))
    capsys.readouterr()
    row = run(compose(*CELL, f"runs_dir={tmp_path}"))
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("going on with")]
    for word in ("zobench 7.7 (before: ", "commit ffff", "torch 9.9 (before: ", "numba 8.8 (before: "):
        assert word in said
    assert row["commits"] == [*first["commits"], "f" * 40 + "-dirty"]
    assert (row["zobench_version"], row["git_commit"]) == ("7.7", "f" * 40 + "-dirty")
    assert json.loads((directory / "environment.json").read_text())["commits"] == row["commits"]
    assert row["weights_checksum"] == whole["weights_checksum"]


def without_checkpoint(directory):
    """As a kill before the first checkpoint leaves a run."""
    shutil.rmtree(directory / "checkpoint")


def damaged_state(directory):
    (directory / "checkpoint/state.json").write_text("{")


def damaged_metrics(directory):
    (directory / "metrics.jsonl").write_text("")


@pytest.mark.parametrize("damage", [without_checkpoint, damaged_state, damaged_metrics])
def test_losses_that_other_code_has_measured_are_said_and_kept_at_every_start(
    damage, stop, whole, tmp_path, capsys, monkeypatch
):
    directory = shutil.copytree(stop, tmp_path / "mine")
    before = summary_of(directory)["commits"]
    for start, commit in ((5, "1" * 40), (7, "2" * 40)):
        damage(directory)
        monkeypatch.setattr(provenance, "_installed", lambda commit=commit: (None, commit, (("torch", "9.9"),)))
        with monkeypatch.context() as patch:
            step = Method.step

            def disturbed(self, closure, start=start, step=step):
                if self.t == start:
                    raise KeyboardInterrupt("SIGTERM")
                return step(self, closure)

            patch.setattr(Method, "step", disturbed)
            capsys.readouterr()
            with pytest.raises(KeyboardInterrupt):
                run(compose(*CELL, f"runs_dir={tmp_path}"))
        assert f"commit {commit[:20]} (before: {before[-1][:20]})" in capsys.readouterr().out
        before = [*before, commit]
        assert summary_of(directory)["commits"] == before
    damage(directory)
    row = run(compose(*CELL, f"runs_dir={tmp_path}"))
    assert row["commits"] == before
    assert row["weights_checksum"] == whole["weights_checksum"]
    assert [line["by"]["commits"] for line in lines_of(directory, "trajectory.jsonl") if isinstance(line, dict)] == [
        before[:n] for n in range(1, len(before) + 1)
    ]


def test_losses_without_a_word_on_their_code_are_measured_again(stop, whole, tmp_path):
    directory = shutil.copytree(stop, tmp_path / "mine")
    without_checkpoint(directory)
    found, chain = trajectory.read(directory / "trajectory.jsonl"), trajectory.Chain()
    head = chain._sealed({"missed": found.missed, "run": found.run}, ',"crc":')
    steps = [chain.line(n, [loss + 1 for loss in losses]) for n, losses in enumerate(found.steps, 1)]
    (directory / "trajectory.jsonl").write_text("".join([head, *steps]))
    row = run(compose(*CELL, f"runs_dir={tmp_path}"))
    assert row["weights_checksum"] == whole["weights_checksum"]


def test_code_that_makes_other_weights_of_the_same_losses_is_refused(stop, tmp_path, monkeypatch):
    """Where the weights of an evaluation are known; the rule is an edited one."""
    words = tuple(word.replace("eval_every=8", "eval_every=2") for word in CELL)
    runs = tmp_path / "runs"
    stopped(runs, words)
    content_before = content(runs / "mine")
    monkeypatch.setattr(provenance, "_installed", lambda: ("7.7", "f" * 40, ()))
    monkeypatch.setattr(SGD, "linear", False)
    monkeypatch.setattr(SGD, "__call__", lambda self, slot, estimate, state, step: 2 * estimate)
    with pytest.raises(DataError, match=r"made again to [0-9a-f]+: code, libraries or processor"):
        run(compose(*words, f"runs_dir={runs}"))
    assert content(runs / "mine") == content_before


METHOD = "from zobench.methods.mezo import MeZO\n\nclass Mine(MeZO):\n    pass\n"


def test_a_class_of_ones_own_that_was_edited_is_said_and_counts_as_other_code(tmp_path, capsys, monkeypatch):
    (tmp_path / "my_methods.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    words = (*CELL, "++method._target_=my_methods.Mine")
    stopped(tmp_path, words)
    (tmp_path / "my_methods.py").write_text(METHOD + "# edited\n")
    inputs.code_of.cache_clear()
    capsys.readouterr()
    row = run(compose(*words, f"runs_dir={tmp_path}"))
    assert "going on with other code of my_methods.Mine" in capsys.readouterr().out
    assert len(row["commits"]) == 2


def test_other_code_of_one_dirty_tree_counts_as_another():
    mine = provenance.Provenance("0123abcd", "1.0", "abc-dirty", "code1", {"torch": "2"})
    saved = mine.saved(mine.commits({}))
    assert mine.since(saved) is None
    assert mine.commits(saved) == ["abc-dirty"]
    edited = provenance.Provenance("0123abcd", "1.0", "abc-dirty", "code2", {"torch": "2"})
    assert edited.commits(saved) == ["abc-dirty", "abc-dirty"]
    assert "other code of the same commit abc-dirty" in edited.since(saved)
    wheel = provenance.Provenance("0123abcd", "1.0", None, "code1", {"torch": "2"})
    assert wheel.commits(saved) == ["abc-dirty", "zobench 1.0"]


def test_two_settings_of_one_name_are_told_apart(whole, tmp_path):
    """A name has 32 bits: here the stored settings are others, and yet of the run's name."""
    directory = shutil.copytree(whole["directory"], tmp_path / "mine")
    cfg = OmegaConf.load(directory / "config.yaml")
    cfg.method.lr = 0.5
    OmegaConf.save(cfg, directory / "config.yaml")
    reseal(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zobench.record.lookup.digest", lambda settings: whole["config_hash"])
        with pytest.raises(ConfigError, match=r"holds another run \(method.lr=0.5, now 0.001\)"):
            run(compose(*CELL, f"runs_dir={tmp_path}"))


def test_a_row_names_its_model_and_texts_from_the_start(whole, stop, tmp_path):
    names = ("model_family", "model_parameters", "model_checksum", "tokenizer_hash", "rows_hash", "prompt_hash")
    assert whole["model_family"] == "opt"
    assert whole["model_parameters"] == whole["parameters"]
    for row in (summary_of(stop), summary_of(Path(whole["directory"]))):
        assert {name: row[name] for name in names} == {name: whole[name] for name in names}
    # The model is known as it was loaded, whatever trains of it and from whichever seed.
    for words in (["tuning=lora"], ["tuning=lora", "init_seed=3"], ["tuning=last_layers", "tuning.layers=1"]):
        row = run(compose(*CELL[:-1], *words, "steps=1", f"runs_dir={tmp_path}"))
        assert {name: row[name] for name in names} == {name: whole[name] for name in names}


def test_a_run_that_was_stopped_before_its_first_step_goes_on_from_there(whole, tmp_path):
    train = Trainer.run

    def stopped_at_once(self, stop, report):
        with stop.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            train(self, stop, report)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", stopped_at_once)
        with pytest.raises(KeyboardInterrupt):
            run(compose(*CELL, f"runs_dir={tmp_path}"))
    saved = json.loads((tmp_path / "mine/checkpoint/state.json").read_text())
    row = run(compose(*CELL, f"runs_dir={tmp_path}"))
    assert (saved["step"], summary_of(tmp_path / "mine")["restarts"]) == (0, 1)
    assert row["weights_checksum"] == whole["weights_checksum"]
    assert [line["step"] for line in lines_of(tmp_path / "mine") if "zero_shot/test/loss" in line] == [0]
