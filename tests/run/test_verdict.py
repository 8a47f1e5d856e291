"""What a run's last lines say of learning: the rule of the report's mark, and what to try."""

import pytest

from zobench.system.verdict import verdict

ROW = {
    "trains": True, "metric": "accuracy", "test/n": 100, "test_metric_stderr": 0.05, "method.lr": 1e-4,
    "zero_shot/test/accuracy": 0.45, "zero_shot/test/majority": 0.5, "zero_shot/dev/loss": 1.0,
}  # fmt: skip


def test_a_gain_counts_above_two_standard_errors_over_all_that_needs_no_training():
    learned, close = (verdict({**ROW, "test_metric": value}) for value in (0.61, 0.59))
    assert learned == (
        "test accuracy is 2 standard errors (of the test rows) above all that is reached without training: "
        "zero-shot 0.450, majority class 0.500"
    )
    assert close.startswith("test accuracy is not 2 standard errors")


@pytest.mark.parametrize(
    ("after", "said"),
    [(1.002, "hardly moved: try a higher method.lr (now 0.0001)"), (1.4, "rose: try a lower"), (0.9, "fell by 10%")],
)
def test_where_nothing_was_learned_the_dev_loss_says_which_way_the_rate_goes(after, said):
    assert said in verdict({**ROW, "test_metric": 0.5, "dev/loss": after})


def test_a_run_without_training_or_numbers_is_not_judged():
    assert verdict({**ROW, "trains": False, "test_metric": 0.5}) is None
    assert verdict({**ROW, "state": "diverged"}) is None
    assert verdict({**ROW, "test_metric": 0.5, "zero_shot/test/accuracy": float("nan")}) is None


def test_of_a_score_the_advice_is_on_its_ties_and_not_on_a_loss_that_did_not_train():
    said = verdict({**ROW, "test_metric": 0.5, "objective": "metric", "method.eps": 1e-3})
    assert said.endswith("; scores tie at a small method.eps (now 0.001): try a larger one")
