"""``python -m`` without the seconds that a new process takes to import torch."""

import io
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from importlib import import_module
from subprocess import CompletedProcess
from unittest.mock import patch


def command(module, *arguments, cwd):
    """``python -m module arguments``, in this process: its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    main = import_module(f"{module}.__main__").main
    with (
        patch.object(sys, "argv", [module, *arguments]), patch.dict(os.environ), chdir(cwd),
        redirect_stdout(out), redirect_stderr(err),
    ):  # fmt: skip
        try:
            code = main()
        except SystemExit as ended:
            code = ended.code
    return CompletedProcess(arguments, code or 0, out.getvalue(), err.getvalue())
