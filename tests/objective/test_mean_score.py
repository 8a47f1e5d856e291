"""1 − the mean score of a batch: what it is, of which examples, and that methods learn from it without a gradient."""

import math

import pytest
import torch
from helpers import scored
from helpers.objectives import rows_of
from helpers.tasks import shipped

from zobench import FZOO, LOREN, AdamW, ForwardGradient, MeZO
from zobench.objective import Objective, metrics
from zobench.objective.criterion import Score
from zobench.objective.own_score import OwnScore
from zobench.zo import Direction, Diverged, Gaussian, Oracle, Unsuited, make_slots


@pytest.fixture
def criterion():
    return Score(max_new_tokens=3)


@pytest.fixture
def made(tiny, mini, criterion):
    """``made(name, count)``: an objective on a task, and examples of it; ``mcc`` is SST-2 by that metric."""

    def make(name, count=7):
        task, examples = rows_of(mini, "sst2" if name == "mcc" else name)
        task = shipped("sst2", metric="mcc") if name == "mcc" else task
        objective = Objective(tiny.model, tiny.tokenizer, task)
        batch = tiny.encoder.encode(task, examples[:count])
        if task.generates:
            objective.greedy.settle([e.prompt for e in batch])
        return objective, batch

    return make


@pytest.fixture(params=["sst2", "worded", "multirc", "squad"])
def by_example(request, made):
    """The mean of a batch in micro-batches, the objective and the batch; a score of every example that differs."""
    objective, batch = made(request.param)
    criterion = Score(score="lab.own", max_new_tokens=3)
    criterion.own = OwnScore("lab.own", scored.short if objective.task.generates else _probability)
    return criterion, objective, batch


def _probability(answer, example):
    return math.exp(answer[example.gold])


@torch.inference_mode()
def test_the_mean_is_that_of_the_examples_whatever_the_micro_batches_and_shares(by_example):
    criterion, objective, batch = by_example
    whole = criterion.mean(objective, batch, 1)
    (each,) = whole.losses(examples=True).tolist()
    assert all(0 <= loss <= 1 for loss in each)
    assert float(whole()) == pytest.approx(sum(each) / 7, rel=1e-12)
    assert float(criterion.mean(objective, batch, 1, micro=2)()) == pytest.approx(float(whole()), rel=1e-5)
    shares = [float(criterion.mean(objective, batch, 1, share=range(7)[i::2])()) for i in (0, 1)]
    assert sum(shares) == pytest.approx(float(whole()), rel=1e-5)
    assert float(criterion.mean(objective, batch, 1, share=[])()) == 0.0


@torch.inference_mode()
def test_accuracy_is_that_of_the_scores_to_the_bit_and_ties_are_ties(made, criterion):
    objective, batch = made("sst2")
    right = [metrics.right(scores, e.example.rights) for scores, e in zip(objective.scores(batch), batch, strict=True)]
    found = criterion.mean(objective, batch, 1)()
    assert float(found) == (7 - sum(right)) / 7
    assert float(criterion.mean(objective, batch[::-1], 1)()) == float(found)


@torch.inference_mode()
def test_what_is_no_mean_over_examples_is_the_metric_of_the_batch_and_is_divided_among_them(made, criterion):
    objective, batch = made("mcc")
    mean = criterion.mean(objective, batch, 1)
    chosen = [metrics.likeliest(scores) for scores in objective.scores(batch)]
    assert float(mean()) == 1.0 - metrics.mcc(metrics.table([e.gold for e in batch], chosen))
    assert float(mean.losses(examples=True).mean()) == pytest.approx(float(mean()), abs=1e-12)
    assert float(criterion.mean(objective, batch, 1, micro=2)()) == float(mean())


@torch.inference_mode()
@pytest.mark.parametrize("name", ["sst2", "squad", "mcc"])
def test_answers_of_models_that_fail_are_not_finite_losses(made, criterion, name):
    objective, batch = made(name)
    mean, head = criterion.mean(objective, batch, 1), objective.model.get_output_embeddings().weight
    kept = head.clone()
    head.fill_(math.nan)
    assert math.isnan(float(mean()))
    assert mean.losses(examples=True).isnan().all()
    head.copy_(kept)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["sst2", "worded", "squad"])
def test_the_tokens_that_it_says_it_runs_are_those_it_runs(made, criterion, name):
    objective, batch = made(name)
    criterion.mean(objective, batch, 1)()
    assert objective.tokens == criterion.tokens(objective, batch)


@pytest.mark.parametrize("name", ["sst2", "squad"])
def test_each_example_can_have_weights_of_its_own(made, criterion, name):
    objective, batch = made(name, 3)
    criterion = Score(score="lab.own", max_new_tokens=3)
    criterion.own = OwnScore("lab.own", scored.short if objective.task.generates else _probability)
    slots = make_slots([(n, p) for n, p in objective.model.named_parameters() if p.requires_grad])
    oracle = Oracle(slots, Gaussian())
    oracle.begin(criterion.mean(objective, batch, 100))
    (own,) = oracle.own_losses([lambda j: 0.02 * Direction.ray(7 + j)])
    third = oracle.example_losses([0.02 * Direction.ray(9)])[0][2]
    assert own[2] == pytest.approx(third, rel=1e-4)
    oracle.settle()
    assert oracle.forwards == 2


def test_an_oracle_counts_a_generation_as_the_calls_that_it_may_take(made, criterion):
    objective, batch = made("squad", 2)
    slots = make_slots([(n, p) for n, p in objective.model.named_parameters() if p.requires_grad])
    oracle = Oracle(slots, Gaussian(), mode="exact")
    oracle.forwards_each = criterion.forwards(objective.task)
    oracle.begin(criterion.mean(objective, batch, 100))
    oracle.losses([0.01 * Direction.ray(7), -0.01 * Direction.ray(7)])
    assert oracle.forwards == 6


@pytest.mark.parametrize("kind", [AdamW, ForwardGradient])
def test_methods_that_take_a_derivative_say_so_and_are_refused_in_a_line(made, criterion, kind):
    objective, batch = made("sst2", 2)
    method = kind(objective.model.named_parameters(), lr=1e-3)
    assert kind.differentiates
    with pytest.raises(Unsuited, match=r"^the method takes a derivative of the loss, which is made of scores[^\n]*$"):
        method.step(criterion.mean(objective, batch, 100))


def test_a_score_that_is_not_finite_stops_a_step_and_leaves_the_weights(made, criterion):
    objective, batch = made("sst2", 2)
    named = [(n, p) for n, p in objective.model.named_parameters() if p.requires_grad]
    before = [p.clone() for _, p in named]
    method = MeZO(named, lr=1e-3, eps=1e38, mode="exact")
    with pytest.raises(Diverged, match="the loss is nan at forward pass 1"):
        method.step(criterion.mean(objective, batch, 100))
    assert all(torch.equal(p, kept) for (_, p), kept in zip(named, before, strict=True))


#: learning rates of a method on the toy, in a few hundred steps
TOY = {MeZO: 0.1, LOREN: 0.03, FZOO: 0.01}


@pytest.mark.parametrize("kind", TOY, ids=lambda kind: kind.__name__)
def test_accuracy_itself_is_learned_without_a_gradient(kind):
    """A linear classifier of three classes, taught by another one, whose only loss is the share of wrong answers."""
    draws = torch.Generator().manual_seed(0)
    x, teacher = torch.randn(256, 16, generator=draws), torch.randn(3, 16, generator=draws)
    weight = 0.3 * torch.randn(3, 16, generator=draws)
    gold = (x @ teacher.T).argmax(-1)
    wrong = lambda: (torch.nn.functional.linear(x, weight).argmax(-1) != gold).double().mean()  # noqa: E731
    before = float(wrong())
    method = kind([("weight", weight)], lr=TOY[kind], eps=0.1, seed=0)
    for _ in range(300):
        method.step(wrong)
    assert before > 0.5
    assert float(wrong()) < 0.12
