"""The closure of a step: repetitions of a batch in one forward pass, and the losses of its examples."""

import pytest
import torch
from helpers.objectives import rows_of

from zobench.models.tuning import LastLayers
from zobench.objective import MeanLoss, Objective


@pytest.fixture
def encoded(tiny, mini):
    """``encoded(name)``: (task, seven tokenised examples of mixed lengths)."""

    def make(name):
        task, examples = rows_of(mini, name)
        return task, tiny.encoder.encode(task, examples[:7])

    return make


def way(tiny, task, how):
    """An objective that computes losses in one of its ways."""
    model = tiny.model
    if how in ("from a layer", "from the last attention"):
        LastLayers(layers=1, only="mlp|fc1|fc2" if "attention" in how else None).apply(model, tiny.spec, 0)
        objective = Objective(model, tiny.tokenizer, task, cache_gib=1.0)
        assert objective.path.place.startswith("from layer" if "layer" in how else how)
        return objective
    objective = Objective(
        model,
        tiny.tokenizer,
        task,
        shared_prompt=how != "a row per option",
        length_buckets=3 if how == "buckets" else 1,
    )
    if how == "plain":
        objective.path = next(path for path in objective.paths if path.place == "all logits")
    return objective


WAYS = ["trimmed", "buckets", "plain", "a row per option", "from a layer", "from the last attention"]


@pytest.mark.parametrize("name", ["sst2", "worded", "squad"])
@pytest.mark.parametrize("how", WAYS)
@torch.no_grad()
def test_repetitions_and_examples_are_those_of_one_batch(tiny, encoded, name, how):
    """Whatever the way, the size of micro-batches and the share."""
    task, batch = encoded(name)
    objective = way(tiny, task, how)
    for micro in (None, 3):
        loss = MeanLoss(objective, batch, 1, micro=micro)
        expected = float(loss())
        assert loss.stacks
        assert loss.losses().tolist() == [expected]
        assert loss.losses(3).tolist() == pytest.approx([expected] * 3, rel=2e-6)
        alone = [float(MeanLoss(objective, [each], 1)()) for each in batch]
        weights = [objective.weight([each]) / objective.weight(batch) * len(batch) for each in batch]
        wanted = [x * w for x, w in zip(alone, weights, strict=True)]
        found = loss.losses(2, examples=True)
        assert found.shape == (2, len(batch))
        assert found[0].tolist() == pytest.approx(wanted, rel=1e-5)
        assert found[1].tolist() == pytest.approx(wanted, rel=1e-5)
        assert float(found[0].mean()) == pytest.approx(expected, rel=2e-6)
        shares = [MeanLoss(objective, batch, 1, share=range(7)[i::2], micro=micro) for i in (0, 1)]
        assert sum(float(each()) for each in shares) == pytest.approx(expected, rel=2e-6)
        assert sum(each.losses(2) for each in shares).tolist() == pytest.approx([expected] * 2, rel=2e-6)
        assert sum(each.losses(examples=True) for each in shares)[0].tolist() == pytest.approx(wanted, rel=1e-5)


def test_logits_of_the_whole_vocabulary_are_a_load(tiny, encoded):
    """Those of the options alone are none; what knows no short way makes them at every position."""
    task, batch = encoded("sst2")
    objective = Objective(tiny.model, tiny.tokenizer, task)
    assert objective.loss_load(batch) == objective.loss_rows(batch) == sum(len(e.rows[0].ids) - 1 for e in batch)
    objective.path = next(path for path in objective.paths if path.place == "all logits")
    vocabulary, width = tiny.model.get_output_embeddings().weight.shape
    assert objective.loss_load(batch) == objective.loss_rows(batch) * (1 + vocabulary / (4 * width)) // 1


@torch.no_grad()
def test_a_share_of_nothing_contributes_nothing(tiny, encoded):
    task, batch = encoded("sst2")
    loss = MeanLoss(Objective(tiny.model, tiny.tokenizer, task), batch, 1, share=[])
    assert float(loss()) == 0.0
    assert loss.losses(2).tolist() == [0.0, 0.0]
    assert loss.losses(2, examples=True).tolist() == [[0.0] * 7] * 2


@pytest.mark.parametrize("how", ["trimmed", "from a layer", "from the last attention"])
def test_rows_are_the_positions_that_run(tiny, encoded, how):
    task, batch = encoded("squad")
    objective = way(tiny, task, how)
    answers, whole = (sum(f(e.rows[0]) for e in batch) for f in (lambda r: r.option_len, lambda r: len(r.ids) - 1))
    assert objective.loss_rows(batch) == (answers if "attention" in how else whole)
    assert objective.loss_tokens(batch) == whole
    vocabulary, width = tiny.model.get_output_embeddings().weight.shape
    assert objective.loss_load(batch) == objective.loss_rows(batch) + answers * vocabulary // (4 * width)


def test_the_loss_has_the_gradient_of_the_batchs_loss(tiny, encoded):
    task, batch = encoded("sst2")
    objective = Objective(tiny.model, tiny.tokenizer, task)
    params = list(tiny.model.parameters())
    total, weight = objective.loss_sum(batch)
    expected = torch.autograd.grad(total / weight, params, allow_unused=True)
    for found in (MeanLoss(objective, batch, 1)(), MeanLoss(objective, batch, 1).losses(examples=True).mean()):
        for mine, its in zip(torch.autograd.grad(found, params, allow_unused=True), expected, strict=True):
            assert mine is its is None or torch.allclose(mine, its, rtol=1e-4, atol=1e-7)
