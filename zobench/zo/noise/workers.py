"""Work on blocks of tensors, shared out over threads that meet once, when all of it is done."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from zobench.zo.noise.held import current, holding

Task = Callable[[], None]
_here = threading.local()


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="zobench-noise")


def run(tasks: Iterable[Task]) -> None:
    """Do tasks, in any order, on as many threads as torch uses; those of compiled loops, which call no torch.

    Raises:
        Exception: what a task raises.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for task in tasks:
            task()
        return
    work = list(tasks)
    threads = min(threads, len(work))
    work.reverse()
    helpers = [_pool(threads - 1).submit(_take, work) for _ in range(threads - 1)]
    try:
        _take(work)
    finally:
        for helper in helpers:
            helper.result()


def share(tasks: Iterable[Task]) -> None:
    """Do tasks that call torch, in any order, on as many threads as torch uses: each task on one of them.

    The modes of the caller (gradients, inference) and where its draws are held are those of all threads.

    Raises:
        Exception: what a task raises.
    """
    work, threads = list(tasks), torch.get_num_threads()
    if threads == 1:
        for task in work:
            task()
        return
    gradients, inference, held = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), current()

    def in_mode(task: Task) -> None:
        if not getattr(_here, "alone", False):
            torch.set_num_threads(1)  # of this thread's own calls; what it sets for later threads, the caller puts back
            _here.alone = True
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients), holding(held):
            task()

    work.reverse()
    helpers = [_pool(threads - 1).submit(_take, work, in_mode) for _ in range(min(threads, len(work)) - 1)]
    try:
        torch.set_num_threads(1)
        _take(work)
    finally:
        try:
            for helper in helpers:
                helper.result()
        finally:
            torch.set_num_threads(threads)


def _take(work: list[Task], do: Callable[[Task], None] = lambda task: task()) -> None:
    """Do tasks from the end of a list, which other threads take from too, until it is empty."""
    while True:
        try:
            task = work.pop()
        except IndexError:
            return
        do(task)
