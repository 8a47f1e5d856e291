"""The GPU's noise kernel without a GPU: run by Triton's interpreter, compiled for GPUs, and checked before it is used.

Triton asks when it is imported whether to interpret: a process of its own (``main``) runs the cases, once.
"""

import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from helpers.noise import DTYPES, defined
from safetensors.torch import load_file, save_file

from zobench.zo.noise import draws, philox
from zobench.zo.noise.job import NoiseJob

KEYS = [0x79F61BFD50593F1A, 2**64 - 1, 5, 0, 2**63, 7_777_777_777]
WEIGHTS = [0.37, -1.3e-3, 2.0, 1 / 3, -0.7, 1e-9]
#: (shape, rows, index of the first): across spans, across 32 bits of the counter and of the index, across 32 spans
PLACES = [
    ((1,), None, 0),
    ((2047,), None, 77),
    ((2049,), None, (1 << 41) - 1000),
    ((5000,), None, (3 << 40) + 2047),
    ((3001,), None, philox.BITS * philox.SPAN - 1500),
    ((4, 100), (49, 3, 3, 20), 5),
    ((3, 2500), (1, 1 << 30, 0), (1 << 33) + 77),
    ((2, 2048), (31, 6), 0),
]
TERMS = [(1, 1.0), (6, 0.99)]
STREAMS = [philox.NORMALS, philox.SIGNS]
#: fp32 at every place with every number of draws; other dtypes differ in sums and rounding, for which two places do
CASES = [(s, torch.float32, place, t) for s in STREAMS for place, t in product(range(len(PLACES)), range(len(TERMS)))]
CASES += [(stream, dtype, place, 1) for stream in STREAMS for dtype in DTYPES[1:] for place in (3, 6)]


def job_of(dtype, place, terms):
    """The work of a case; in every second one the source is another tensor than the result."""
    (shape, rows, first), (count, keep) = PLACES[place], TERMS[terms]
    source = torch.randn(shape, generator=torch.Generator().manual_seed(shape[0])).to(dtype)
    out = torch.full_like(source, 7.0) if (place + terms) % 2 else source
    rows = None if rows is None else torch.tensor(rows)
    return NoiseJob(out, source, first, KEYS[:count], WEIGHTS[:count], keep, rows)


def name_of(*case):
    return " ".join(map(str, case))


def main(path):
    from zobench.zo.noise import gpu_kernel

    results = {}
    for stream, dtype in product(STREAMS, DTYPES):
        cases = [case for case in CASES if case[:2] == (stream, dtype)]
        jobs = [job_of(*case[1:]) for case in cases]
        gpu_kernel.add_([*jobs, NoiseJob(torch.zeros(0), torch.zeros(0), 0, [1], [1.0], 1.0)], stream)
        results |= {name_of(*case): job.out for case, job in zip(cases, jobs, strict=True)}
    save_file(results, path)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    pytest.importorskip("triton", reason="Triton is not installed")
    path = tmp_path_factory.mktemp("interpreted") / "results.safetensors"
    root = Path(__file__).resolve().parents[2]
    search = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": search}
    ended = subprocess.run([sys.executable, __file__, path], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return load_file(path)


@pytest.mark.parametrize(("stream", "dtype", "place", "terms"), CASES)
def test_the_kernel_gives_the_definitions_bits(interpreted, stream, dtype, place, terms):
    result = interpreted[name_of(stream, dtype, place, terms)]
    job = job_of(dtype, place, terms)
    if dtype != torch.bfloat16:
        assert torch.equal(result, defined(job, stream))
        return
    # GPUs round to bf16, as the compiled kernel asks them to (below); Triton's interpreter cuts the bits off.
    total = defined(replace(job, source=job.source.float()), stream)
    cut = (total.view(torch.int32) & -(1 << 16)).view(torch.float32).to(dtype)
    assert torch.equal(result, total.to(dtype)) or torch.equal(result, cut)


def assembly(kind, stream, capability):
    """The kernel's PTX, for weights of a dtype of Triton's, a distribution and a GPU of this capability."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from zobench.zo.noise import gpu_kernel

    constants = {"kind": tl.float64 if kind == "fp64" else tl.float32, "stream": stream}
    signature = {"out": f"*{kind}", "source": f"*{kind}", "rows": "*i64", "plan": "*i64"}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(gpu_kernel._add, signature, constants)
    return triton.compile(source, GPUTarget("cuda", capability, 32), gpu_kernel.OPTIONS).asm["ptx"]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("kind", ["fp32", "fp64", "bf16", "fp16"])
def test_the_compiled_kernel_rounds_every_operation(kind, stream, capability, tmp_path, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ptx = assembly(kind, stream, capability)
    operations = re.findall(r"^\s*((?:add|sub|mul|div|sqrt|rcp|rsqrt|fma|mad)\.(?:\w+\.)*f(?:16|32|64)\S*)", ptx, re.M)
    needed = {"mul", "add"} if stream == philox.SIGNS else {"mul", "add", "div", "sqrt"}
    assert needed <= {operation.split(".")[0] for operation in operations} <= needed | {"sub"}
    assert {operation.split(".")[1] for operation in operations} == {"rn"}
    if kind in ("bf16", "fp16"):
        assert f"cvt.rn.{kind.replace('fp', 'f')}.f32" in ptx


def right(jobs, stream):
    for job in jobs:
        job.out.copy_(defined(job, stream))


def fusing(jobs, stream):
    """What a kernel gives that contracts to fused multiply-adds: the product is not rounded."""
    for job in jobs:
        total = job.source * job.keep
        for key, weight in zip(job.keys, torch.tensor(job.weights).tolist(), strict=True):
            z = defined(replace(job, source=torch.zeros_like(total), keys=[key], weights=[1.0]), stream)
            total = (total.double() + z.double() * weight).to(total.dtype)
        job.out.copy_(total)


def in_place(jobs, stream):
    """A kernel that reads what it writes."""
    right([replace(job, source=job.out.nan_to_num()) for job in jobs], stream)


def first_rows(jobs, stream):
    """A kernel that does not look which rows are asked for."""
    right([replace(p, rows=None if p.rows is None else torch.arange(len(p.rows))) for p in jobs], stream)


def first_job(jobs, stream):
    right(jobs[:1], stream)


def low_keys(jobs, stream):
    """A kernel that takes 32 bits of a key."""
    right([replace(job, keys=[key % 2**32 for key in job.keys]) for job in jobs], stream)


def failing(*_):
    raise RuntimeError("no C compiler")


def untouched(*_):
    pass


BROKEN = [fusing, untouched, in_place, first_rows, first_job, low_keys]


@pytest.mark.parametrize(
    ("kernel", "reason"), [(failing, "RuntimeError: no C compiler"), *((kernel, "bits differ") for kernel in BROKEN)]
)
def test_a_broken_kernel_is_not_used(kernel, reason):
    with pytest.warns(RuntimeWarning, match=f"not used for torch.float32 on cpu.*{reason}"):
        assert draws.checked(kernel, torch.device("cpu"), torch.float32, philox.NORMALS) is None


def test_a_kernel_of_the_other_distribution_is_not_used():
    for stream in STREAMS:
        with pytest.warns(RuntimeWarning, match="bits differ"):
            assert (
                draws.checked(lambda p, asked: right(p, 1 - asked), torch.device("cpu"), torch.float32, stream) is None
            )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_kernel_is_used(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for stream in STREAMS:
            assert draws.checked(right, torch.device("cpu"), dtype, stream) is right


if __name__ == "__main__":
    main(sys.argv[1])
