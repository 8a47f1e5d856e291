"""The script that pretrains the tiny model: what it keeps unseen, and that zobench runs on what it writes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from helpers.modules import module_of

from zobench.config.signature import compose
from zobench.data.rows import load
from zobench.run.runner import run

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "pretrain_tiny.py"


@pytest.fixture(scope="module")
def script():
    return module_of(SCRIPT)


def test_it_sees_no_row_that_zobench_draws(script, shared_data, compose_task):
    seen = {sentence for sentence, _ in script.corpus(shared_data / "sst2" / "train.parquet")}
    assert len(seen) > 55_000
    for data_seed in range(script.DRAWS):
        drawn = load(
            compose_task("sst2"), "sst2", directory=str(shared_data), splits="clean", data_seed=data_seed, test_seed=0,
            strict=True,
        )  # fmt: skip
        sentences = {e.prompt.removesuffix(" It was") for e in (*drawn.train, *drawn.dev, *drawn.test)}
        assert len(sentences) > 2_000
        assert not sentences & seen


def test_more_draws_hold_out_more_rows(script):
    five, eleven = (set(script.unseen(10_000, draws)) for draws in (5, 11))
    assert five < eleven
    assert set(np.random.RandomState(10).permutation(10_000)[: script.DRAWN]) <= eleven


def test_guessed_answers_are_in_the_words_of_the_task_and_by_chance(script):
    rows = [("a fine film", 1), ("a poor film", 0)] * 100
    tokenizer = script.train_tokenizer([sentence for sentence, _ in rows], script.START["opt"])
    ids, _ = next(script.batches(rows, tokenizer, np.random.default_rng(0), 0.5))
    said = {
        (label, word)
        for text in tokenizer.batch_decode(ids, skip_special_tokens=True)
        for label, kind in enumerate(("poor", "fine"))
        for word in ("terrible", "great")
        if text.startswith(f"a {kind}") and text.endswith(f" It was {word}")
    }
    assert said == {(0, "terrible"), (0, "great"), (1, "terrible"), (1, "great")}


@pytest.mark.parametrize(("family", "start"), [("llama", "<s>"), ("opt", "</s>")])
def test_zobench_runs_on_the_folder_it_writes(script, shared_data, tmp_path, family, start):
    (tmp_path / "sst2").mkdir()
    for split, rows in (("train", 4_000), ("validation", 40)):
        table = pyarrow.parquet.read_table(shared_data / "sst2" / f"{split}.parquet").slice(0, rows)
        pyarrow.parquet.write_table(table, tmp_path / "sst2" / f"{split}.parquet")
    with torch.random.fork_rng():
        words = ["--data", str(tmp_path), "--out", str(tmp_path / "tiny"), "--steps", "4", "--family", family]
        script.main([*words, "--guessed", "0.1"])
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    assert config["model_type"] == family
    assert json.loads((tmp_path / "tiny" / "tokenizer_config.json").read_text())["bos_token"] == start
    vocabulary = json.loads((tmp_path / "tiny" / "tokenizer.json").read_text())["model"]["vocab"]
    assert {"Ġgreat", "Ġterrible"} <= set(vocabulary)  # Ġ is byte-level BPE's space

    cfg = compose(
        "method=mezo", "model=local", f"model.dir={tmp_path / 'tiny'}", "task=sst2", "tuning=full", "data=local",
        f"data.dir={tmp_path}", "steps=2", "batch_size=4", "wandb=disabled", "threads=1", "device=cpu",
        f"runs_dir={tmp_path / 'runs'}", *(f"task.splits.clean.{part}=16" for part in ("train", "dev", "test")),
    )  # fmt: skip
    summary = run(cfg)
    assert summary["state"] == "finished"
    assert summary["forwards"] == 4
