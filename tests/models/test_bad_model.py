"""Models and tokenizers that cannot be used: the message says what to do, and nothing is left behind."""

import pytest
import torch

from zobench.config import instantiate
from zobench.config.signature import compose
from zobench.errors import ConfigError, ModelError
from zobench.models.hub import load_folder
from zobench.models.tiny import tiny_tokenizer
from zobench.run.runner import run

RUN = (
    "data=mini", "wandb=disabled", "threads=1", "batch_size=2", "steps=1",
    "task.splits.mini.train=4", "task.splits.mini.dev=4", "task.splits.mini.test=4",
)  # fmt: skip


def cell(tmp_path, *overrides):
    return run(compose(*RUN, f"runs_dir={tmp_path / 'runs'}", *overrides))


def refused(tmp_path, *overrides, kind=ModelError):
    """The message of a run that must fail, and leaves nothing behind."""
    with pytest.raises(kind) as caught:
        cell(tmp_path, *overrides)
    assert not (tmp_path / "runs").exists()
    return str(caught.value)


def saved_model(tmp_path, positions=256, pad=True):
    """A model folder in Hugging Face format, with a pad token in its tokenizer or without."""
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    spec = compose("model=tiny-opt", f"model.max_length={positions}").model
    tokenizer = tiny_tokenizer()
    model = AutoModelForCausalLM.from_config(instantiate.build(spec, "model").config(len(tokenizer)))
    if not pad:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_that_is_none(tmp_path):
    said = refused(tmp_path, "model=opt-125m", "model.dir=/nowhere/opt")
    assert "model.dir=/nowhere/opt" in said
    assert "Hugging Face format" in said


@pytest.mark.parametrize("damage", ["truncated", "no weights", "no tokenizer", "bad config"])
def test_a_damaged_folder(tmp_path, damage):
    """Refused as it is loaded; that a run leaves nothing is proven by the folder that is none."""
    model = saved_model(tmp_path)
    weights = model / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no tokenizer":
        (model / "tokenizer.json").unlink()
    else:
        (model / "config.json").write_text('{"model_type": "opt", ')
    with pytest.raises(ModelError, match=f"model.dir={model} cannot be loaded"):
        load_folder(model, dtype=torch.float32, device=torch.device("cpu"), attention="sdpa")


def test_a_context_longer_than_the_model_has_positions(tmp_path):
    model = saved_model(tmp_path, positions=32)
    with pytest.raises(ConfigError, match=r"32.*model\.max_length|model\.max_length.*32"):
        cell(tmp_path, "task=rte", "model=opt-125m", f"model.dir={model}")
    assert not list(tmp_path.rglob("summary.json"))


def test_a_tokenizer_without_pad_token_works(tmp_path):
    model = saved_model(tmp_path, pad=False)
    row = cell(tmp_path, "model=opt-125m", f"model.dir={model}", "model.max_length=256")
    assert row["state"] == "finished"


def test_a_start_token_that_the_tokenizer_lacks(tmp_path):
    said = refused(tmp_path, "model=tiny-opt", "model.start_token.native='<nope>'")
    assert "no start token '<nope>'" in said
    assert "model.start_token.native" in said


def test_a_model_without_a_start_token_works(tmp_path):
    assert cell(tmp_path, "model=tiny-llama", "model.start_token.native=null")["state"] == "finished"
