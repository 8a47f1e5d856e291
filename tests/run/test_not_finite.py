"""Where a score or a loss of an evaluation is not finite the run stops with one line, and its row has no metric."""

import math

import pytest
import torch
import transformers
from helpers.tiny_runs import lines_of, summary_of

from zobench.config import instantiate
from zobench.config.signature import compose
from zobench.data import rows
from zobench.errors import ModelError
from zobench.models.tiny import tiny_tokenizer
from zobench.objective import Encoder
from zobench.run.runner import run
from zobench.zo import lens, make_slots

N = 8
SIZES = [f"task.splits.mini.{part}={N}" for part in ("train", "dev", "test")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``folder(task, split, value)``: a small GPT-2 that overflows at one example of a split alone."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=2048, bos_token_id=0, eos_token_id=2,
        pad_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)

    def make(task_name, split, value):
        cfg = compose(f"task={task_name}", "data=mini", *SIZES)
        task = instantiate.build({**cfg.task}, "task")
        drawn = rows.load(task, task_name, directory="mini", splits="mini", data_seed=0, test_seed=0, strict=True)
        encoder = Encoder(tokenizer, start=0, max_length=2048)
        ids = {part: [{t for r in e.rows for t in r.ids[:-1]} for e in encoder.encode(task, getattr(drawn, part))]
               for part in ("train", "dev", "test")}  # fmt: skip
        every = [(part, tokens) for part, examples in ids.items() for tokens in examples]
        chosen = next(
            token for tokens in ids[split] for token in tokens if [p for p, other in every if token in other] == [split]
        )
        with torch.no_grad():
            weight = model.get_input_embeddings().weight
            before, weight[chosen] = weight[chosen].clone(), value
            model.save_pretrained(path / f"{task_name}-{split}-{value}")
            weight[chosen] = before
        tokenizer.save_pretrained(path / f"{task_name}-{split}-{value}")
        return path / f"{task_name}-{split}-{value}"

    return make


def start(tmp_path, directory, *overrides):
    words = ["model=tiny-pretrained", "model.max_length=2048", f"model.dir={directory}"] if directory else []
    return run(
        compose(
            *words,
            "data=mini",
            *SIZES,
            "wandb=disabled",
            "threads=1",
            f"runs_dir={tmp_path}",
            "batch_size=4",
            *overrides,
        )
    )


def metrics_in(row):
    return [name for name in row if name.split("/")[-1].startswith(("accuracy", "auc", "f1", "exact", "loss"))]


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(("task", "value"), [("sst2", 3e38), ("rte", -3e38), ("squad", 3e38)])
def test_one_example_whose_score_is_not_finite_leaves_no_metric(folder, tmp_path, task, value, split):
    with pytest.raises(ModelError) as caught:
        start(tmp_path, folder(task, split, value), f"task={task}", "method=zeroshot")
    assert str(caught.value).startswith(
        f"{split}: the scores of 1 of {N} examples are not finite (nan) before any step"
    )
    assert "\n" not in str(caught.value)
    (directory,) = tmp_path.glob("*/*/*/*")
    row = summary_of(directory)
    assert row["state"] == "failed"
    assert str(caught.value) in row["reason"]
    assert metrics_in(row) == [] == lines_of(directory)
    assert not {"test_metric", "dev_metric"} & set(row)


@pytest.mark.parametrize(
    ("task", "method", "lr"), [("sst2", "mezo", 1e38), ("rte", "adamw", 1e36), ("squad", "mezo", 1e38)]
)
def test_weights_that_a_step_spoilt_end_the_run_as_diverged_at_the_dev_evaluation(tmp_path, task, method, lr):
    row = start(tmp_path, None, "model=tiny-llama", f"task={task}", f"method={method}", f"method.lr={lr}", "steps=1")
    assert row["state"] == "diverged"
    assert row["reason"].startswith(
        f"dev: the scores of {N} of {N} examples are not finite (nan), step 1; lower method"
    )
    assert {name.split("/")[0] for name in metrics_in(row)} == {"zero_shot"}  # finite: the model as it came
    assert all("dev/loss" not in line for line in lines_of(row["directory"]))


def test_the_lens_says_of_which_step_its_losses_are_not_finite(tmp_path):
    words = ("task=sst2", "method=mezo", "steps=2", "lens.every=1", "lens.gradient=false", "method.lr=1e38")
    row = start(tmp_path, None, "model=tiny-llama", *words, "eval_every=2", "method.eps=1e-3")
    assert row["state"] == "diverged"
    assert row["reason"].startswith("lens: the loss is nan")
    assert ", step 1; lower" in row["reason"]


def test_a_gradient_that_is_not_finite_has_no_readings():
    weight = torch.ones(3, requires_grad=True)
    (slot,) = make_slots([("w", weight)])
    readings = lens.readings([[torch.ones(3)]] * 3, [torch.tensor([1.0, math.nan, 1.0])], 2)
    assert readings == {"draws": 3, "weights": slot.param.numel(), "gradient_norm": None}
