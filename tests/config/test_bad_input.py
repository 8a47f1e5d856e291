"""Bad data, and no network: the message says what was wrong, what was expected, what to do; the record keeps it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.tasks import shipped

import zobench
from zobench.config.settings import check_settings
from zobench.config.signature import compose
from zobench.errors import ConfigError, DataError, UserError
from zobench.models.tiny import tiny_tokenizer
from zobench.objective import Encoder
from zobench.run.runner import run
from zobench.tasks.base import Example

ROOT = Path(zobench.__file__).resolve().parent.parent
SIZES = tuple(f"task.splits.clean.{split}=4" for split in ("train", "dev", "test"))
RUN = ("wandb=disabled", "threads=1", "batch_size=2", "steps=1", *SIZES)
ROWS = [{"sentence": f"it is film number {i} .", "label": i % 2} for i in range(8)]


def folder(tmp_path, train=ROWS, validation=ROWS, task="sst2", kind="jsonl"):
    """A local data directory; a split given as text is written as it is, None leaves the file out."""
    root = tmp_path / "data"
    (root / task).mkdir(parents=True)
    for split, rows in (("train", train), ("validation", validation)):
        path = root / task / f"{split}.{kind}"
        if isinstance(rows, str):
            path.write_text(rows, encoding="utf-8")
        elif rows is not None and kind == "jsonl":
            path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
        elif rows is not None:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return root


def cell(tmp_path, root, *overrides):
    local = ("data=local", f"data.dir={root}") if root else ()
    return run(compose("model=tiny-opt", *RUN, *local, f"runs_dir={tmp_path / 'runs'}", *overrides))


def refused(tmp_path, root, *overrides, kind=DataError):
    """The message of a run that must fail, and leaves nothing behind."""
    with pytest.raises(kind) as caught:
        cell(tmp_path, root, *overrides)
    assert not (tmp_path / "runs").exists()
    return str(caught.value)


def test_missing_directory_and_file(tmp_path):
    said = refused(tmp_path, tmp_path / "nowhere")
    assert str(tmp_path / "nowhere" / "sst2") in said
    for part in ("data.dir=DIR", "DIR/sst2/train.parquet", "DIR/sst2/validation.parquet", "sentence, label"):
        assert part in said
    assert "no validation.parquet or validation.jsonl" in refused(tmp_path, folder(tmp_path, validation=None))


@pytest.mark.parametrize("folder", ["data.dir=5", "data.dir=[a]", "data.dir=", "data.dir=null", "data.dir='  '"])
@pytest.mark.parametrize("option", ["local", "mini", "hub"])
def test_a_folder_that_is_none_never_means_the_hub(folder, option):
    asked = (f"data={option}", folder)
    if asked == ("data=hub", "data.dir=null"):
        check_settings(compose(*asked))
    else:
        with pytest.raises(ConfigError, match=r"^data\.dir=.*: expected a folder"):
            check_settings(compose(*asked))


@pytest.mark.parametrize("folder", ["model.dir=5", "model.dir=", "model.dir=[a]"])
@pytest.mark.parametrize("option", ["opt-125m", "tiny-pretrained"])
def test_a_models_folder_that_is_none(folder, option):
    with pytest.raises(ConfigError, match=r"^model\.dir=.*: expected a folder"):
        check_settings(compose(f"model={option}", folder))


@pytest.mark.parametrize("keep", [0, 4, -20])
def test_truncated_parquet(tmp_path, keep):
    root = folder(tmp_path, kind="parquet")
    path = root / "sst2" / "train.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path} cannot be read as parquet (truncated?)" in refused(tmp_path, root)


def test_truncated_jsonl(tmp_path):
    root = folder(tmp_path, train='{"sentence": "good", "label": 1}\n{"sentence": "ba')
    assert "train.jsonl cannot be read as jsonl" in refused(tmp_path, root)


def test_missing_column(tmp_path):
    said = refused(tmp_path, folder(tmp_path, validation=[{"text": "good", "label": 1}]))
    for part in ("validation has no column sentence", "found text, label", "expected sentence, label"):
        assert part in said


@pytest.mark.parametrize("label", [2, -1, None, "positive", 0.5])
def test_labels_out_of_range(tmp_path, label):
    rows = [*ROWS[:5], {"sentence": "good", "label": label}, *ROWS[6:]]
    if label in ("positive", 0.5):  # a column has one type
        rows = [{**row, "label": label} for row in rows]
    said = refused(tmp_path, folder(tmp_path, train=rows))
    assert "train" in said  # the split, the row, the reason
    assert ("line 6: label is" if label in (2, -1, None) else "label is") in said
    assert "0 to 1" in said or label is None


@pytest.mark.parametrize("text", [None, True])
def test_text_that_is_none(tmp_path, text):
    said = refused(tmp_path, folder(tmp_path, validation=[{"sentence": text, "label": 1}] * 8))
    assert "validation" in said
    assert "line " in said
    assert "sentence" in said


@pytest.mark.parametrize("answers", [{"text": []}, {"text": None}, None, {"text": [None]}, ["a"]])
def test_squad_without_an_answer(tmp_path, answers):
    row = {"title": "t", "context": "c", "question": "q", "answers": answers}
    said = refused(tmp_path, folder(tmp_path, train=[row] * 8, task="squad", kind="parquet"), "task=squad")
    assert "answers" in said


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_empty_split(tmp_path, kind):
    root = folder(tmp_path, kind=kind)
    path = root / "sst2" / f"validation.{kind}"
    if kind == "jsonl":
        path.write_text("")
    else:
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    said = refused(tmp_path, root)
    assert "validation" in said
    assert "no rows" in said


def test_more_rows_wanted_than_there_are(tmp_path):
    said = refused(tmp_path, folder(tmp_path), "task.splits.clean.dev=9")
    for part in ("train=4 and dev=9 rows are wanted", "has 8", "task.splits.clean.dev"):
        assert part in said


@pytest.mark.parametrize("size", ["train=0", "dev=0", "test=0", "dev=-1"])
def test_splits_of_no_rows_are_refused(tmp_path, size):
    with pytest.raises(UserError, match=size.split("=")[0]):
        cell(tmp_path, folder(tmp_path), f"task.splits.clean.{size}")


def test_unknown_split_sizes(tmp_path):
    with pytest.raises(ConfigError, match="clean, mezo_exact, mini"):
        cell(tmp_path, folder(tmp_path), "data.splits=cleen")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_any_script_is_read(tmp_path, kind):
    texts = ["Füllwörter", "это хорошо", "とても良い映画", "🎬🎬🎬", "فيلم رائع", "a\u0301 e\u0308", "x\ny", "ok"]
    rows = [{"sentence": text, "label": i % 2} for i, text in enumerate(texts)]
    row = cell(tmp_path, folder(tmp_path, rows, rows, kind=kind), "tags=['näher']")
    assert row["state"] == "finished"
    assert "näher" in (Path(row["directory"]) / "config.yaml").read_text(encoding="utf-8")


def test_generation_with_answers_in_any_script(tmp_path):
    answers = {"text": ["東京"], "answer_start": [3]}
    rows = [{"title": "東京", "context": "首都は東京。", "question": "どこ?", "answers": answers}] * 8
    row = cell(tmp_path, folder(tmp_path, rows, rows, task="squad"), "task=squad")
    table = pq.read_table(Path(row["directory"]) / "predictions.parquet").to_pylist()
    assert {line["gold"] for line in table} == {"東京"}


def test_long_prompts_lose_their_left_end_and_are_counted(tmp_path, capsys):
    long = [{"sentence": f"start {'very ' * 60}long {i}", "label": i % 2} for i in range(8)]
    row = cell(tmp_path, folder(tmp_path, train=long), "model.max_length=32")
    assert (row["state"], row["truncated_examples"]) == ("finished", 8)
    assert "8 examples are longer than 32 tokens and were cut on the left" in capsys.readouterr().out

    encoder = Encoder(tiny_tokenizer(), start=2, max_length=32)
    whole = Encoder(tiny_tokenizer(), start=2, max_length=2048)
    task = shipped("sst2")
    example = task.example(0, long[0])
    (cut,), (full,) = encoder.encode(task, [example]), whole.encode(task, [example])
    assert (cut.truncated, full.truncated) == (True, False)
    for a, b in zip(cut.rows, full.rows, strict=True):
        assert a.ids == (2, *b.ids[-31:])
        assert a.option_len == b.option_len
    with pytest.raises(DataError, match="max_length"):  # nothing is left to predict the option from
        encoder.encode(task, [Example(0, "short", (" no", " " + "yes " * 60), 0)])


def test_without_network_the_way_out_is_named_at_once(tmp_path):
    # A process of its own, one for all cells: the hub's libraries read their environment when imported.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    (tmp_path / "offline.yaml").write_text(
        "common: wandb=disabled runs_dir=runs\n"
        "lines:\n"
        "  - task=sst2 model=tiny-opt\n"
        "  - task=cb model=tiny-opt\n"
        "  - task=sst2 model=opt-125m model.id=nobody/nothing data=mini\n"
    )
    start = time.monotonic()
    command = [sys.executable, "-m", "zobench.sweep", "offline.yaml"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert time.monotonic() - start < 60
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("failed: ")]
    cb, sst2, model = sorted(lines, key=lambda line: ("nobody" in line, "sst2" in line))
    for part in ("nyu-mll/glue", "data.dir=DIR", "DIR/sst2/train.parquet", "data=mini"):
        assert part in sst2
    assert cb.endswith("columns premise, hypothesis, label")  # no files of this task ship, and none are offered
    assert "nobody/nothing" in model
    assert "model.dir=DIR" in model
    rows = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("summary.json")]
    assert [row["state"] for row in rows] == ["failed"] * 3  # by which the sweep knows
