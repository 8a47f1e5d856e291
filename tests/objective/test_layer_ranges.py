"""Any range of layers: what lies below is cached, what is frozen above runs, and losses are the model's own."""

from types import SimpleNamespace

import pytest
import torch
from helpers import matrix
from helpers.families import LISTED, TARGETS, build

from zobench import MeZO
from zobench.models.adapters import named_parameters
from zobench.models.tuning import LastLayers, LoRA
from zobench.objective import Objective, check

RANGES = ["0-1", "1-2", [1], [1, 3], "3-3"]


def tuned(family, tuning):
    model = build(family)
    facts = SimpleNamespace(lora_targets=TARGETS.get(family.partition(",")[0], ["q_proj", "v_proj"]))
    return model, tuning.apply(model, facts, 0)


def objective_of(model, cache_gib):
    objective = Objective(model, None, matrix.CLASSIFICATION, cache_gib=cache_gib)
    check.settle(objective, matrix.BATCHES[0][:2])
    return objective


@pytest.mark.parametrize("layers", RANGES, ids=str)
@pytest.mark.parametrize("family", LISTED)
@torch.no_grad()
def test_the_cached_part_below_any_range_equals_full_evaluation(family, layers):
    first = 0 if layers == "0-1" else int(str(layers).strip("[")[0])
    for tuning in (LastLayers(layers=layers), LoRA(layers=layers, r=2)):
        model, named = tuned(family, tuning)
        objective = objective_of(model, 1.0)
        objective.prepare(matrix.BATCHES[0])
        assert (objective.prefix is not None) == (first > 0)
        for i, (_, param) in enumerate(named):
            param.add_(0.02 * torch.randn(param.shape, generator=torch.Generator().manual_seed(i)))
        for batch in matrix.BATCHES:
            assert matrix.difference(objective, batch) < 1e-4
        if first in (1, 2):
            assert objective.forward_path.startswith(f"from layer {first}")


@pytest.mark.parametrize("tuning", [LastLayers(layers="1-2"), LastLayers(layers="1-2", only="mlp"), LoRA(layers="1-2")])
def test_layers_outside_the_range_keep_their_bits_and_the_lower_ones_do_not_run(tuning):
    model, named = tuned("llama", tuning)
    objective = objective_of(model, 1.0)
    batch = matrix.BATCHES[0]
    objective.prepare(batch)
    before = {name: param.detach().clone() for name, param in named_parameters(model)}
    ran = []
    for place, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda module, args, place=place: ran.append(place))
    method = MeZO(named_parameters(model), lr=1e-3, eps=1e-3, seed=0)
    assert [slot.name for slot in method.slots] == [name for name, _ in named]
    method.step(lambda: objective.loss_sum(batch)[0])
    assert ran == [1, 2, 3, 1, 2, 3]
    moved = {name for name, param in named_parameters(model) if not torch.equal(param, before[name])}
    trained = {name for name, _ in named}
    assert moved <= trained
    assert all(".layers.1." in name or ".layers.2." in name for name in trained)
    assert {name for name in trained if not name.endswith("lora_a")} == {n for n in moved if not n.endswith("lora_a")}
