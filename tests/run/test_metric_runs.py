"""Whole runs that maximise a score: what the row says, how they go on, are made again, and are shared out."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers import stopped
from helpers.commands import command
from helpers.team import as_torchrun_does, assert_same_bits, directory_of
from helpers.tiny_runs import TINY, lines_of, summary_of
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from zobench import replay, report
from zobench.config.folders import conf_dir
from zobench.config.signature import compose, differences, digest, register
from zobench.errors import ConfigError
from zobench.estimate.prices import Prices
from zobench.record import configs, predictions
from zobench.report.compare.comparable import Mixed
from zobench.run.budget import Spending
from zobench.run.rebuild import rebuild
from zobench.run.runner import run
from zobench.sweep.plan import Planner
from zobench.system.console import Console

CHOICE = ("objective=metric", "method.eps=0.1", "method.lr=1e-3")
ANSWER = (*CHOICE, "task=squad", "objective.max_new_tokens=3", "objective.score=helpers.scored.short")


def done(folder, *settings):
    return run(compose(*TINY, "steps=6", *settings, f"runs_dir={folder}"))


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """The row of a run that maximises a function of generated text."""
    return done(tmp_path_factory.mktemp("answered"), *ANSWER)


def test_the_row_says_what_was_maximised(answered):
    assert (answered["objective"], answered["metric"]) == ("metric", "score")
    assert answered["objective.score"] == "helpers.scored.short"
    assert answered["test_metric"] == answered["test/score"]
    assert 0 < answered["zero_shot/dev/score"] <= 1
    scores = [each["score"] for each in predictions.read(Path(answered["directory"]), "test")]
    assert sum(scores) / len(scores) == pytest.approx(answered["test/score"], abs=1e-12)


def test_its_losses_are_one_minus_the_score_and_count_as_so_many_forward_passes(answered):
    _, *lines = lines_of(answered["directory"], "trajectory.jsonl")
    losses = torch.tensor([line[1:-1] for line in lines], dtype=torch.float64)
    assert losses.shape == (6, 2)
    assert ((losses >= 0) & (losses <= 1)).all()
    assert len(losses.unique()) > 2
    assert answered["forwards"] == 6 * 2 * 3


def test_a_budget_of_forward_passes_pays_for_whole_steps_and_plans_know_them(tmp_path):
    settings = (*TINY, *ANSWER, "forwards=20")
    row = run(compose(*settings, f"runs_dir={tmp_path}"))
    assert (row["steps"], row["forwards"]) == (3, 18)
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        load = lambda words: hydra_compose("config", overrides=words, return_hydra_config=True)  # noqa: E731
        (cell,) = Planner(load, [conf_dir()]).cells([list(settings)])
    assert Prices().of(cell) == Spending(3, 18, 0)
    with pytest.raises(ConfigError, match=r"^forwards=5: one step of this method takes 6$"):
        run(compose(*settings[:-1], "forwards=5", f"runs_dir={tmp_path}"))


def test_the_default_names_no_run_and_a_score_does():
    plain, scored, other = (settings_of(*more) for more in ((), CHOICE, (*CHOICE, "objective.max_new_tokens=3")))
    names = [settings.pop("out").rpartition("/")[2] for settings in (plain, scored, other)]
    assert len({*names}) == 3
    del plain["objective"], plain["choices"]["objective"]  # as earlier versions stored it
    assert [digest(settings) for settings in (plain, scored, other)] == names
    assert "objective=None, now metric" in differences(plain, scored)


def settings_of(*more):
    return OmegaConf.to_container(compose("task=sst2", *more), resolve=True)


def test_an_edited_score_is_another_one_although_its_name_is_the_same(tmp_path, monkeypatch):
    words = "zobench", *TINY, *CHOICE, "task=sst2", "steps=2", "objective.score=mine.score"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def ended(source, *more):
        (tmp_path / "mine.py").write_text(source)
        monkeypatch.delitem(sys.modules, "mine", raising=False)  # as a new process has it
        return command(*words, *more, cwd=tmp_path)

    half, whole = (f"def score(answer, example):\n    return {value}\n" for value in (0.5, 1))
    assert ended(half).returncode == 0
    assert "score: mine.score" in ended(f"other = 1\n\n\n{half}").stdout  # its own lines are the same
    refused = ended(whole)
    assert refused.returncode == 1
    assert "objective.score=mine.score has other code than the run was made with" in refused.stderr
    assert ended(whole, "noise_seed=1").returncode == 0
    with pytest.raises(Mixed, match=r"objective\.score_code"):
        report.tables(report.load(tmp_path / "runs"))


def test_it_is_made_again_without_calling_the_function(answered, capsys):
    assert rebuild(answered["directory"], "last", Console(), replay=True).checksum == answered["weights_checksum"]
    assert replay.main([answered["directory"]]) == 0


def test_a_strangers_record_runs_no_score(answered, tmp_path, monkeypatch, capsys):
    theirs = tmp_path / "theirs"
    shutil.copytree(answered["directory"], theirs)
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = (theirs / configs.NAME).read_text().replace("helpers.scored.short", "planted.score")
    codes = []
    for each in (text, text.replace("zobench.objective.criterion.Score", "planted.Score")):
        (theirs / configs.NAME).write_text(each)
        row = summary_of(theirs) | {"objective.score": "planted.score"}
        (theirs / "summary.json").write_text(json.dumps(row))  # without digests, as a stranger would write it
        row["config_hash"] = digest(configs.read(theirs))
        (theirs / "summary.json").write_text(json.dumps(row))
        codes.append(replay.main([str(theirs)]))
        assert len(report.load(theirs)) == 1
    assert codes == [0, 1]
    assert "objective is of planted.Score, not of zobench's own" in capsys.readouterr().err
    assert "planted" not in sys.modules


@pytest.mark.parametrize("kind", ["trajectory", "snapshots"])
@pytest.mark.parametrize("settings", [CHOICE, ANSWER], ids=["options", "text"])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, kind, settings):
    settings = (*settings, *stopped.KINDS[kind])
    whole = stopped.whole(tmp_path / "whole", *settings)
    directory = stopped.stopped(tmp_path / "stopped", *settings)
    row = stopped.go_on(tmp_path / "stopped", *settings)
    assert stopped.facts(row, directory) == stopped.facts(summary_of(whole), whole)


def both(folder, *settings):
    """Two processes as torchrun starts them: the row of their run."""
    runs = folder / "two"
    ends = as_torchrun_does(folder, *TINY, "steps=6", *settings, f"runs_dir={runs}")
    assert [code for code, _, _ in ends] == [0, 0], ends
    return summary_of(directory_of(runs))


def test_processes_share_the_losses_to_the_bit(tmp_path):
    settings = (*CHOICE, "method.mode=exact", "parallel=queries", "method=loren")
    assert_same_bits(both(tmp_path, *settings), done(tmp_path / "one", *settings))


def test_processes_share_a_batch(tmp_path):
    settings = (*ANSWER[:-1], "parallel=data")
    shared, alone = both(tmp_path, *settings), done(tmp_path / "one", *settings)
    for name in ("forwards", "tokens_seen", "examples_seen"):
        assert shared[name] == alone[name]


METHODS = {"loren": "", "fzoo": "", "grzo": "", "agzo": "", "mezo_svrg": "", "mezo": "method.distribution=low_rank"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("settings", [CHOICE, ANSWER], ids=["options", "text"])
def test_any_method_of_forward_passes_maximises_it(tmp_path, method, settings):
    more = METHODS[method].split()
    row = done(tmp_path, *settings, f"method={method}", *more, "micro_batch_size=3", "steps=2")
    assert row["state"] == "finished"
    assert row["steps"] == 2


def test_tables_do_not_mix_objectives_unasked(tmp_path, answered):
    done(tmp_path, "task=squad", "steps=2")
    shutil.copytree(answered["directory"], tmp_path / "scored")
    ended = command("zobench.report", str(tmp_path), cwd=tmp_path)
    assert "objective (" in ended.stdout + ended.stderr
