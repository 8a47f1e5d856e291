"""How a run's peak memory was measured, and whether it can stand beside that of other runs."""

from typing import Any

#: the high water of a process that may have had other runs before: it grows with the run's place in its sweep
_SHARED = "VmHWM of the process since the run began"
SHARED = "the peak of a process that may have had other runs before, which grows with the place in the sweep"


def of_the_run_alone(measured_by: Any) -> bool:
    """Whether a record's ``memory_measured_by`` tells of a peak that is the run's own; one that is unknown does not.

    >>> of_the_run_alone("torch.cuda.max_memory_allocated, summed over the GPUs"), of_the_run_alone(None)
    (True, False)
    """
    return isinstance(measured_by, str) and bool(measured_by) and not measured_by.startswith(_SHARED)
