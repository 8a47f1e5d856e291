"""Options that differ from row to row in text and in number, of which several may be right."""

import pytest
import torch
from helpers.tasks import shipped

from zobench.objective import Objective
from zobench.protocols.mezo_exact.objective import OfficialObjective
from zobench.run.evaluate import evaluate

NAMES = ["Lomma", "Oda Berg", "the harbour master", "Malmö", "Ytterby"]


def row(number, names, answers):
    return {
        "passage": f"Ferry {number} leaves at noon.\n@highlight\nIt is red" + "\n@highlight\nIt is old" * (number % 3),
        "query": f"@placeholder painted ferry {number}",
        "entities": names,
        "answers": answers,
    }


#: two to five options, of which one or two are right
ROWS = [
    row(0, NAMES[:2], NAMES[:1]), row(1, NAMES[:5], NAMES[:2]), row(2, NAMES[:3], [NAMES[2], NAMES[0]]),
    row(3, NAMES[1:5], NAMES[4:5]), row(4, NAMES[::-1], NAMES[1:3]),
]  # fmt: skip


@pytest.fixture
def record(tiny):
    task = shipped("record")
    assert [task.problem(each) for each in ROWS] == [None] * len(ROWS)
    return task, tiny.encoder.encode(task, [task.example(place, each) for place, each in enumerate(ROWS)])


@torch.no_grad()
def test_scores_of_a_batch_are_those_of_its_rows_and_of_the_2023_code(tiny, record):
    task, batch = record
    objective = Objective(tiny.model, tiny.tokenizer, task)
    together = objective.scores(batch)
    assert [len(scores) for scores in together] == [2, 5, 3, 4, 5]
    official = OfficialObjective(tiny.model, tiny.tokenizer, task).scores(batch)
    for example, scores, plain in zip(batch, together, official, strict=True):
        assert scores == pytest.approx(objective.scores([example])[0], abs=1e-5)
        assert scores == pytest.approx(plain, abs=1e-5)


@torch.no_grad()
def test_the_first_right_options_tokens_are_learned_in_whole_batches_parts_and_copies(tiny, record):
    task, batch = record
    objective = Objective(tiny.model, tiny.tokenizer, task)
    total, tokens = objective.loss_sum(batch)
    assert tokens == sum(example.rows[example.gold].option_len for example in batch)
    assert [batch[0].gold, batch[2].gold, batch[4].gold] == [0, 2, 3]
    parts = [objective.loss_sum(batch[:2]), objective.loss_sum(batch[2:])]
    assert sum(float(part) for part, _ in parts) == pytest.approx(float(total), abs=1e-4)
    assert objective.loss_sums(batch, copies=2).tolist() == pytest.approx([float(total)] * 2, abs=1e-4)
    mean, weight = OfficialObjective(tiny.model, tiny.tokenizer, task).loss_sum(batch)
    assert (float(mean), weight) == (pytest.approx(float(total) / tokens, abs=1e-5), 1)


def test_a_choice_counts_where_it_is_among_the_right_ones(tiny, record):
    task, batch = record
    found = evaluate(Objective(tiny.model, tiny.tokenizer, task), task, batch, 2)
    right = [example.example.right for example in batch]
    assert [line["score"] for line in found.predictions] == [
        float(int(line["prediction"]) in places) for line, places in zip(found.predictions, right, strict=True)
    ]
    assert found.values["accuracy"] == sum(line["score"] for line in found.predictions) / len(batch)
    assert not {"majority", "macro_f1", "mcc", "auc", "accuracy_calibrated"} & set(found.values), "no option is a class"
