"""A comparison that is run once for all that look at it."""

import fcntl
import os
import shutil
from types import SimpleNamespace

import pytest
import yaml
from helpers.comparison import ENTRIES, ONLY, held, rules
from helpers.processes import Sweep
from helpers.tiny_runs import TINY

from zobench.rules import stages


@pytest.fixture(scope="session", autouse=True)
def sweeps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "subprocess", SimpleNamespace(Popen=Sweep))
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory, sweeps):
    """Where a comparison of two entries and zero-shot was run, with two of the five seeds; one for all workers."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "comparison"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _run(folder)
    return folder


def _run(folder):
    (folder / "mine" / "rules").mkdir(parents=True)
    (folder / "mine" / "rules" / "entries.yaml").write_text(ENTRIES)
    toy = {"words": " ".join([*TINY, "task=sst2"]), "forwards": 16, "rates": 100}
    (folder / "mine" / "rules" / "workloads.yaml").write_text(yaml.safe_dump({"toy": toy}))
    ran = rules(folder, "run", *ONLY, "--ruleset", "tuned,seconds", "--runs", "RUNS", "--seeds", "1,2")
    assert ran.returncode == 0, ran.stderr


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="session")
def found(folder):
    return held(folder)
