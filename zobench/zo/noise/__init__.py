"""The engine that draws: counter-based random numbers for tensors, on CPU and GPU."""

from zobench.zo.noise.draws import (
    Distribution,
    add_,
    add_all_,
    add_rows_,
    block,
    blocks,
    draw,
    gaussian,
    make_job,
    takes_beside,
)  # fmt: skip
from zobench.zo.noise.held import HeldDraws, holding, working
from zobench.zo.noise.job import NoiseJob
from zobench.zo.noise.workers import Task, share

__all__ = [
    "Distribution", "HeldDraws", "NoiseJob", "Task", "add_", "add_all_", "add_rows_", "block", "blocks", "draw",
    "gaussian", "holding", "make_job", "share", "takes_beside", "working",
]  # fmt: skip
