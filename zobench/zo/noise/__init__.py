"""The engine that draws: counter-based random numbers for tensors, on CPU and GPU."""

from zobench.zo.noise.draws import Distribution, add_, add_all_, add_rows_, block, blocks, draw, gaussian, make_job
from zobench.zo.noise.job import NoiseJob

__all__ = [
    "Distribution", "NoiseJob", "add_", "add_all_", "add_rows_", "block", "blocks", "draw", "gaussian", "make_job",
]  # fmt: skip
