"""``protocol=mezo_exact`` against numbers recorded from the official MeZO code (see golden/README.md)."""

import hashlib
import json

import numpy as np
import pytest
import torch
from helpers.mezo_official import GOLDEN, OFFICIAL, OfficialLosses, examples, make_model, make_tokenizer
from helpers.tasks import shipped

from zobench.data import rows
from zobench.errors import DataError
from zobench.methods.mezo import MeZO
from zobench.objective import Encoder, metrics
from zobench.protocols import MezoExact
from zobench.protocols.mezo_exact.objective import OfficialObjective
from zobench.tasks.base import Example

TOKENS = json.loads((GOLDEN / "mezo_tokens.json").read_text())
TASKS = ("sst2", "rte", "wsc", "multirc", "squad")


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def sha256(model):
    digest = hashlib.sha256()
    for _, param in model.named_parameters():
        digest.update(param.detach().numpy().tobytes())
    return digest.hexdigest()


def test_the_golden_model_is_the_recorded_one():
    model = make_model()
    assert [n for n, _ in model.named_parameters()] == [p["name"] for p in OFFICIAL["model"]["parameters"]]
    assert sha256(model) == OFFICIAL["model"]["sha256_initial"]


@pytest.mark.parametrize("name", list(OFFICIAL["runs"]))
def test_steps_follow_the_official_code(name, tokenizer):
    run = OFFICIAL["runs"][name]
    settings = run["settings"]
    task = shipped(name.split("_")[0])
    model = make_model()
    encoder = Encoder(tokenizer, start=0, max_length=settings["max_length"])
    pool = examples(name.split("_")[0], "train")
    train = encoder.encode(task, [pool[i] for i in run["train_rows"]])
    protocol = MezoExact()
    method = MeZO(
        model.named_parameters(),
        lr=settings["learning_rate"],
        eps=settings["zo_eps"],
        weight_decay=settings["weight_decay"],
    )
    protocol.attach(method, 42)
    objective = protocol.objective(model, tokenizer, task, cache_gib=0.0)
    for step in run["steps"]:
        order = protocol.batch(method.t, len(train), settings["per_device_train_batch_size"], 42)
        assert order == step["positions"]
        assert method.keys(method.t) == step["zo_random_seed"]
        closure = OfficialLosses(objective, [train[i] for i in order], step)
        method.step(closure)
        np.testing.assert_allclose(closure.own, closure.official, rtol=2e-6)
        assert method.oracle.notes["projected_gradient"].hex() == step["projected_grad"]["hex"]
        assert sha256(model) == step["sha256_after_step"]
    for name_, param in model.named_parameters():
        golden = run["final_parameters"][name_]
        if "float32_le_hex" in golden:
            expected = np.frombuffer(bytes.fromhex(golden["float32_le_hex"]), "<f4")
            np.testing.assert_array_equal(param.detach().numpy().ravel(), expected)


@pytest.mark.parametrize("name", list(TASKS))
def test_prompts_are_tokenised_as_officially(name, tokenizer):
    task, checked = shipped(name), 0
    for golden in TOKENS["tasks"][name]["examples"]:
        example = examples(name, golden["split"])[golden["row"]]
        for encoded in golden["encoded"]:
            if encoded["num_demonstrations"]:
                continue
            encoder = Encoder(tokenizer, start=0, max_length=encoded["max_length"])
            if encoded["mode"] == "generation_prompt":
                prompt = encoder._cut(encoder._ids(example.prompt.strip(" ")), encoded["max_length"] - 50)
                assert [list(prompt)] == encoded["input_ids"]
            elif _fits(encoded):
                found = encoder.encode(task, [example])[0]
                assert [list(row.ids) for row in found.rows] == encoded["input_ids"]
                assert [row.option_len for row in found.rows] == _as_list(encoded["option_len"])
            checked += 1
    assert checked >= 6


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _fits(encoded):
    """The official code trains on options longer than the sequence; zobench refuses them."""
    return all(n < len(ids) for n, ids in zip(_as_list(encoded["option_len"]), encoded["input_ids"], strict=True))


def test_an_option_longer_than_the_context_is_refused(tokenizer):
    example = Example(7, "a prompt", (" and an answer that is far too long for it\n",), 0, ("x",))
    with pytest.raises(DataError, match="row 7"):
        Encoder(tokenizer, start=0, max_length=60).encode(shipped("squad"), [example])


def test_scores_are_the_official_ones(tokenizer):
    model, task = make_model(), shipped("sst2")
    objective = OfficialObjective(model, tokenizer, task)
    validation = examples("sst2", "validation")
    encoder = Encoder(tokenizer, start=0, max_length=2048)
    for golden in TOKENS["sst2_scores_initial_weights"]["examples"]:
        with torch.inference_mode():
            scores = objective.scores(encoder.encode(task, [validation[golden["row"]]]))[0]
        expected = [s["value"] for s in golden["scores"]]
        assert scores == pytest.approx(expected, abs=1e-5)


def test_answer_metrics_are_the_official_ones():
    for pair in TOKENS["answer_metrics"]["pairs"]:
        assert metrics.answer_f1(pair["prediction"], pair["golds"]) == pytest.approx(pair["f1"], abs=1e-12)
        assert metrics.exact_match(pair["prediction"], pair["golds"]) == pair["em"]


def test_subsets_are_the_official_ones():
    for check in TOKENS["subset_checks"]:
        drawn = rows._draw(check["split_rows"], check["num"], check["seed"])
        assert len(drawn) == check["length"]
        assert hashlib.sha256(np.array(drawn, "<i8").tobytes()).hexdigest() == check["sha256_int64_le"]
