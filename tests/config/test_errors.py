"""Errors reach the sweep from the process of a cell: pickled, with their message, whatever their constructor takes."""

import pickle
from pathlib import Path

import pytest

from zobench import errors
from zobench.system.out_of_memory import OutOfMemory


@pytest.mark.parametrize(
    "error",
    [
        errors.UserError("a"),
        errors.ConfigError("method.lr=fast: expected a number"),
        errors.RunExists({"state": "finished"}, Path("runs/x")),
        errors.MissingExtra("report", ModuleNotFoundError("No module", name="pandas")),
        errors.CannotWrite(Path("runs/x/metrics.jsonl"), OSError(28, "No space left on device")),
        OutOfMemory("out of memory: 12 GiB"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_pickled_and_back(error):
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
