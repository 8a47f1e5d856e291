"""The noise by its definition."""

import torch

from zobench.zo.noise import philox

CPU = torch.device("cpu")
SPAN = philox.SPAN
GROUP = philox.BITS * SPAN
SIZES = [(0, 1), (0, 2047), (5, 2049), (2048, 4096), (511, 3), (12345, 5000), (GROUP - 3000, 5000), (2**43 - 9, 2100)]
STREAMS = {"normal": philox.NORMALS, "sign": philox.SIGNS}
DISTRIBUTIONS = list(STREAMS)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
KEYS = [0x79F61BFD50593F1A, 2**64 - 1, 5]


def run_of(key, first, count, stream):
    """Elements of a draw, from its spans."""
    spans = torch.arange(first // SPAN, (first + count + SPAN - 1) // SPAN)
    return philox.DRAWS[stream](key, spans).reshape(-1)[first % SPAN : first % SPAN + count]


def defined(job, stream):
    """What a job leaves in ``out``: separate operations in fp32 or fp64, then one rounding."""
    total = job.source.to(torch.promote_types(job.source.dtype, torch.float32)) * job.keep
    for key, weight in zip(job.keys, job.weights, strict=True):
        if job.rows is None:
            z = run_of(key, job.first, total.numel(), stream)
        else:
            width = total.shape[1]
            z = torch.stack([run_of(key, job.first + row * width, width, stream) for row in job.rows.tolist()])
        total = total + z.to(total.dtype) * weight
    return total.to(job.source.dtype)
