"""What the golden numbers of the official MeZO code were recorded with: model, tokenizer and rows."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from helpers.tasks import shipped
from zobench.data import files

GOLDEN = Path(__file__).parents[1] / "golden"
OFFICIAL = json.loads((GOLDEN / "mezo_official.json").read_text(encoding="utf-8"))


def make_tokenizer():
    path = str(GOLDEN / "tokenizer" / "tokenizer.json")
    return PreTrainedTokenizerFast(
        tokenizer_file=path, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def make_model():
    """The tiny OPT of the golden runs: weights from numpy, so that no library version can change them."""
    config = OFFICIAL["model"]["config"]
    model = OPTForCausalLM(OPTConfig(**config, attn_implementation="eager")).eval()
    for i, (name, param) in enumerate(model.named_parameters()):
        values = np.random.RandomState(1000 + i).standard_normal(tuple(param.shape)).astype(np.float32) * np.float32(
            0.05
        )
        norm = "layer_norm" in name and name.endswith("weight")
        param.data.copy_(torch.from_numpy(values + np.float32(1.0) if norm else values))
    return model


def examples(name, split):
    table = files.read(GOLDEN / "data" / name / f"{split}.jsonl")
    task = shipped(name)
    return [task.example(i, row) for i, row in enumerate(table.take(table.names))]


class OfficialLosses:
    """A closure that measures its own losses and answers the official ones, so that a step's bits hang on no CPU.

    Processors round matrix products differently: a loss of ours is the official one up to rounding, and everything
    that a step makes of the two losses is the official step's to the last bit.
    """

    def __init__(self, objective, batch, step):
        self.objective, self.batch = objective, batch
        self.official = [float.fromhex(step[loss]["hex"]) for loss in ("loss1", "loss2")]
        self.own = []

    def __call__(self):
        self.own.append(float(self.objective.loss_sum(self.batch)[0]))
        return self.official[len(self.own) - 1]
