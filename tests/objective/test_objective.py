"""Losses and scores against a plain reference: full logits, one row at a time, no padding."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from helpers.objectives import flat, rows_of

from zobench.models.tuning import LastLayers
from zobench.objective import Encoder, Objective
from zobench.objective.encode import MAX_NEW_TOKENS
from zobench.protocols.mezo_exact.objective import OfficialObjective
from zobench.run.evaluate import evaluate


def log_probs(model, row):
    """Log-probabilities of the option's tokens."""
    ids = torch.tensor([row.ids])
    logits = model(input_ids=ids).logits[0].float()
    found = torch.log_softmax(logits[:-1], dim=-1).gather(-1, ids[0, 1:, None])[:, 0]
    return found[-row.option_len :]


def plain_loss(model, task, batch):
    if task.loss == "lm":
        return -torch.cat([log_probs(model, e.rows[0]) for e in batch]).mean()
    means = [torch.stack([log_probs(model, row).mean() for row in e.rows]) for e in batch]
    return torch.stack(
        [F.cross_entropy(m[None], torch.tensor([e.gold])) for m, e in zip(means, batch, strict=True)]
    ).mean()


def value(objective, batch):
    total, weight = objective.loss_sum(batch)
    return float(total.detach()) / weight


@pytest.fixture
def encoded(tiny, mini):
    """``encoded(name, n)``: (task, n tokenised examples of mixed lengths)."""

    def make(name, n=7):
        task, examples = rows_of(mini, name)
        found = tiny.encoder.encode(task, examples[:n])
        assert len({len(e.rows[0].ids) for e in found}) > 2
        return task, found

    return make


@pytest.mark.parametrize("name", ["sst2", "rte", "worded", "squad"])
@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_losses_and_scores_are_the_plain_ones(tiny, encoded, name, shared):
    task, batch = encoded(name)
    objective = Objective(tiny.model, tiny.tokenizer, task, shared_prompt=shared)
    assert value(objective, batch) == pytest.approx(float(plain_loss(tiny.model, task, batch)), abs=1e-5)
    expected = [[float(log_probs(tiny.model, row).mean()) for row in e.rows] for e in batch]
    assert flat(objective.scores(batch)) == pytest.approx(flat(expected), abs=1e-5)


@pytest.mark.parametrize("name", ["sst2", "rte", "wsc", "multirc"])
@torch.no_grad()
def test_one_sequence_per_example_equals_one_per_option(tiny, encoded, name):
    task, batch = encoded(name)
    assert all(e.shared for e in batch)
    short, general = (Objective(tiny.model, tiny.tokenizer, task, shared_prompt=x) for x in (True, False))
    assert value(short, batch) == pytest.approx(value(general, batch), abs=1e-5)
    found, expected = short.scores(batch), general.scores(batch)
    assert flat(found) == pytest.approx(flat(expected), abs=1e-5)
    assert [s.index(max(s)) for s in found] == [s.index(max(s)) for s in expected]
    assert 2 * short.tokens < 1.01 * general.tokens


@pytest.mark.parametrize("name", ["sst2", "rte", "multirc", "worded"])
@torch.no_grad()
def test_relative_scores_are_short_of_what_the_options_of_an_example_share(tiny, encoded, name):
    task, batch = encoded(name)
    objective = Objective(tiny.model, tiny.tokenizer, task)
    for found, whole in zip(objective.relative_scores(batch), objective.scores(batch), strict=True):
        assert [s - found[0] for s in found] == pytest.approx([s - whole[0] for s in whole], abs=1e-5)


@torch.no_grad()
def test_a_batch_with_and_without_shared_prompts(tiny, encoded):
    _, short = encoded("sst2", 3)
    task, long = encoded("worded", 3)
    assert not any(e.shared for e in long)
    objective = Objective(tiny.model, tiny.tokenizer, task)
    batch = [*short, *long]
    assert value(objective, batch) == pytest.approx(float(plain_loss(tiny.model, task, batch)), abs=1e-5)


@pytest.mark.parametrize("name", ["sst2", "worded", "multirc", "squad"])
@torch.no_grad()
def test_batched_equals_one_at_a_time(tiny, encoded, name):
    task, batch = encoded(name)
    objective = Objective(tiny.model, tiny.tokenizer, task)
    found, alone = objective.scores(batch), [objective.scores([e])[0] for e in batch]
    assert flat(found) == pytest.approx(flat(alone), abs=1e-5)
    assert [s.index(max(s)) for s in found] == [s.index(max(s)) for s in alone]
    losses, alone = objective.answer_losses(batch), [objective.answer_losses([e])[0] for e in batch]
    assert flat(losses) == pytest.approx(flat(alone), abs=1e-4)  # sums over an answer's tokens
    sums = [objective.loss_sum([e]) for e in batch]
    mean = sum(float(total) for total, _ in sums) / sum(weight for _, weight in sums)
    assert value(objective, batch) == pytest.approx(mean, abs=1e-5)


@torch.no_grad()
def test_the_lm_loss_is_the_model_librarys(tiny, encoded):
    task, batch = encoded("squad")
    objective = Objective(tiny.model, tiny.tokenizer, task)
    total, tokens = 0.0, 0
    for e in batch:
        row = e.rows[0]
        before = len(row.ids) - row.option_len
        labels = torch.tensor([[-100] * before + list(row.ids[before:])])
        theirs = float(tiny.model(input_ids=torch.tensor([row.ids]), labels=labels).loss)
        assert value(objective, [e]) == pytest.approx(theirs, abs=1e-5)
        assert tiny.tokenizer.decode(row.ids[-1]) == "\n", "the newline after an answer is trained"
        total, tokens = total + theirs * row.option_len, tokens + row.option_len
    assert objective.loss_sum(batch)[1] == tokens
    assert value(objective, batch) == pytest.approx(total / tokens, abs=1e-5)


@pytest.mark.parametrize("name", ["sst2", "worded", "squad"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
@torch.no_grad()
def test_micro_batches_give_the_whole_batchs_loss(tiny, encoded, name, size):
    task, batch = encoded(name)
    objective = Objective(tiny.model, tiny.tokenizer, task)
    sums = [objective.loss_sum(batch[i : i + size]) for i in range(0, len(batch), size)]
    mean = float(sum(total for total, _ in sums) / sum(weight for _, weight in sums))
    assert mean == pytest.approx(value(objective, batch), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["sst2", "rte", "worded", "squad"])
@torch.no_grad()
def test_both_protocols_agree_on_the_same_rows(tiny, encoded, name):
    task, batch = encoded(name)
    clean = Objective(tiny.model, tiny.tokenizer, task)
    official = OfficialObjective(tiny.model, tiny.tokenizer, task)
    assert value(official, batch) == pytest.approx(value(clean, batch), abs=1e-4)
    assert flat(official.scores(batch)) == pytest.approx(flat(clean.scores(batch)), abs=1e-4)
    assert flat(official.answer_losses(batch)) == pytest.approx(flat(clean.answer_losses(batch)), abs=1e-3)


@torch.no_grad()
def test_a_row_cut_on_the_left_keeps_its_start_and_its_option(tiny, mini):
    task, splits = mini("squad")
    limit = 40
    whole = tiny.encoder.encode(task, splits.train[:4])
    cut = Encoder(tiny.tokenizer, start=tiny.encoder.start, max_length=limit + MAX_NEW_TOKENS).encode(
        task, splits.train[:4]
    )
    for before, after in zip(whole, cut, strict=True):
        row = after.rows[0]
        assert after.truncated
        assert len(row.ids) == len(after.prompt) == limit
        assert row.ids[0] == after.prompt[0] == tiny.encoder.start
        assert row.ids[1:] == before.rows[0].ids[-(limit - 1) :]
        assert row.option_len == before.rows[0].option_len
    loss = value(Objective(tiny.model, tiny.tokenizer, task), cut)
    assert loss == pytest.approx(float(plain_loss(tiny.model, task, cut)), abs=1e-5)


@pytest.mark.parametrize("name", ["rte", "squad"])
def test_an_evaluation_does_not_depend_on_its_batches(tiny, encoded, name):
    task, examples = encoded(name)
    objective = Objective(tiny.model, tiny.tokenizer, task)
    whole, *others = (evaluate(objective, task, examples, size) for size in (7, 1, 3))
    assert [row["index"] for row in whole.predictions] == [e.example.index for e in examples]
    for other in others:
        for key in ("index", "gold", "prediction", "score"):
            assert [row[key] for row in other.predictions] == [row[key] for row in whole.predictions]
        assert other.values == pytest.approx(whole.values, abs=1e-5)
    assert whole.values["loss"] == pytest.approx(value(objective, examples), abs=1e-5)


@pytest.mark.parametrize("name", ["sst2", "worded", "squad"])
@pytest.mark.parametrize("model_name", ["tiny-opt", "tiny-llama"])
@torch.no_grad()
def test_a_half_precision_model_has_a_full_precision_loss(load_model, mini, name, model_name):
    task, examples = rows_of(mini, name)
    half = load_model(model_name, dtype=torch.bfloat16, gain=4.0)
    batch = half.encoder.encode(task, examples[:5])
    total, weight = Objective(half.model, half.tokenizer, task).loss_sum(batch)
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    assert float(total) / weight == pytest.approx(float(plain_loss(half.model, task, batch)), abs=2e-2)
    # Neither the loss nor its parts are rounded to the model's dtype.
    losses = [float(Objective(half.model, half.tokenizer, task).loss_sum([e])[0]) for e in batch]
    assert any(float(torch.tensor(x).bfloat16()) != x for x in losses)
    assert all(a != b for a, b in pairwise(sorted(losses)))


@pytest.mark.parametrize(("name", "shared"), [("sst2", True), ("sst2", False), ("squad", True)])
@pytest.mark.parametrize("cached", [False, True])
@torch.no_grad()
def test_length_buckets_change_nothing_but_the_padding(tiny, mini, name, shared, cached):
    """Losses and scores to rounding, in the same order; fewer padded positions go through the model."""
    task, splits = mini(name)
    LastLayers(layers=1).apply(tiny.model, tiny.spec, 0)
    examples = tiny.encoder.encode(task, splits.train[:9])
    positions = []
    tiny.model.get_decoder().layers[-1].register_forward_pre_hook(
        lambda m, args: positions.append(args[0][..., 0].numel())
    )
    results = []
    for buckets in (1, 3, 50):
        objective = Objective(
            tiny.model, tiny.tokenizer, task, shared_prompt=shared, cache_gib=float(cached), length_buckets=buckets
        )
        positions.clear()
        loss, weight = objective.loss_sum(examples)
        scores = torch.tensor([x for row in objective.scores(examples) for x in row])
        results.append((float(loss) / weight, scores, objective.tokens, sum(positions)))
    for loss, scores, tokens, computed in results[1:]:
        assert loss == pytest.approx(results[0][0], abs=1e-5)
        torch.testing.assert_close(scores, results[0][1], atol=1e-5, rtol=0)
        assert tokens == results[0][2]
        assert computed < results[0][3]
    assert results[2][3] <= results[1][3]


@pytest.mark.parametrize("name", ["sst2", "squad"])
@pytest.mark.parametrize("kind", [Objective, OfficialObjective])
@torch.no_grad()
def test_the_tokens_of_a_loss_are_known_without_running_it(tiny, mini, name, kind):
    task, splits = mini(name)
    batch = tiny.encoder.encode(task, splits.train[:4])
    for options in ({"shared_prompt": True}, {"shared_prompt": False}) if kind is Objective else ({},):
        objective = kind(tiny.model, tiny.tokenizer, task, **options)
        told = objective.loss_tokens(batch)
        assert objective.tokens == 0
        objective.loss_sum(batch)
        assert told == objective.tokens
