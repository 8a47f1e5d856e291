"""Models placed by ``device_map``: what of it a machine without GPUs can show."""

from pathlib import Path

import pytest
import torch

from zobench.config.signature import compose
from zobench.errors import ModelError
from zobench.models.hub import HubModel
from zobench.run.runner import run

FACTS = {"max_length": 128, "start_token": {"native": "</s>", "mezo": "<s>"}, "lora_targets": ["q_proj"]}


def load(folder, device_map):
    spec = HubModel(id="tiny", dir=str(folder), device_map=device_map, **FACTS)
    return spec.load(dtype=torch.float32, device=torch.device("cpu"), attention="sdpa").model


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}])
def test_the_weights_are_where_the_map_puts_them(folder, device_map):
    plain, placed = load(folder, None), load(folder, device_map)
    for (name, a), (_, b) in zip(plain.named_parameters(), placed.named_parameters(), strict=True):
        assert b.device.type == "cpu", name
        assert torch.equal(a, b), name


def test_weights_that_are_nowhere_cannot_be_moved(folder):
    with pytest.raises(ModelError, match=r"puts weights on .*meta.*none offloaded"):
        load(folder, {"model.decoder.layers.1": "meta", "": "cpu"})


def test_a_misspelt_map(folder):
    with pytest.raises(ModelError, match="atuo"):
        load(folder, "atuo")


def test_a_run_gives_the_same_bits(folder, tmp_path):
    small = [f"task.splits.mini.{split}=8" for split in ("train", "dev", "test")]
    common = ("model=opt-125m", f"model.dir={folder}", "model.max_length=128", "data=mini", *small, "batch_size=4")
    rows = []
    for number, placed in enumerate(("null", "auto")):
        cfg = compose(
            *common, "method.lr=1e-3", "steps=4", "wandb=disabled", "threads=1", f"runs_dir={tmp_path / str(number)}",
            f"model.device_map={placed}",
        )  # fmt: skip
        rows.append(run(cfg))
    assert {row["state"] for row in rows} == {"finished"}
    assert len({(row["weights_checksum"], row["test/loss"]) for row in rows}) == 1
    assert Path(rows[0]["directory"]).is_dir()
