"""The noise engine: its bits are defined, and the same on every path, in every job and on any number of threads."""

import math
import random
from dataclasses import replace

import pytest
import torch
from helpers.noise import CPU, DISTRIBUTIONS, DTYPES, GROUP, KEYS, SIZES, STREAMS, defined, run_of

from zobench.methods.mezo import MeZO
from zobench.zo import Gaussian, Rademacher, make_slots
from zobench.zo.keys import mix
from zobench.zo.noise import cpu_loops, philox
from zobench.zo.noise import draws as noise
from zobench.zo.noise.job import NoiseJob

WEIGHTS = [0.37, -1.7, 1e-3]


def jobs_of(dtype, terms=3, keep=0.9):
    """Jobs of many shapes: runs and rows, in place and from a source."""
    jobs = []
    runs = [(1, 0), (2047, 5), (2049, 2048), (4096, 0), (5003, 12345), (3001, GROUP - 1500)]
    shapes = [((4, 100), [49, 3, 3, 20], 5), ((3, 2500), [1, 1 << 30, 0], 77), ((2, 2048), [6, 31], 0)]
    shapes.append(((5, 1), [4, 0, 1, 3, 2], 9))
    for shape, rows, first in [((n,), None, first) for n, first in runs] + shapes:
        source = torch.randn(shape, generator=torch.Generator().manual_seed(shape[0])).to(dtype)
        rows = None if rows is None else torch.tensor(rows)
        out = torch.full_like(source, 7.0)
        jobs.append(NoiseJob(out, source, first, KEYS[:terms], WEIGHTS[:terms], keep, rows))
        in_place = source.clone()
        jobs.append(NoiseJob(in_place, in_place, first, KEYS[:terms], WEIGHTS[:terms], keep, rows))
    return jobs


@pytest.fixture
def torch_only(monkeypatch):
    """Call it to leave only the torch operations."""

    def switch():
        monkeypatch.setenv("ZOBENCH_NOISE", "torch")
        noise._fused.cache_clear()

    yield switch
    monkeypatch.undo()
    noise._fused.cache_clear()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("first", "count"), SIZES)
def test_compiled_loops_give_the_defined_bits(distribution, dtype, first, count):
    """One pass over three draws and a factor equals the separate operations, to the bit."""
    draws = {11: 0.3, 2**62 + 5: -1.7, 3: 1e-3}
    start = torch.linspace(-1, 1, count, dtype=dtype)
    result, expected = start.clone(), start.mul(0.9)
    noise.add_(result, 42, draws, keep=0.9, first=first, distribution=distribution)
    for key, weight in draws.items():
        expected.add_(run_of(mix(key, 42), first, count, STREAMS[distribution]).to(dtype).mul(weight))
    assert noise._fused(CPU, dtype, STREAMS[distribution]) is cpu_loops.add_
    assert torch.equal(result, expected)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("terms", "keep"), [(0, 0.5), (1, 1.0), (3, 0.9)])
def test_jobs_of_all_shapes_in_one_call(distribution, dtype, terms, keep):
    """Runs and rows, in place and from a source: the compiled loops, torch's operations and the definition agree."""
    stream = STREAMS[distribution]
    expected = [defined(job, stream) for job in jobs_of(dtype, terms, keep)]
    for add in (cpu_loops.add_, noise._by_torch):
        jobs = jobs_of(dtype, terms, keep)
        sources = [job.source.clone() for job in jobs]
        add(jobs, stream)
        for job, right, source in zip(jobs, expected, sources, strict=True):
            assert torch.equal(job.out, right)
            assert job.out is job.source or torch.equal(job.source, source)
        add([], stream)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize(("first", "count"), SIZES)
def test_half_precision_is_summed_in_fp32_and_rounded_once(dtype, elsewhere, terms, first, count):
    """Also what is not finite, what is too large for the type, and what is so small that it loses bits."""
    source = torch.linspace(-300, 300, count).to(dtype)
    source[::3] *= 2.0**-24
    source[0] = float("nan")
    if count > 1:
        source[-2:] = torch.tensor([torch.finfo(dtype).max, float("inf")])
    out = torch.zeros_like(source) if elsewhere else source
    job = NoiseJob(out, source, first, KEYS[:terms], [2.0**-20, 3e4][:terms], 0.9)
    expected = defined(replace(job, source=source.clone()), philox.NORMALS)
    cpu_loops.add_([job], philox.NORMALS)
    torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_number_of_16_bits_is_read_and_every_rounding_is_torchs(dtype):
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    out = torch.zeros_like(every)
    cpu_loops.add_([NoiseJob(out, every, 0, [], [], 1.0)], philox.SIGNS)
    torch.testing.assert_close(out, every, rtol=0, atol=0, equal_nan=True)
    # A sign is half of the last place, the place itself, or more: ties both ways, and carries.
    for weight in (2.0**-12, 2.0**-9, 2.0**-3, 3.0, 2.0**5, 100.3):
        cpu_loops.add_([NoiseJob(out, every, 0, KEYS[:1], [weight], 1.0)], philox.SIGNS)
        expected = (every.float() + run_of(KEYS[0], 0, 2**16, philox.SIGNS) * weight).to(dtype)
        torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_any_slice_is_a_part_of_the_whole_on_any_number_of_threads(distribution, threads):
    n, whole = 600_001, {}
    for count in (1, 2, 3):
        threads(count)
        whole[count] = noise.draw(5, 6, torch.Size([n]), CPU, distribution)
    assert torch.equal(whole[1], whole[2])
    assert torch.equal(whole[1], whole[3])
    generator = random.Random(1)
    places = [(0, 10), (300_000, 4097), (n - 1, 1), (GROUP - 1, 2), (GROUP, 2048), (3 * GROUP - 7, 5000)]
    for first, count in places + [(generator.randrange(n - 9000), generator.randrange(1, 9000)) for _ in range(20)]:
        part = torch.zeros(count)
        noise.add_(part, 6, {5: 1.0}, first=first, distribution=distribution)
        assert torch.equal(part, whole[1][first : first + count])


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("share", [997, 1 << 14])
def test_threads_share_a_list_of_jobs_without_a_trace(distribution, share, threads, monkeypatch):
    """Jobs of odd sizes, handed out in shares that end anywhere in a span or a row."""
    monkeypatch.setattr(cpu_loops, "_SHARE", share)
    expected = [defined(job, STREAMS[distribution]) for job in jobs_of(torch.float32)]
    for count in (1, 2, 3):
        threads(count)
        jobs = jobs_of(torch.float32)
        cpu_loops.add_(jobs, STREAMS[distribution])
        assert all(torch.equal(job.out, right) for job, right in zip(jobs, expected, strict=True))


def test_an_error_in_a_thread_is_raised(threads, monkeypatch):
    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(cpu_loops, "_add", broken)
    for count in (1, 3):
        threads(count)
        with pytest.raises(MemoryError, match="no room"):
            cpu_loops.add_(jobs_of(torch.float32), philox.NORMALS)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_a_draw_are_added_to_rows_of_a_tensor(distribution, dtype):
    """By index, by slice or all of them; of matrices, vectors, numbers and what has more axes."""
    draws = {3: 0.5, 4: -2.0}
    for shape in ((30, 70), (5000,), (9, 8, 7), ()):
        whole = torch.linspace(-1, 1, math.prod(shape)).to(dtype).view(shape)
        expected, result = whole.clone(), whole.clone()
        for key, weight in draws.items():
            draw = run_of(mix(key, 8), 0, whole.numel(), STREAMS[distribution]).view(shape)
            expected.add_(draw.to(dtype).mul(weight))
        noise.add_rows_(result, 8, draws, distribution=distribution)
        assert torch.equal(result, expected)
        for rows in (slice(2, 7), slice(3, 3), torch.tensor([4, 1, 4])) if shape else ():
            part = whole[rows].clone()
            noise.add_rows_(part, 8, draws, rows, distribution=distribution)
            assert torch.equal(part, expected[rows])


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_no_rows_are_no_work(distribution):
    for width in (70, 0):
        noise.add_rows_(torch.zeros(0, width), 8, {3: 0.5}, torch.zeros(0, dtype=torch.int64), distribution)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_a_run_without_the_compiled_loops_has_the_same_weights(dtype, distribution, torch_only):
    def weights():
        parameters = {"w": torch.linspace(-1, 1, 70_000).view(700, 100).to(dtype), "b": torch.ones(33, dtype=dtype)}
        method = MeZO(parameters.items(), lr=1e-4, probes=2, weight_decay=0.1, distribution=distribution)
        for _ in range(3):
            method.step(lambda: sum(p.double().square().mean() for p in parameters.values()))
        return parameters

    compiled = weights()
    torch_only()
    assert noise._fused(CPU, torch.float32, philox.NORMALS) is None
    for name, tensor in weights().items():
        assert torch.equal(tensor, compiled[name])
    assert not torch.equal(compiled["w"], torch.linspace(-1, 1, 70_000).view(700, 100).to(dtype))


@pytest.mark.parametrize("perturbation", [Gaussian(), Rademacher()])
def test_one_pass_equals_the_definition_and_tells_autograd(perturbation):
    slots = [make_slots([("w", torch.ones(300, 700))])[0] for _ in range(2)]
    before = slots[0].param._version
    direction = {1: 0.5, 2: -0.25}
    perturbation.move_(slots[0], perturbation.local(slots[0], direction), keep=0.5)
    slots[1].param.mul_(0.5)
    for key, weight in direction.items():
        perturbation.add_(slots[1], perturbation.draw(slots[1], key), slots[1].param, weight)
    assert torch.equal(slots[0].param, slots[1].param)
    assert slots[0].param._version > before
