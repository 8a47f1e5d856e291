"""Runs held against their records: what is made again, and that a record which was edited is refuted."""

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import forged
from helpers.commands import command
from helpers.damage import SWAPS, reseal, swap
from helpers.tiny_runs import TINY
from helpers.verified import made, verdict, verify

from zobench.config.signature import compose
from zobench.record import configs, packing
from zobench.record.archive import FILES
from zobench.run.runner import run

SST2 = ("task=sst2", "method.lr=1e-3")


@pytest.fixture(scope="module")
def mezo(tmp_path_factory):
    """A finished run of six steps."""
    return made(tmp_path_factory.mktemp("mezo"), *SST2, "method=mezo")


@pytest.fixture
def copy(mezo, tmp_path):
    return Path(shutil.copytree(mezo, tmp_path / "runs" / mezo.name))


def test_a_run_is_made_again_from_its_losses_and_scored_again(mezo, tmp_path):
    found = verdict(mezo)
    assert found["verdict"] == "verified"
    assert found["verified"] == ["files", "name", "budget", "selection", "values", "scores", "losses", "weights"]
    assert found["test_metric"] == pytest.approx(forged.row(mezo)["test_metric"])
    packing.pack({"sst2/mezo/1234": mezo}, tmp_path / "runs.zip")
    assert verdict(tmp_path / "runs.zip")["verdict"] == "verified"


@pytest.mark.parametrize(
    "overrides", [("method=pgap", "method.rank=2"), ("method=loren", "tuning=lora"), ("method=zeroshot",)], ids=str
)
def test_runs_of_other_kinds_are_verified(tmp_path, overrides):
    words = overrides if "method=zeroshot" not in overrides else (*overrides, "~method.lr")
    folder = (
        made(tmp_path, *SST2, *overrides)
        if "method=zeroshot" not in overrides
        else Path(run(compose(*TINY, "task=sst2", *words[:1], f"runs_dir={tmp_path}"))["directory"])
    )
    assert verdict(folder)["verdict"] == "verified"


def test_files_alone_make_no_run_verified(mezo):
    found = verdict(mezo, "--no-replay")
    assert (found["verdict"], found["unverified"]["weights"]) == ("consistent", "not asked for")
    assert "values" in found["verified"]
    assert verdict(mezo, "--sample", "0")["verdict"] == "consistent"
    assert verdict(mezo, "--sample", "1")["verdict"] == "verified"


def test_a_first_order_run_is_scored_from_its_kept_weights_and_stays_consistent(tmp_path):
    found = verdict(made(tmp_path, *SST2, "method=adamw"))
    assert found["verdict"] == "consistent"
    assert "steps by gradients" in found["unverified"]["weights"]
    assert "scores" in found["verified"]


def test_without_its_model_a_run_is_consistent(copy):
    settings = configs.read(copy)
    settings["model"] |= {"_target_": "zobench.models.hub.HubModel", "id": "no/model", "dir": "/nowhere"}
    for extra in set(settings["model"]) - {"_target_", "id", "dir", "max_length", "start_token", "lora_targets"}:
        del settings["model"][extra]
    forged.rename(copy, settings)
    found = verdict(copy)
    assert found["verdict"] == "consistent"
    assert "/nowhere" in found["unverified"]["weights"]


def edit_row(**values):
    """An edit of values of the row alone."""

    def edit(record):
        said = forged.row(record)
        (record / "summary.json").write_text(json.dumps(said | {k: f(said) for k, f in values.items()}, indent=1))

    return edit


def edit_settings(change):
    """An edit of the settings, with the row's columns of the same names."""

    def edit(record):
        settings = configs.read(record)
        change(settings)
        (record / configs.NAME).write_text(yaml.safe_dump(settings, sort_keys=False))
        said = forged.row(record)
        columns = {name: settings[name] for name in ("seed", "noise_seed")}
        (record / "summary.json").write_text(json.dumps(said | columns, indent=1))

    return edit


def edit_predictions(record):
    table = pq.read_table(record / "predictions.parquet").to_pylist()
    wrong = next(row for row in table if row["split"] == "test" and row["prediction"] != row["gold"])
    wrong |= {"prediction": wrong["gold"], "score": 1.0}
    pq.write_table(pa.Table.from_pylist(table), record / "predictions.parquet")


def edit_losses(record):
    path = record / "trajectory.jsonl"
    path.write_text(re.sub(r"^\[3,[^,]*", "[3,0.5", path.read_text(), flags=re.M))


def edit_lines(name, change):
    def edit(record):
        forged.write_lines(record, [line | {name: change(line[name])} if name in line else line
                                    for line in forged.lines(record)])  # fmt: skip

    return edit


#: what is edited, and what is said of it where the seals were made anew
EDITS = {
    "a metric": (edit_row(**{"test_metric": lambda row: 1.0, "test/accuracy": lambda row: 1.0}), "test/accuracy=1.0"),
    "a standard error": (edit_row(test_metric_stderr=lambda row: 1e-3), "test_metric_stderr=0.001"),
    "the zero-shot metric": (edit_row(**{"zero_shot/test/accuracy": lambda row: 0.0}), "zero_shot/test/accuracy=0.0"),
    "predictions": (edit_predictions, "another answer than the option with the highest score"),
    "a loss": (edit_losses, "its checksum does not fit"),
    "a seed of the row": (edit_row(seed=lambda row: 7), "seed=7, but config.yaml has 0"),
    "a seed": (edit_settings(lambda of: of.update(seed=7, noise_seed=7)), "its settings are those of a run"),
    "the budget of the row": (edit_row(forwards=lambda row: 6), "it ends at forwards 12, but forwards=6"),
    "the budget": (edit_settings(lambda of: of.update(steps=3)), "its settings are those of a run"),
    "another model": (edit_row(model_checksum=lambda row: "0" * 16), "of other settings, rows or weights"),
    "other rows": (edit_row(rows_hash=lambda row: "0" * 16), "of other settings, rows or weights"),
    "the selected step": (edit_row(best_step=lambda row: 2 if row["best_step"] != 2 else 4), "but dev selects step"),
    "a dev loss": (edit_lines("dev/loss", lambda loss: loss + 0.1), "dev/loss="),
    "a training loss": (edit_lines("train/loss", lambda loss: loss / 2), "train/loss="),
    "a learning rate": (edit_lines("lr", lambda lr: lr / 2), "lr=0.0005"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_record_is_refuted_by_its_seals(copy, name):
    EDITS[name][0](copy)
    found = verdict(copy, "--no-replay")
    assert found["verdict"] == "refuted"
    assert "changed since the run wrote it" in found["differs"][0] or "checksum" in found["differs"][0]


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_record_with_seals_made_anew_is_refuted(copy, name):
    edit, said = EDITS[name]
    edit(copy)
    reseal(copy)
    found = verdict(copy)
    assert found["verdict"] == "refuted"
    assert said in " ".join(found["differs"])


def shifted(steps):
    steps[2][1] += 0.01


def reseeded(record):
    settings = configs.read(record)
    settings |= {"seed": 7, "noise_seed": 7}
    forged.write_row(record, seed=7, noise_seed=7)
    forged.rename(record, settings)


def halved(record):
    """Half the steps are said, and half the forward passes, over the losses of all."""
    settings = configs.read(record)
    forged.rename(record, settings | {"steps": 3})
    forged.write_row(record, steps=3, forwards=6)


def of_another_model(record):
    forged.write_row(record, model_checksum="0" * 16, base_checksum="0" * 16)
    forged.rechain(record)


#: forgeries in which the record agrees with itself, and what is said once weights and scores are made again
FORGERIES = {
    "a metric, by its predictions": (forged.answer_rightly, "nats from those of the weights"),
    "a loss": (lambda record: forged.rechain(record, shifted), "but the losses make weights"),
    "a seed": (reseeded, "but the losses make weights"),
    "a budget": (halved, "metrics.jsonl: it ends at step 6, but steps=3"),
    "another model": (of_another_model, "base model whose weights hash to 0000000000000000"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_that_agrees_with_itself_is_refuted_by_weights_and_scores(copy, name):
    forge, said = FORGERIES[name]
    forge(copy)
    found = verdict(copy)
    assert found["verdict"] == "refuted"
    assert said in " ".join(found["differs"])


def test_losses_of_other_batches_are_refuted_though_they_make_the_weights(tmp_path):
    record = made(tmp_path / "runs", *SST2, "method=mezo", "order_seed=5")
    assert verdict(record)["verdict"] == "verified"
    forged.write_row(record, order_seed=0)
    forged.rename(record, configs.read(record) | {"order_seed": 0})
    assert "nats from those that are measured" in verdict(record)["differs"][0]


@pytest.mark.parametrize(("file", "what"), [*zip(FILES[:5], [*SWAPS[:1], *SWAPS[2:6]], strict=True)])
def test_a_damaged_file_is_a_line_and_the_other_runs_go_on(mezo, copy, file, what):
    swap(copy / file, what)
    beside = Path(shutil.copytree(mezo, copy.parent / "beside"))
    ended, found = verify(copy.parent, "--no-replay")
    words = {run["place"]: run["verdict"] for run in found["runs"]}
    assert words[str(beside)] == "consistent"
    assert words.get(str(copy), "refuted") == "refuted"
    assert ended.returncode == 1 or file == "summary.json"


def test_a_record_that_names_code_of_others_is_consistent_and_runs_nothing(copy, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    settings = configs.read(copy)
    settings["method"]["_target_"] = "evil_module.MeZO"
    forged.rename(copy, settings)
    found = verdict(copy)
    assert found["verdict"] == "consistent"
    assert "code of others" in found["unverified"]["weights"]


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["nowhere"], "nowhere: no such folder or zip of runs", 1),
        ([".", "steps=3"], "steps=3: expected data.dir=DIR or model.dir=DIR", 2),
        ([".", "data.dir=nowhere"], "data.dir=nowhere: no such folder", 2),
        ([".", "--sample", "-1"], "--sample -1: expected 0 or more", 2),
        ([".", "--trust-code", "nowhere"], "nowhere: no such folder", 2),
        ([".", "--version", "v7"], "v7: no such version of the rules", 2),
        ([".", "--only", "meso"], "meso: no such entry; did you mean mezo?", 2),
        (["."], "no run there", 1),
    ],
)
def test_what_cannot_be_done_is_answered_in_one_line(tmp_path, words, said, code):
    ended = command("zobench.verify", *words, cwd=tmp_path)
    assert said in ended.stderr
    assert (ended.returncode, len(ended.stderr.splitlines())) == (code, 1)
