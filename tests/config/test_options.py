"""What ships in conf/: options whose files point at a class, with the settings that they list."""

import pytest

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.options import describe, load_yaml

GROUPS = ("model", "task", "tuning", "protocol", "method/rule")
FILES = [path for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_an_option_can_be_made_of_its_file_and_says_what_it_is(path):
    node = {key: value for key, value in load_yaml(path).items() if value != "???"}
    made = instantiate.build(node, path.parent.name)
    assert type(made).__name__ == node["_target_"].rpartition(".")[2]
    assert describe(path)
