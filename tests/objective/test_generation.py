"""Greedy generation against a plain loop: full logits, one row at a time, the arg-max appended."""

import copy

import pytest
import torch

from zobench.objective import Objective
from zobench.objective.encode import MAX_NEW_TOKENS


@pytest.fixture
def encode(mini):
    """``encode(tiny, n)``: (SQuAD, n tokenised training examples)."""

    def make(tiny, n):
        task, splits = mini("squad")
        return task, tiny.encoder.encode(task, splits.train[:n])

    return make


def greedy(tiny, prompt):
    """Token ids up to and without the newline or the end token, at most 50."""
    ids, new = list(prompt), []
    while len(new) < MAX_NEW_TOKENS:
        token = int(tiny.model(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax())
        if token in (newline(tiny), tiny.tokenizer.eos_token_id):
            break
        new.append(token)
    return new


def newline(tiny):
    (found,) = tiny.tokenizer("\n", add_special_tokens=False)["input_ids"]
    return found


def test_generation_is_greedy_and_stops_at_the_newline(tiny, encode):
    task, batch = encode(tiny, 5)
    objective = Objective(tiny.model, tiny.tokenizer, task)
    optimizer = torch.optim.Adam(tiny.model.parameters(), lr=3e-3)
    for _ in range(25):  # until the newline is learnt; the last example stays unknown
        optimizer.zero_grad()
        total, weight = objective.loss_sum(batch[:-1])
        (total / weight).backward()
        optimizer.step()
    with torch.inference_mode():
        expected = [greedy(tiny, e.prompt) for e in batch]
        assert any(len(tokens) < MAX_NEW_TOKENS for tokens in expected), "the test model never stops"
        texts = [tiny.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in expected]
        assert objective.generate(batch) == texts
        assert [objective.generate([e])[0] for e in batch] == texts


@torch.inference_mode()
def test_generation_ends_after_fifty_tokens(tiny, encode):
    task, batch = encode(tiny, 4)
    expected = [greedy(tiny, e.prompt) for e in batch]
    assert max(len(tokens) for tokens in expected) == MAX_NEW_TOKENS
    texts = [tiny.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in expected]
    assert Objective(tiny.model, tiny.tokenizer, task).generate(batch) == texts


@torch.inference_mode()
def test_generation_ignores_the_checkpoints_sampling_habits(tiny, encode):
    """Published checkpoints carry a generation_config with a repetition penalty, a temperature, a length ..."""
    task, batch = encode(tiny, 4)
    objective = Objective(tiny.model, tiny.tokenizer, task)
    expected = objective.generate(batch)
    tiny.model.generation_config = copy.deepcopy(tiny.model.generation_config)
    tiny.model.generation_config.update(do_sample=True, temperature=0.6, repetition_penalty=1.5, max_length=20)
    assert objective.generate(batch) == expected
