"""Memory that a thread uses again and again for the temporaries of blocks of work.

Blocks are as large as an allocator asks the system for anew each time, and what comes from there is written with zeros
page by page: that takes as long as half of drawing it.
"""

import threading

import torch
from torch import Tensor

from zobench.zo import noise

_here = threading.local()


def scratch(name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous tensor of the shape of another, of any values, until this thread asks for the name again.

    A tensor larger than a block, or elsewhere than on a CPU, is a new one.

    Args:
        name: of a use; temporaries that are needed at one time have different names.

    Example:
        >>> block = scratch("example", torch.ones(2, 3), torch.float32).fill_(1.0)
        >>> scratch("example", torch.ones(4), torch.float32).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    size = noise.block(like.device)
    if like.device.type != "cpu" or like.numel() > size:
        return torch.empty(like.shape, dtype=dtype, device=like.device)
    memory: dict[tuple[str, torch.dtype], Tensor] = _here.__dict__.setdefault("memory", {})
    if (name, dtype) not in memory:
        with torch.inference_mode(False):  # a tensor of that mode could not be written outside of it
            memory[name, dtype] = torch.empty(size, dtype=dtype)
    return memory[name, dtype][: like.numel()].view(like.shape)
