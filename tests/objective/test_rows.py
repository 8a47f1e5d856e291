"""Rows without padding: packed rows, parts by length and copies in one pass give what sequences give alone."""

from itertools import combinations, pairwise

import pytest
import torch
from helpers import matrix
from helpers.families import build

from zobench.models.tuning import LastLayers
from zobench.objective import Objective, check, packing
from zobench.objective.packing import Packing, _Lengths, _now
from zobench.objective.paths import _hidden_states
from zobench.objective.rows import Tail, TokenRows, equal_parts, in_parts, plan
from zobench.objective.virtual_tokens import attention_configs

#: families in each state: packed, packed within a window, padded by length; with experts; with learned positions
FAMILIES = ["llama", "opt", "gpt2", "mixtral", "mistral, windows", "gemma2", "falcon", "bamba"]
LENGTHS = (3, 29, 7, 7, 16, 4, 30)


def tails(last=1):
    return [Tail(tuple(matrix.sequence(n, i)), min(last, n)) for i, n in enumerate(LENGTHS)]


def objective_of(model, **settings):
    return Objective(model, None, matrix.CLASSIFICATION, **settings)


def fewest(lengths, fixed):
    """The cost of the best of all ways to cut the sorted lengths."""
    ordered, best = sorted(lengths), None
    for count in range(len(ordered)):
        for cuts in combinations(range(1, len(ordered)), count):
            edges = [0, *cuts, len(ordered)]
            cost = sum(fixed + (b - a) * ordered[b - 1] for a, b in pairwise(edges))
            best = cost if best is None else min(best, cost)
    return best


@pytest.mark.parametrize("fixed", [0, 1, 5, 20, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_the_plan_costs_what_the_best_of_all_ways_to_cut_costs(seed, fixed):
    lengths = torch.randint(1, 40, (9,), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = plan(tuple(lengths), fixed)
    assert sorted(i for part in parts for i in part) == list(range(9))
    assert sum(fixed + len(part) * max(lengths[i] for i in part) for part in parts) == fewest(lengths, fixed)


@pytest.mark.parametrize("copies", [1, 3])
def test_parts_come_back_in_the_order_of_the_requests_and_copy_after_copy(copies):
    def run(some, copies=1):
        return torch.tensor([[float(t)] for tail in [*some] * copies for t in tail.ids[-tail.last :]])

    requests = tails(last=4)
    expected = run(requests, copies)
    for parts in (equal_parts(LENGTHS, 3), plan(LENGTHS, 5), [[i] for i in range(7)], [range(7)]):
        assert torch.equal(in_parts(run, requests, parts, copies), expected)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float32) for name in FAMILIES), *((name, torch.float64) for name in ("opt", "gpt2", "falcon"))],
)
@torch.no_grad()
def test_hidden_states_are_those_of_each_sequence_alone(name, dtype):
    """With and without copies. (The other families compute norms or weights of experts in fp32, whatever the dtype.)"""
    model = build(name, dtype)
    alone = objective_of(model, length_buckets=1)
    alone.path = next(path for path in alone.paths if path.place == "whole")
    expected = torch.cat([alone._hidden([tail]) for tail in tails(last=3)])
    objective = objective_of(model)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    check.settle(objective, matrix.BATCHES[0])
    for copies in (1, 2):
        found = objective._hidden(tails(last=3), copies)
        torch.testing.assert_close(found, expected.repeat(copies, 1), rtol=tolerance, atol=tolerance)
    assert torch.equal(objective._hidden(tails(last=3), 2), found), "the same way twice gives the same bits"


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("only", [None, "mlp"])
@torch.no_grad()
def test_cached_activations_are_packed_too(layers, only):
    model = build("llama", torch.float64)
    LastLayers(layers=layers, only=only or "").apply(model, None, 0)
    examples = matrix.BATCHES[1]
    cached, padded = (objective_of(model, cache_gib=1.0, length_buckets=n) for n in ("auto", 1))
    rows = []
    model.model.layers[-1].mlp.register_forward_pre_hook(lambda module, args: rows.append(args[0][..., 0].numel()))
    for objective in (cached, padded):
        objective.prepare(examples)
    found = []
    for objective in (cached, padded):
        rows.clear()
        found.append((torch.tensor([x for s in objective.scores(examples) for x in s]), sum(rows)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=1e-6)
    if only and layers == 1:  # only what is asked for goes through what lies behind the last attention
        assert found[0][1] == found[1][1] == sum(tail.last for tail in cached.tails(examples))
    else:
        assert found[0][1] < found[1][1]


def test_which_families_pack():
    assert [name for name in FAMILIES if objective_of(build(name)).paths[0].packed] == FAMILIES[:5]


def test_sequences_longer_than_a_window_are_padded_and_equal_ones_need_no_packing():
    lay = Packing(8)
    assert lay([(1, 2), (3,)], "cpu").positions is not None
    assert lay([(1, 2), (3, 4)], "cpu").positions is None
    assert lay([(1,), tuple(range(9))], "cpu").positions is None


@torch.no_grad()
def test_what_is_longer_than_a_window_is_padded_by_length_and_the_rest_lies_in_one_row():
    model = build("mistral, windows")
    objective, shapes = objective_of(model), []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    objective.path = next(path for path in objective.paths if path.place == "whole")
    objective._hidden(tails())
    assert shapes == [(1, 3 + 7 + 7 + 4), (3, 30)]
    assert objective.padding == "none up to 8 tokens"


@torch.no_grad()
def test_the_cache_is_filled_from_rows_of_at_most_so_many_tokens(monkeypatch):
    monkeypatch.setattr(packing, "ROW", 40)
    model = build("llama", torch.float64)
    LastLayers(layers=2).apply(model, None, 0)
    (cached, *_), (padded, *_) = (objective_of(model, cache_gib=1.0, length_buckets=n).paths for n in ("auto", 1))
    shapes = []
    model.model.layers[0].register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape[:2])))
    found = [path.prefix.anew(tails()) for path in (cached, padded)]
    assert shapes == [(1, sum(LENGTHS)), (len(LENGTHS), max(LENGTHS))]
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)
    shapes.clear()
    cached.prefix.fill(tails())
    assert shapes == [(1, 3 + 4 + 7 + 7 + 16), (1, 29), (1, 30)]
    torch.testing.assert_close(cached.prefix.hidden(tails()), found[0], rtol=1e-6, atol=1e-6)


def test_one_call_for_all_sequences_gives_what_a_call_for_each_gives():
    """What runs on a GPU spreads the sequences over a padded batch, and picks their tokens out again."""
    lengths = (3, 1, 4)
    spread, back = _Lengths(lengths).places(torch.device("cpu"))
    row = torch.arange(8)
    padded = row[spread].view(3, 4)
    assert [padded[i, :n].tolist() for i, n in enumerate(lengths)] == [[0, 1, 2], [3], [4, 5, 6, 7]]
    assert torch.equal(padded.flatten()[back], row)


def test_the_attention_is_the_models_own_again_after_an_error():
    model = build("llama")
    seen, rows = [], TokenRows.packed([(5, 6), (7,)], "cpu")

    def fail(module, args):
        seen.append(model.config._attn_implementation)
        raise KeyboardInterrupt

    model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        _hidden_states(model, attention_configs(model), rows.ids, rows)
    assert seen == ["zobench_packed"]
    assert model.config._attn_implementation == "sdpa"
    assert _now.get(None) is None


@torch.no_grad()
def test_micro_batches_add_up_to_the_batch():
    objective = objective_of(build("llama"))
    batch = matrix.BATCHES[0]
    parts = [objective.loss_sum(batch[i : i + 3]) for i in range(0, 4, 3)]
    assert float(sum(total for total, _ in parts)) == pytest.approx(float(objective.loss_sum(batch)[0]), rel=1e-6)
