"""The pytest plugin of ``python -m zobench.testing``: its options, and the cases that they choose."""

import json
from typing import Any

import pytest

from zobench.errors import ConfigError
from zobench.testing.cases import Case, cases
from zobench.testing.contracts import pairs
from zobench.testing.problem import Problem

_CASES = pytest.StashKey[list[Case]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--method``, ``--setting`` and ``--device``."""
    group = parser.getgroup("zobench", "the contracts of zobench's methods")
    group.addoption("--method", action="append", default=[], metavar="MODULE.CLASS", help="the method; may be repeated")
    group.addoption("--setting", action="append", default=[], metavar="KEY=VALUE", help="an argument of the method")
    group.addoption("--device", default="cpu", help="where the weights are, e.g. cuda")


def pytest_configure(config: pytest.Config) -> None:
    """Find the methods, and make each once: what cannot be made is one error, and not one for each contract."""
    try:
        chosen = [case for target in config.getoption("method") for case in _cases(config, target)]
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_CASES] = chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a case and a contract over all pairs of them."""
    if {"case", "contract"} <= set(metafunc.fixturenames):
        chosen = metafunc.config.stash[_CASES]
        named = pairs(chosen)
        metafunc.parametrize(("case", "contract"), list(named.values()), ids=list(named))


def _cases(config: pytest.Config, target: str) -> list[Case]:
    if "." not in target:
        raise ConfigError(f"--method {target}: expected MODULE.CLASS, such as my_pkg.MyMethod")
    settings = dict(setting.partition("=")[::2] for setting in config.getoption("setting"))
    node = {"_target_": target, **{key: _value(text) for key, text in settings.items()}}
    chosen = list(cases(target.rpartition(".")[2], node, config.getoption("device")))
    chosen[0].method(Problem())
    return chosen


def _value(text: str) -> Any:
    """A number, true, false or null; other words are text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
