"""The GPU's noise kernel without a GPU: run by Triton's interpreter, compiled for GPUs, and checked before it is used.

Triton asks when it is imported whether to interpret: a process of its own (``main``) runs the cases, once.
"""

import os
import re
import subprocess
import sys
import warnings
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from zobench.zo import noise, philox

KEYS = [0x79F61BFD50593F1A, 2**64 - 1, 5, 0, 2**63, 7_777_777_777]
WEIGHTS = [0.37, -1.3e-3, 2.0, 1 / 3, -0.7, 1e-9]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
#: (elements, index of the first): across spans, across 32 bits of the counter and of the index
PLACES = [(1, 0), (2047, 77), (2049, (1 << 41) - 1000), (5000, (3 << 40) + 2047)]
TERMS = [(1, 1.0), (6, 0.99)]
STREAMS = [philox.NORMALS, philox.SIGNS]


def weights_of(size, dtype):
    return torch.randn(size, generator=torch.Generator().manual_seed(size)).to(dtype)


def defined(start, first, terms, keep, stream):
    """The sum by separate operations, in fp32 or fp64."""
    total = start.double() if start.dtype == torch.float64 else start.float()
    total = total * keep
    for key, weight in zip(KEYS[:terms], WEIGHTS, strict=False):
        total = total + philox.DRAWS[stream](key, first, total.numel(), total.device).to(total.dtype) * weight
    return total


def name_of(*case):
    return " ".join(map(str, case))


def main(path):
    from zobench.zo import triton_noise

    found = {}
    for stream, dtype, (size, first), (terms, keep) in product(STREAMS, DTYPES, PLACES, TERMS):
        flat = weights_of(size, dtype)
        triton_noise.add_(flat, first, KEYS[:terms], WEIGHTS[:terms], keep, stream)
        found[name_of(stream, dtype, size, first, terms)] = flat
    save_file(found, path)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    pytest.importorskip("triton", reason="Triton is not installed")
    path = tmp_path_factory.mktemp("interpreted") / "found.safetensors"
    search = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": search}
    ended = subprocess.run([sys.executable, __file__, path], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return load_file(path)


@pytest.mark.parametrize(("terms", "keep"), TERMS)
@pytest.mark.parametrize(("size", "first"), PLACES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stream", STREAMS)
def test_the_kernel_gives_the_definitions_bits(interpreted, stream, dtype, size, first, terms, keep):
    found = interpreted[name_of(stream, dtype, size, first, terms)]
    total = defined(weights_of(size, dtype), first, terms, keep, stream)
    if dtype != torch.bfloat16:
        assert torch.equal(found, total.to(dtype))
        return
    # GPUs round to bf16, as the compiled kernel asks them to (below); Triton's interpreter cuts the bits off.
    cut = (total.view(torch.int32) & -(1 << 16)).view(torch.float32).to(dtype)
    assert torch.equal(found, total.to(dtype)) or torch.equal(found, cut)


def assembly(kind, capability):
    """The kernel's PTX, for weights of a dtype of Triton's and a GPU of this capability."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from zobench.zo import triton_noise

    constants = {"kind": tl.float64 if kind == "fp64" else tl.float32, "stream": philox.NORMALS}
    signature = {"flat": f"*{kind}", "plan": "*i64", "kind": "constexpr", "stream": "constexpr"}
    source = ASTSource(triton_noise._add, signature, constants)
    return triton.compile(source, GPUTarget("cuda", capability, 32), triton_noise.OPTIONS).asm["ptx"]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kind", ["fp32", "fp64", "bf16", "fp16"])
def test_the_compiled_kernel_rounds_every_operation(kind, capability, tmp_path, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ptx = assembly(kind, capability)
    operations = re.findall(r"^\s*((?:add|sub|mul|div|sqrt|rcp|rsqrt|fma|mad)\.(?:\w+\.)*f(?:16|32|64)\S*)", ptx, re.M)
    assert {"mul", "add", "div", "sqrt"} <= {operation.split(".")[0] for operation in operations}
    assert {operation.split(".")[0] for operation in operations} <= {"add", "sub", "mul", "div", "sqrt"}
    assert {operation.split(".")[1] for operation in operations} == {"rn"}
    if kind in ("bf16", "fp16") and capability >= 80:
        assert f"cvt.rn.{kind.replace('fp', 'f')}.f32" in ptx


def fusing(flat, first, keys, weights, keep, stream):
    """What a kernel gives that contracts to fused multiply-adds: the product is not rounded."""
    total = flat * keep
    for key, weight in zip(keys, torch.tensor(weights).tolist(), strict=True):
        z = philox.normals(key, first, flat.numel(), flat.device)
        total = (total.double() + z.double() * weight).to(flat.dtype)
    flat.copy_(total)


def failing(*_):
    raise RuntimeError("no C compiler")


def untouched(*_):
    pass


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [(fusing, "bits differ"), (untouched, "bits differ"), (failing, "RuntimeError: no C compiler")],
)
def test_a_broken_kernel_is_not_used(kernel, reason):
    with pytest.warns(RuntimeWarning, match=f"not used for torch.float32 on cpu.*{reason}"):
        assert noise.checked(kernel, torch.device("cpu"), torch.float32, philox.NORMALS) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_kernel_is_used(dtype):
    def right(flat, first, keys, weights, keep, stream):
        total = flat.double() if dtype == torch.float64 else flat.float()
        total.mul_(keep)
        for key, weight in zip(keys, weights, strict=True):
            total.add_(philox.DRAWS[stream](key, first, flat.numel(), flat.device).to(total.dtype) * weight)
        flat.copy_(total)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for stream in STREAMS:
            assert noise.checked(right, torch.device("cpu"), dtype, stream) is right


if __name__ == "__main__":
    main(sys.argv[1])
