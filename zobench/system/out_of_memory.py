"""Out of memory, in the forms in which it comes, told with what to do about it."""

import re
import traceback

from omegaconf import DictConfig

from zobench.errors import UserError, is_out_of_memory


class OutOfMemory(UserError, MemoryError):
    """Memory of the machine or of the GPU is used up; the checkpoint before stays valid."""


def explained(error: BaseException, cfg: DictConfig) -> BaseException:
    """Put ``OutOfMemory`` in the place of an error that means it; any other error stays as it is.

    What the failed call held is let go, so that the record can still be closed.

    Args:
        error: what a run raised.
        cfg: of the run; the message says what to lower, and from which value.
    """
    if not is_out_of_memory(error):
        return error
    traceback.clear_frames(error.__traceback__)
    reason = re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
    micro = cfg.micro_batch_size or f"the whole batch of {cfg.batch_size}"
    return OutOfMemory(
        f"out of memory: {reason}\n"
        f"in a step, lower micro_batch_size (now {micro}); in an evaluation, lower eval_batch_size "
        f"(now {cfg.eval_batch_size}); or set dtype=bfloat16"
    )
