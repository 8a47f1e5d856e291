"""zobench's commands as processes of their own, without the seconds in which one would import its libraries.

It is forked from a server that has imported them and done nothing else.
"""

import multiprocessing
import os
import resource
import runpy
import sys
import time
from itertools import count
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "zobench.run.app", "zobench.run.runner", "transformers.models.opt.modeling_opt", "zobench.zo.noise.cpu_loops",
        "numba.cpython.numbers", "numba.np.arrayobj", "pandas", "pytest",
    ]
)  # fmt: skip
_numbers = count()


class Zobench:
    """A running command.

    Args:
        folder: the working directory; what it prints is kept there.
        arguments: those after ``python -m zobench``.
        module: another command, such as ``zobench.sweep``, or the path of a script.
        environment: variables that it has beside this process's; None removes one.
        largest_file: bytes past which no file may grow.
        before: a function that is called first in it; pickled by its name.
    """

    def __init__(self, folder, *arguments, module="zobench", environment=None, largest_file=None, before=None):
        number = next(_numbers)
        self._files = [Path(folder) / f".process-{number}-{name}" for name in ("out", "err")]
        words = [str(module), *map(str, arguments)]
        settings = (folder, self._files, words, environment or {}, largest_file, before)
        self._process = SERVER.Process(target=_become, args=settings)
        self._process.start()

    @property
    def running(self):
        return self._process.exitcode is None

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def wait(self, seconds=90):
        """(exit code, stdout, stderr) at its end, which must come; the code is negative for a signal."""
        self._process.join(seconds)
        out, error = (file.read_text() if file.exists() else "" for file in self._files)
        if self.running:
            self._process.kill()
            raise AssertionError(f"still running after {seconds} s: {out}{error}")
        return self._process.exitcode, out, error


def _become(folder, files, words, environment, largest_file, before):
    for fd, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), fd)
    os.chdir(folder)
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if before is not None:
        before()
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent if words[0].endswith(".py") else folder))
    run = runpy.run_path if words[0].endswith(".py") else runpy.run_module
    run(words[0], run_name="__main__")


def slowly():
    """In a process: steps take long enough to be counted from outside."""
    from zobench.zo import Method

    original = Method.step

    def slow(self, closure):
        time.sleep(0.03)
        return original(self, closure)

    Method.step = slow


class Sweep(Zobench):
    """A sweep as ``zobench.rules`` starts it."""

    def __init__(self, command):
        _, _, module, *arguments = command
        super().__init__(Path.cwd(), *arguments, module=module)

    def wait(self):
        code, *said = super().wait()
        assert code == 0, said
        return code
