"""The activation tap: it sees the inputs of layers, without padding, whatever a batch is cut into."""

import pytest
import torch
import torch.nn.functional as F
from helpers import matrix
from helpers.families import build

from zobench.models.tuning import LastLayers
from zobench.objective import Objective
from zobench.objective.paths import WHOLE
from zobench.testing.problem import Problem
from zobench.zo import Direction, Oracle, make_slots, mix, noise
from zobench.zo.independent import Gaussian
from zobench.zo.perturbations.bases import OVERSAMPLING
from zobench.zo.perturbations.input_sketch import InputSketch
from zobench.zo.tap import ActivationTap

BATCH = matrix.BATCHES[0]


def objective_of(name, place=None):
    model = build(name)
    objective = Objective(model, None, matrix.CLASSIFICATION)
    if place:
        objective.path = next(path for path in objective.paths if path.place == place)
    return model, objective


def sketched(model, run, rank=3):
    sketch = InputSketch(make_slots(model.named_parameters()), rank, key=7)
    with torch.inference_mode(), ActivationTap(sketch.slots, sketch):
        run()
    return sketch


def grams_of(model, sequences):
    """``Σ Xᵀ X`` of every layer with a weight, from the model's own forward pass of one sequence at a time."""
    grams, handles = {}, []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 2 and not isinstance(module, torch.nn.Embedding):

            def see(module, args, name=f"{name}.weight"):
                x = args[0].reshape(-1, args[0].shape[-1])
                grams[name] = grams.get(name, 0) + x.T @ x

            handles.append(module.register_forward_pre_hook(see))
    with torch.inference_mode():
        for ids in sequences:
            model.base_model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return grams


@pytest.mark.parametrize("name", ["opt", "gpt2", "llama", "qwen2"])
def test_the_sketch_of_a_padded_batch_is_that_of_its_sequences_alone(name):
    model, objective = objective_of(name, WHOLE)
    prompts = [prompt for prompt, _ in objective._shared_prompts(BATCH)]
    assert len({len(ids) for ids in prompts}) > 1
    sketch = sketched(model, lambda: objective.loss_sum(BATCH))
    grams = grams_of(model, prompts)
    seen = [slot for slot in sketch.slots if slot.name in grams and sketch.axis(slot) is not None]
    assert len(seen) >= 4 * 4
    for slot in seen:
        axis = sketch.axis(slot)
        assert sketch.rows(slot) == sum(map(len, prompts))
        width = torch.Size((slot.param.shape[axis], 3 + OVERSAMPLING))
        expected = grams[slot.name] @ noise.gaussian(7, slot.id, width, slot.param.device)
        assert torch.allclose(sketch.sketch(slot), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_micro_batches_add_up():
    model, objective = objective_of("opt")
    whole = sketched(model, lambda: objective.loss_sum(BATCH))
    parts = sketched(model, lambda: [objective.loss_sum(BATCH[i : i + 1]) for i in range(len(BATCH))])
    for x, y in zip(whole.sums(), parts.sums(), strict=True):
        assert torch.allclose(x, y, rtol=1e-4, atol=1e-4)


def test_layers_that_do_not_run_are_named():
    model, _ = objective_of("opt")
    sketch = InputSketch(make_slots(model.named_parameters()), 2, key=7)
    LastLayers(layers=1).apply(model, None, 0)
    objective = Objective(model, None, matrix.CLASSIFICATION, cache_gib=1.0)
    objective.prepare(BATCH)
    with torch.inference_mode(), ActivationTap(sketch.slots, sketch):
        objective.loss_sum(BATCH)
    matrices = {slot.name for slot in sketch.slots if slot.param.ndim == 2}
    assert matrices - {slot.name for slot in sketch.unseen()} == {name for name in matrices if ".layers.3." in name}


def test_a_tied_weight_is_seen_as_a_look_up_and_as_a_layer():
    class Uses:
        def __init__(self):
            self.seen = []

        def add(self, slot, inputs, axis):
            self.seen.append((slot.name, tuple(inputs.shape), axis))

        def sums(self):
            return []

    table, uses = torch.ones(5, 3), Uses()
    with ActivationTap(make_slots([("table", table)]), uses):
        hidden = F.embedding(torch.tensor([[0, 4]]), table)
        F.linear(hidden, table)
        hidden @ table.T  # a view: not seen
        torch.addmm(torch.zeros(3), torch.ones(2, 5), table)
        torch.ones(1, 2, 5) @ table
    layers = [("table", (2,), 0), ("table", (2, 3), 1), ("table", (2, 5), 0), ("table", (2, 5), 0)]
    assert uses.seen == layers


def test_the_oracle_taps_losses_at_the_weights_alone():
    problem = Problem()
    oracle = Oracle(make_slots(problem.parameters.items()), Gaussian())
    sketch = InputSketch(oracle.slots, 2, key=mix(1))
    oracle.begin(lambda: problem.loss(0))
    offset = 0.1 * Direction.ray(7)
    with oracle.tap(sketch):
        oracle.loss(offset)
        assert {slot.name for slot in sketch.unseen()} == {"embed.weight", "layer.weight", "head.weight"}
        oracle.loss()
    assert [slot.name for slot in sketch.unseen()] == ["embed.weight"]
    oracle.settle()


def test_directions_within_the_span_of_the_inputs_lose_nothing_of_the_gradient():
    """``∇W = Xᵀ G``: with as many columns as the layer has inputs, ``A Aᵀ ∇W`` is the gradient itself."""
    problem = Problem()
    for p in problem.parameters.values():
        p.requires_grad_(True)
    slots = make_slots(problem.parameters.items())
    sketch = InputSketch(slots, 6, key=3)
    with ActivationTap(slots, sketch):
        problem.loss(0).backward()
    slot = slots[1]
    basis = sketch.basis(slot)
    assert len(basis) == 8  # wider than the six rows of the embedding that its inputs come from
    assert torch.allclose(basis @ (basis.T @ slot.param.grad), slot.param.grad, atol=1e-5)
    assert float(slot.param.grad.norm()) > 1e-3
