"""Fixtures shared by the tests: tiny models of both architectures, tasks as composed, and the real data."""

import copy
import gc
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.options import load_yaml
from zobench.config.signature import compose
from zobench.data import rows
from zobench.objective import Encoder
from zobench.run.runner import run
from zobench.system.imports import keep_imports

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


_modules = 0


def pytest_collection_finish():
    """What is imported by now, and what loads models, leaves the garbage collector's sight.

    A run begins by collecting garbage, and would spend most of its time on the objects of torch and transformers.
    """
    keep_imports()


def pytest_runtest_logfinish():
    """So do the libraries that tests load."""
    global _modules
    if len(sys.modules) > _modules + 500:
        _modules = len(sys.modules)
        gc.collect()
        gc.freeze()


@dataclass(frozen=True)
class Tiny:
    """A loaded model with its spec, and an encoder with the clean protocol's start token."""

    spec: Any
    model: Any
    tokenizer: Any
    encoder: Encoder


@cache
def _spec(name):
    return instantiate.build(OmegaConf.to_container(compose(f"model={name}").model), "model")


@cache
def _loaded(name, dtype):
    return _spec(name).load(dtype=dtype, device=torch.device("cpu"), attention="sdpa")


def _load(name, dtype=torch.float32, gain=1.0):
    spec, loaded = _spec(name), _loaded(name, dtype)
    model = copy.deepcopy(loaded.model)
    with torch.no_grad():
        for param in model.parameters():
            param.mul_(gain if param.ndim == 2 else 1.0)
    start = spec.start_id(loaded.tokenizer, "native")
    encoder = Encoder(loaded.tokenizer, start=start, max_length=spec.max_length)
    return Tiny(spec, model, loaded.tokenizer, encoder)


@pytest.fixture(scope="session")
def load_spec():
    """``load_spec("tiny-opt")``: the model's facts, nothing loaded."""
    return _spec


@pytest.fixture(scope="session")
def load_model():
    """``load_model("tiny-opt", dtype, gain)``: a fresh model; ``gain`` scales its matrices."""
    return _load


@pytest.fixture(params=["tiny-opt", "tiny-llama"])
def tiny(request):
    """A fresh model of either architecture, its weights scaled up so that the context matters to each token."""
    return _load(request.param, gain=4.0)


@cache
def _task(name):
    return instantiate.build(OmegaConf.to_container(compose(f"task={name}").task), "task")


@pytest.fixture(scope="session")
def compose_task():
    """``compose_task("rte")``: the task as a command line would build it."""
    return _task


def _mini(name, data_seed=0):
    task = _task(name)
    return task, rows.load(task, name, directory="mini", splits="mini", data_seed=data_seed, test_seed=0, strict=True)


@pytest.fixture(scope="session")
def mini():
    """``mini("rte", data_seed)``: (task, its splits of the files that ship with zobench)."""
    return _mini


@pytest.fixture(scope="session")
def shared_data():
    """The folder with the real data sets, in the hub's layout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data sets are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_record(tmp_path_factory):
    """The record of a real run, which tests edit into those they need."""
    overrides = ("model=tiny-llama", "task=sst2", "data=mini", "wandb=disabled", "threads=1", "batch_size=4", "steps=4")
    sizes = [f"task.splits.mini.{split}={n}" for split, n in (("train", 4), ("dev", 8), ("test", 4))]
    cfg = compose(*overrides, *sizes, f"runs_dir={tmp_path_factory.mktemp('tiny')}")
    return Path(run(cfg)["directory"])


def pytest_generate_tests(metafunc):
    """``task_name`` runs over every file in conf/task, ``mini_name`` over those with files that ship with zobench."""
    splits = {path.stem: load_yaml(path)["splits"] for path in sorted((conf_dir() / "task").glob("*.yaml"))}
    if "task_name" in metafunc.fixturenames:
        metafunc.parametrize("task_name", splits)
    if "mini_name" in metafunc.fixturenames:
        metafunc.parametrize("mini_name", [name for name in splits if "mini" in splits[name]])
