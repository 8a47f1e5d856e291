"""Families of transformers under every tuning: scores and losses are those of the model's own forward pass."""

from pathlib import Path

import pytest
import torch
import transformers
from helpers import matrix
from helpers.families import LISTED, OTHERS, build

from zobench.models.tuning import LastLayers
from zobench.objective import Objective, check

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
WINDOWED = ["qwen2, windows", "mistral, windows", "gemma2", "gemma3_text", "cohere2", "gpt_oss", "olmo3"]


@pytest.mark.parametrize("name", LISTED)
def test_a_family_is_run_as_the_page_says_and_gives_what_transformers_gives(name):
    cells = {case: matrix.measure(name, *case) for case in matrix.CASES}
    assert all(cell.refusal or cell.difference < 1e-4 for cell in cells.values()), cells
    assert not cells["full", 0.0].refusal
    facts = f"{matrix.attention_of(name)} | {matrix.padding_of(name)}"
    assert f"| {name} | {facts} | {' | '.join(map(str, cells.values()))} |" in PAGE.splitlines()


def test_the_page_has_every_family_and_says_with_which_version_it_was_made():
    rows = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.partition("## The families")[2].splitlines()]
    assert [row for row in rows if row in LISTED or row in OTHERS] == [*LISTED, *OTHERS]
    assert f"transformers {transformers.__version__}," in PAGE, "run scripts/record_models.py"


@pytest.mark.parametrize("name", WINDOWED)
@torch.no_grad()
def test_an_untrained_model_scores_the_same_whatever_is_to_be_tuned(name):
    """Layers above a cut keep their own mask and rotary embedding; a cache changes nothing."""
    found = []
    for layers, cache in ((None, 0.0), (1, 1.0), (2, 1.0), (3, 1.0), (3, 0.0)):
        model = build(name)
        if layers:
            LastLayers(layers=layers).apply(model, None, 0)
        objective = Objective(model, None, matrix.CLASSIFICATION, cache_gib=cache)
        check.settle(objective, matrix.BATCHES[0])
        assert objective.forward_path.startswith(f"from layer {4 - layers}" if cache else "trimmed")
        found.append(torch.tensor(objective.scores(matrix.BATCHES[0])))
    assert all(torch.allclose(scores, found[0], atol=1e-5) for scores in found)
