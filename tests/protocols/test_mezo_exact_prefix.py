"""Prefix tuning under ``protocol=mezo_exact`` against numbers recorded from the official MeZO code."""

import hashlib
import json

import numpy as np
import pytest
import torch
from helpers.mezo_official import GOLDEN, OFFICIAL, OfficialLosses, examples, make_model, make_tokenizer
from helpers.tasks import shipped

from zobench.methods.mezo import MeZO
from zobench.models.prefix_tuning import PrefixTuning
from zobench.objective import Encoder
from zobench.protocols import MezoExact

RUNS = json.loads((GOLDEN / "mezo_prefix.json").read_text(encoding="utf-8"))["runs"]
#: the runs of full tuning that had the same training rows
FULL = {"sst2": "sst2_weight_decay_0.1", "squad": "squad_lm_weight_decay_0.1"}
ROWS = {
    name: run["train_rows"] for name, run in json.loads((GOLDEN / "mezo_official.json").read_text())["runs"].items()
}


def values(golden):
    return np.frombuffer(bytes.fromhex(golden["float32_le_hex"]), "<f4").reshape(golden["shape"])


@pytest.mark.parametrize("name", list(RUNS))
def test_twelve_steps_and_the_answers_after_them_are_the_official_ones(name):
    golden, task, model, tokenizer = RUNS[name], shipped(name), make_model(), make_tokenizer()
    settings = golden["settings"]
    named = PrefixTuning(tokens=settings["num_prefix"]).apply(model, None, settings["seed"])
    assert [n for n, _ in named] == list(golden["first"])
    for n, param in named:
        np.testing.assert_allclose(param.detach().numpy(), values(golden["first"][n]), atol=1e-6, rtol=0)
        param.data.copy_(torch.tensor(values(golden["first"][n])))
    pool = examples(name, "train")
    train = Encoder(tokenizer, start=0, max_length=2048).encode(
        task, [pool[i] for i in OFFICIAL["runs"][FULL[name]]["train_rows"]]
    )
    protocol = MezoExact()
    rates = {"lr": settings["learning_rate"], "eps": settings["zo_eps"], "weight_decay": settings["weight_decay"]}
    method = MeZO(model.named_parameters(), **rates)
    protocol.attach(method, settings["seed"])
    objective = protocol.objective(model, tokenizer, task, cache_gib=0.0)
    for step in golden["steps"]:
        order = protocol.batch(method.t, len(train), settings["per_device_train_batch_size"], settings["seed"])
        assert method.keys(method.t) == step["zo_random_seed"]
        closure = OfficialLosses(objective, [train[i] for i in order], step)
        method.step(closure)
        np.testing.assert_allclose(closure.own, closure.official, rtol=2e-6)
        assert method.oracle.notes["projected_gradient"].hex() == step["projected_grad"]["hex"]
        prefix = b"".join(param.detach().numpy().tobytes() for _, param in named)
        assert hashlib.sha256(prefix).hexdigest() == step["sha256_after_step"]
    for n, param in named:
        np.testing.assert_array_equal(param.detach().numpy(), values(golden["final"][n]))
    for answer in golden["answers"]:
        prompt = answer["prompt"]
        out = objective.greedy._run([prompt], len(prompt), settings["max_new_tokens"]).sequences[0, len(prompt) :]
        assert tokenizer.decode(out, skip_special_tokens=True).strip() == answer["text"]
