"""Macro-F1 and MCC: their definitions, and standard errors that a bootstrap agrees with."""

from itertools import product

import numpy as np
import pytest
from helpers.tiny_runs import TINY

from zobench.config.signature import compose
from zobench.objective import metrics
from zobench.record import predictions
from zobench.run.runner import run


def f1_by_definition(gold, chosen):
    found = []
    for label in {*gold, *chosen}:
        hits = sum(g == c == label for g, c in zip(gold, chosen, strict=True))
        precision = hits / chosen.count(label) if label in chosen else 0.0
        recall = hits / gold.count(label) if label in gold else 0.0
        found.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return sum(found) / len(found)


def margins(lines):
    """Of each prediction, how much likelier option 1 is than 0, and the right option."""
    return [line["scores"][1] - line["scores"][0] for line in lines], [int(line["gold"]) for line in lines]


def correlation(gold, chosen):
    """R_K as the correlation of the one-hot columns."""
    labels = sorted({*gold, *chosen})
    x, y = (np.array([[a == label for label in labels] for a in side], float) for side in (gold, chosen))
    x, y = x - x.mean(0), y - y.mean(0)
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / spread) if spread else 0.0


def test_every_small_table_of_three_classes_has_the_metrics_of_their_definitions():
    for gold in ((0, 0, 1, 2), (0, 1, 1, 1), (2, 2, 2, 2)):
        for chosen in product(range(3), repeat=4):
            counts = metrics.table(gold, chosen)
            assert metrics.macro_f1(counts) == pytest.approx(f1_by_definition(gold, list(chosen)), abs=1e-12)
            assert metrics.mcc(counts) == pytest.approx(correlation(gold, chosen), abs=1e-12)


@pytest.mark.parametrize("metric", [metrics.macro_f1, metrics.mcc])
def test_what_examples_add_has_the_metric_as_its_mean_and_the_bootstraps_spread(metric):
    draw = np.random.RandomState(0)
    gold = draw.choice(3, 300, p=[0.6, 0.3, 0.1])
    chosen = np.where(draw.rand(300) < 0.7, gold, draw.choice(3, 300))
    added = metrics.shares(metric, gold.tolist(), chosen.tolist())
    assert np.mean(added) == pytest.approx(metric(metrics.table(gold, chosen)), abs=1e-12)
    again = []
    for _ in range(400):
        index = draw.randint(300, size=300)
        again.append(metric(metrics.table(gold[index], chosen[index])))
    assert metrics.stderr(added) == pytest.approx(np.std(again), rel=0.15)


@pytest.mark.parametrize("metric", ["macro_f1", "mcc"])
def test_a_run_is_selected_and_reported_by_the_tasks_metric(metric, tmp_path):
    words = [word for word in TINY if not word.startswith("task=")]
    cfg = compose(*words, "task=multirc", f"task.metric={metric}", "steps=2", "eval_every=1", f"runs_dir={tmp_path}")
    row = run(cfg)
    assert row["metric"] == metric
    assert (row["test_metric"], row["dev_metric"]) == (row[f"test/{metric}"], row[f"dev/{metric}"])
    dev, test = (predictions.read(tmp_path / cfg.out, split) for split in ("dev", "test"))
    assert np.mean([line["score"] for line in test]) == pytest.approx(row["test_metric"], abs=1e-12)
    (at_dev, _), (at_test, gold) = margins(dev), margins(test)
    threshold = metrics.matching_threshold(at_dev, [line["gold"] == "1" for line in dev])
    moved = metrics.table(gold, [int(margin > threshold) for margin in at_test])
    assert row[f"test/{metric}_calibrated"] == {"macro_f1": metrics.macro_f1, "mcc": metrics.mcc}[metric](moved)
