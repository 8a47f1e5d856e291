"""Records from which something was taken out, or in which nothing of the files says what an answer is worth."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import forged
from helpers.commands import command
from helpers.damage import reseal
from helpers.verified import made, verdict, verify

from zobench.record import digests, predictions
from zobench.run.rebuild import rebuild
from zobench.run.remeasure import Remeasured
from zobench.run.row import named, result
from zobench.system.console import Console


@pytest.fixture(scope="module")
def sst2(tmp_path_factory):
    """A run that selects its last step; which rates do, hangs on how a processor rounds."""
    folder = tmp_path_factory.mktemp("sst2")
    rates = (1e-2, 3e-2, 3e-3, 1e-3, 2e-2, 5e-3, 1e-1, 3e-4)
    records = (made(folder, "task=sst2", "method=mezo", f"method.lr={rate}") for rate in rates)
    return next(record for record in records if forged.row(record)["best_step"] == 6)


@pytest.fixture(scope="module")
def squad(tmp_path_factory):
    return made(tmp_path_factory.mktemp("squad"), "task=squad", "method=mezo")


@pytest.fixture
def copy(sst2, tmp_path):
    return Path(shutil.copytree(sst2, tmp_path / "runs" / sst2.name))


@pytest.fixture
def copy_of_squad(squad, tmp_path):
    return Path(shutil.copytree(squad, tmp_path / "runs" / squad.name))


def take_out(record, *names):
    """A row without some columns, under a digest that fits."""
    plain = {name: value for name, value in forged.row(record).items() if name not in (*names, digests.ROW)}
    (record / "summary.json").write_text(json.dumps(digests.sealed(plain)))


def write_results(record, values, without=()):
    """Results in the row and in the last line of the metrics."""
    forged.write_row(record, **values)
    take_out(record, *without)
    *before, last = forged.lines(record)
    last |= {f"final/{name}": value for name, value in values.items() if f"final/{name}" in last}
    forged.write_lines(record, [*before, {k: v for k, v in last.items() if k.removeprefix("final/") not in without}])
    reseal(record)


def say_all_right(record, *metrics, without=()):
    """Worth 1, every answer to a test example; the answers and their scores stay."""
    table = pq.read_table(record / "predictions.parquet").to_pylist()
    for example in table:
        if example["split"] == "test":
            example |= {name: 1.0 for name in ("score", "exact_match") if name in example}
    pq.write_table(pa.Table.from_pylist(table), record / "predictions.parquet")
    values = {"test_metric": 1.0, "test_metric_stderr": 0.0}
    values |= {f"test/{name}": 1.0 for name in metrics} | {f"test/{name}_stderr": 0.0 for name in metrics}
    write_results(record, values, without)


def test_what_a_generated_answer_is_worth_is_made_again(copy_of_squad):
    say_all_right(copy_of_squad, "f1", "exact_match")
    assert "its answer has 0.0" in verdict(copy_of_squad)["differs"][0]


def test_what_an_answer_is_worth_is_made_again_where_the_record_does_not_say_that_options_are_classes(copy):
    names = ("majority", "macro_f1", "mcc", "macro_f1_stderr", "mcc_stderr")
    say_all_right(copy, "accuracy", without=[f"{split}/{name}" for split in ("dev", "test") for name in names])
    assert "its answer has 0.0" in verdict(copy)["differs"][0]


def test_a_loss_that_is_none_of_the_options_is_made_again(copy_of_squad):
    write_results(copy_of_squad, {"test/loss": 0.5})
    assert "test/loss=0.5, but the weights give" in verdict(copy_of_squad)["differs"][0]


def test_the_result_is_of_the_metric_of_the_task(copy):
    said = forged.row(copy)
    result_of = {
        f"{split}_metric{end}": said[f"{split}/auc{end}"] for split in ("dev", "test") for end in ("", "_stderr")
    }
    forged.write_row(copy, metric="auc", **result_of)
    assert verdict(copy, "--no-replay")["differs"] == [
        "summary.json: metric=auc, but config.yaml makes it accuracy",
    ]


def choose(record, step):
    """The weights of another step as those that were tested, with their predictions and all that follows from them."""
    rebuilt = rebuild(str(record), str(step), Console(quiet=True))
    found = Remeasured(rebuilt).scores()
    predictions.write({split: of.predictions for split, of in found.items()}, record / predictions.NAME)
    values = {name: v for split, of in found.items() for name, v in named(split, of.values).items()}
    of_step = {"best_step": step, "best_forwards": 2 * step, "best_weights_checksum": rebuilt.checksum}
    write_results(record, values | result("accuracy", found["dev"], found["test"]) | of_step)


def test_a_step_that_dev_does_not_select_is_refuted_whatever_the_row_leaves_out(copy):
    choose(copy, 2)
    differs = "best_step=2, but dev selects step 6"
    assert differs in verdict(copy)["differs"][0]
    take_out(copy, "trains", "eval_every")
    assert differs in verdict(copy)["differs"][0]
    forged.write_row(copy, trains=False)
    assert "trains=False, but config.yaml makes it True" in verdict(copy)["differs"][0]


@pytest.mark.parametrize(("name", "value"), [("eval_every", 6), ("trains", False), ("dtype", "bfloat16")])
def test_what_follows_from_the_settings_is_that(copy, name, value):
    forged.write_row(copy, **{name: value})
    assert f"{name}={value}, but config.yaml " in verdict(copy, "--no-replay")["differs"][0]


def test_dev_evaluations_that_were_taken_out_are_missed_though_the_row_does_not_say_how_many(copy):
    forged.write_lines(copy, [line for line in forged.lines(copy) if line["step"] == 6 or "dev/loss" not in line])
    take_out(copy, "eval_every")
    reseal(copy)
    assert "dev evaluations of 1 steps, expected 3, every 2" in verdict(copy, "--no-replay")["differs"][0]


def test_a_dev_evaluation_without_a_loss_is_none(copy):
    lines = [{k: v for k, v in line.items() if k != "dev/loss" or line["step"] != 4} for line in forged.lines(copy)]
    forged.write_lines(copy, lines)
    reseal(copy)
    assert "expected 3, every 2" in verdict(copy, "--no-replay")["differs"][0]


def test_scores_are_held_to_the_rounding_of_the_settings_dtype(copy):
    table = pq.read_table(copy / "predictions.parquet").to_pylist()
    for example in table:
        example["scores"] = [score + 0.05 for score in example["scores"]]  # which changes no answer and no loss
    pq.write_table(pa.Table.from_pylist(table), copy / "predictions.parquet")
    take_out(copy, "dtype")
    reseal(copy)
    assert "its scores are 0.05 nats from those of the weights" in verdict(copy)["differs"][0]


def test_weights_without_a_checksum_are_not_said_to_be_those_of_the_run(copy):
    take_out(copy, "weights_checksum")
    found = verdict(copy)
    assert found["verdict"] == "consistent"
    assert found["unverified"]["weights"] == "summary.json has no weights_checksum to compare them with"


def test_a_value_of_the_row_that_its_metrics_lack_is_refuted(copy):
    first, *rest = forged.lines(copy)
    forged.write_lines(copy, [{k: v for k, v in first.items() if k != "zero_shot/test/accuracy"}, *rest])
    reseal(copy)
    assert "zero_shot/test/accuracy=" in verdict(copy, "--no-replay")["differs"][0]


def test_a_verdict_is_a_line_whatever_its_folder_is_called(copy, tmp_path):
    shutil.copytree(copy, tmp_path / "odd" / "a\nverified     0.1 s  runs: b")
    printed = verify(tmp_path / "odd", "--no-replay")[0].stdout.splitlines()
    assert [line.partition(" ")[0] for line in printed[:2]] == ["consistent", ""]
    assert "a\\nverified" in printed[0]


def test_a_file_that_cannot_be_written_is_told_before_the_work(copy):
    ended = command("zobench.verify", str(copy), "--json", "nowhere/found.json", cwd=copy)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--json nowhere/found.json: no such folder as nowhere; make it first" in ended.stderr
