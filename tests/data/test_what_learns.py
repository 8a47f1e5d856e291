"""The script that says which tasks can be learned: its probe, its rates, and the rows that a model has seen."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.modules import module_of

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPTS))
    try:
        return module_of(SCRIPTS / "what_learns.py")
    finally:
        sys.path.remove(str(SCRIPTS))


def test_the_probe_finds_classes_that_a_plane_divides(script):
    noise = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.nn.functional.one_hot(y, 8).float() * 4 + torch.randn(300, 8, generator=noise)
    assert script.fitted(3, x[:200], y[:200], x[200:], y[200:]) > 0.95


def test_the_probe_of_features_that_know_nothing_is_no_better_than_a_guess(script):
    noise = torch.Generator().manual_seed(0)
    x, y = torch.randn(2000, 8, generator=noise), torch.arange(2000) % 2
    assert abs(script.fitted(2, x[:1000], y[:1000], x[1000:], y[1000:]) - 0.5) < 0.06


def test_the_probe_takes_classes_that_no_train_row_has(script):
    x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    assert script.fitted(3, x, y, x, torch.tensor([0, 1, 0, 2])) == 0.75


def test_copies_are_told_by_their_words(script):
    assert script.plain("It 's a WARM film .  ") == script.plain("it's a warm film")
    assert script.plain("a warm film") != script.plain("a warm , funny film")


def test_results_on_unseen_rows_leave_out_the_copies_of_pretraining(script, tmp_path, monkeypatch):
    (tmp_path / "mr").mkdir()
    texts = ["a warm film .", "Dull !", "no wit at all", "fine work"]
    pq.write_table(pa.table({"text": texts, "label": [1, 0, 0, 1]}), tmp_path / "mr" / "validation.parquet")
    monkeypatch.setattr(script, "pretrained_on", lambda data: frozenset({"a warm film"}))
    tested = [("test", 0, "1", 1.0), ("test", 1, "0", 1.0), ("test", 2, "0", 0.0), ("test", 3, "1", 1.0)]
    rows = [
        dict(zip(("split", "index", "gold", "score"), each, strict=True)) for each in [*tested, ("dev", 3, "1", 0.0)]
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "predictions.parquet")
    found = script.unseen("mr", tmp_path, adamw={"directory": str(tmp_path)})
    assert (found["seen"], found["n"]) == (1, 3)
    assert found["majority"] == found["adamw"] == pytest.approx(2 / 3)
    assert script.unseen("rte", tmp_path, adamw={"directory": str(tmp_path)}) is None


def test_a_rate_at_the_end_of_those_tried_has_a_star(script):
    assert [script._rate(rate) for rate in script.RATES] == ["1e-04*", "3e-04", "1e-03*"]


def test_most_test_rows_of_sst2_are_unseen_and_many_of_mr_are_not(script, shared_data):
    seen = script.pretrained_on(shared_data)
    shares = {}
    for task in ("sst2", "mr"):
        rows = script.read(shared_data / task / "validation.parquet").take((script.SENTENCES[task],))
        shares[task] = sum(script.plain(row[script.SENTENCES[task]]) in seen for row in rows) / len(rows)
    assert shares["sst2"] < 0.01
    assert 0.3 < shares["mr"] < 0.6


def test_the_page_says_what_is_not_measured(script):
    text = script.page([])
    for model in script.MODELS:
        assert f"## {model}\n\nNot measured yet: `sst2`, `mr`" in text
