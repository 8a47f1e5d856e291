"""Estimates remember prices in a cache folder of the tests' own."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
