"""Draws that are held, and work that threads share: the bits are those of drawing again, on one thread."""

import copy
import threading

import pytest
import torch
from helpers.noise import DTYPES
from test_noise import jobs_of

from zobench.methods.ldsd import LDSD
from zobench.methods.loren import LOREN
from zobench.methods.mezo import MeZO
from zobench.zo import Momentum, make_slots, noise
from zobench.zo.noise import cpu_loops, held, philox
from zobench.zo.perturbations.mean_shift import MeanShift
from zobench.zo.perturbations.rank_one import RankOnePrecision

SIZES = [0, 5 * 8192, 3 << 20, 64 << 20]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_held_draws_are_the_draws(dtype, size):
    """Held nowhere, in part or whole; when they are made, read, and made again after all was forgotten."""
    expected, memory = jobs_of(dtype), noise.HeldDraws(size)
    cpu_loops.add_(expected, philox.NORMALS)
    for forgotten in (False, False, True, False):
        if forgotten:
            memory.clear()
        jobs = jobs_of(dtype)
        with noise.holding(memory):
            cpu_loops.add_(jobs, philox.NORMALS)
        assert all(torch.equal(job.out, right.out) for job, right in zip(jobs, expected, strict=True))
    assert memory.made.sum() > 0 if size else not len(memory.made)
    assert memory.numbers.nbytes <= size


def test_parts_of_a_draw_are_read_from_whole_blocks_and_the_reverse():
    whole, memory = torch.zeros(700, 1000), noise.HeldDraws(64 << 20)
    noise.add_rows_(whole, 3, {5: 1.0})
    for rows in ([slice(0, 262), slice(262, 524), slice(524, 700)], [slice(0, 700)], [slice(10, 90), slice(650, 700)]):
        for first in (rows, rows[::-1]):
            memory.clear()
            with noise.holding(memory):
                for part in [*first, slice(0, 700), *rows]:
                    out = torch.zeros(part.stop - part.start, 1000)
                    noise.add_rows_(out, 3, {5: 1.0}, part)
                    assert torch.equal(out, whole[part])


def test_a_number_that_is_held_is_not_made_again():
    """What stands in the memory is what is read, and signs are not held."""
    memory, out = noise.HeldDraws(1 << 20), torch.zeros(4096)
    with noise.holding(memory):
        noise.add_(out, 3, {5: 1.0})
        memory.numbers[:2] = 7.0
        noise.add_(out.zero_(), 3, {5: 1.0})
        assert out.eq(7.0).all()
        noise.add_(out.zero_(), 3, {5: 1.0}, distribution="sign")
        assert out.abs().eq(1.0).all()
    noise.add_(out.zero_(), 3, {5: 1.0})
    assert not out.eq(7.0).any()


def test_what_is_held_ends_with_the_block_of_work_and_is_each_threads_own():
    outer = noise.HeldDraws(1 << 20)
    with noise.working():
        own = held.current()
        noise.add_(torch.zeros(4096), 3, {5: 1.0})
        assert own.made.sum() == 2
    with noise.working():
        assert held.current() is own
        assert own.made.sum() == 0
    with noise.holding(outer), noise.working():
        assert held.current() is outer
        assert copy.deepcopy(outer).size == outer.size
    assert held.current() is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tasks_are_all_done_each_with_torch_on_one_thread_in_the_callers_modes(count, threads):
    threads(count)
    done, seen, memory = [], set(), noise.HeldDraws(1 << 20)

    def task(i):
        seen.add((torch.get_num_threads(), torch.is_grad_enabled(), held.current()))
        done.append(i)

    with torch.no_grad(), noise.holding(memory):
        noise.share(lambda i=i: task(i) for i in range(50))
    assert sorted(done) == list(range(50))
    assert seen == {(1, False, memory)}
    assert torch.get_num_threads() == count
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [count]


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_in_a_task_is_raised_and_the_number_of_threads_comes_back(count, threads):
    threads(count)

    def broken():
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        noise.share([broken] * 5)
    assert torch.get_num_threads() == count


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_tensor_beside_the_draws_is_added_as_torch_adds_it(dtype):
    policy = MeanShift(sigma=0.7, mu0="unit_per_tensor")
    slots = [make_slots([("w", torch.linspace(-1, 1, 210_000).view(300, 700).to(dtype))])[0] for _ in range(2)]
    policy.begin(0, slots[:1])
    direction = {1: 0.5, 2: -0.25}
    policy.move(slots[:1], policy.local(slots[0], direction), keep=0.9)
    assert policy.alone(slots[0])
    policy.alone = lambda slot: False
    policy.move_(slots[1], policy.local(slots[1], direction), keep=0.9)
    assert torch.equal(slots[0].param, slots[1].param)


METHODS = {
    "mezo-momentum": (MeZO, {"rule": Momentum(), "weight_decay": 0.1}),
    "loren": (LOREN, {"probes": 3}),
    "loren-query": (LOREN, {"probes": 3, "update_per": "query"}),
    "ldsd": (LDSD, {"candidates": 3, "rule": Momentum()}),
    "ldsd-one-stream": (LDSD, {"candidates": 3, "reseed_per_tensor": True, "mu0": "unit_per_tensor"}),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_run_has_the_same_bits_whatever_is_held_and_on_any_number_of_threads(name, threads):
    method_class, settings = METHODS[name]

    def run(size, count):
        threads(count)
        generator = torch.Generator().manual_seed(0)
        shapes = {"w": (600, 700), "embed": (500, 900), "b": (3000,), "v": (9,)}
        weights = {n: torch.randn(s, generator=generator).requires_grad_(True) for n, s in shapes.items()}
        method = method_class(weights.items(), lr=1e-2, noise_cache=size, **settings)
        for _ in range(2):
            method.step(lambda: sum(p.detach().double()[:3].square().sum() for p in weights.values()))
        return [*weights.values(), *(x for x in method.state_dict().values() if isinstance(x, torch.Tensor))]

    expected = run(0, 1)
    for size, count in ((5 * 8192, 1), (32 << 20, 1), (0, 3), (3 << 20, 3), (32 << 20, 3)):
        assert all(map(torch.equal, run(size, count), expected)), (size, count)


def test_draws_are_held_by_default_where_little_of_the_model_trains():
    small, large = torch.nn.Parameter(torch.zeros(100)), torch.nn.Parameter(torch.zeros(10_000), requires_grad=False)
    assert MeZO([("small", small), ("large", large)], lr=0.1).held.size == 40_400 // 8
    assert MeZO([("small", small), ("large", large)], lr=0.1, noise_cache=99).held.size == 99
    assert MeZO([("small", small)], lr=0.1).held.size == 0
    with pytest.raises(ValueError, match="noise_cache"):
        MeZO([("small", small)], lr=0.1, noise_cache=-1)


def test_memory_for_held_draws_is_told_apart_from_the_state():
    weights = [("w", torch.zeros(600, 1000)), ("b", torch.zeros(40))]
    for size, expected in ((32 << 20, 4 * 600_000), (1 << 20, 1 << 20), (0, 0)):
        method = MeZO(weights, lr=0.1, noise_cache=size)
        assert method.held.bytes == 0
        for _ in range(2):
            method.step(lambda: 1.0)
        assert expected - 4 * philox.SPAN <= method.held.bytes <= expected
        assert method.state_bytes() == method.twin(method.keys).held.bytes == 0


def test_scores_that_a_step_sums_are_those_that_the_keys_give_again():
    """What a resumed run draws again from its keys: the same bits of ``a``."""
    weights = [("w", torch.linspace(-1, 1, 600_000).view(1000, 600)), ("b", torch.ones(40))]
    method = LOREN(weights, lr=1e-3, probes=3)
    losses = iter([0.5, 0.7, 0.4])
    method.step(lambda: next(losses))
    again = RankOnePrecision()
    again.load_state_dict(method.curvature.state_dict())
    method.curvature.begin(1, method.slots)
    again.begin(1, method.slots)
    for slot in method.slots:
        assert torch.equal(method.curvature.a(slot), again.a(slot))


@pytest.mark.parametrize("count", [1, 2])
def test_a_rule_that_fails_leaves_no_part_at_an_offset(count, threads):
    class Failing(Momentum):
        def __call__(self, slot, estimate, state, step):
            raise MemoryError("no room")

    threads(count)
    weights = {"w": torch.linspace(-1, 1, 600_000).view(1000, 600), "b": torch.ones(40)}
    before = {name: tensor.clone() for name, tensor in weights.items()}
    with pytest.raises(MemoryError, match="no room"):
        MeZO(weights.items(), lr=1e-3, rule=Failing()).step(lambda: weights["w"].square().sum())
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)
