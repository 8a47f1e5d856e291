"""What ships in conf/: options whose files point at a class, with the settings that they list."""

import re
from pathlib import Path

import pytest

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.former import TEMPLATE
from zobench.config.options import describe, load_yaml
from zobench.config.overrides import FrontDoor
from zobench.config.signature import compose

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("model", "task", "tuning", "protocol", "objective", "method/rule")
FILES = [path for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_an_option_can_be_made_of_its_file_and_says_what_it_is(path):
    node = {key: value for key, value in load_yaml(path).items() if value != "???"}
    made = instantiate.build(node, path.parent.name)
    assert type(made).__name__ == node.get("_target_", TEMPLATE).rpartition(".")[2]
    assert describe(path)


ROW_OF_DOCS = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \| ([\d.e-]+) \| ([\d.e-]*) *\|", re.M)


@pytest.mark.parametrize("tuning", ["lora", "prefix"])
def test_a_tunings_defaults_are_those_that_help_and_docs_tell_and_what_is_typed_wins(tuning):
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8").partition(f"| `tuning={tuning}` |")[2]
    rows = ROW_OF_DOCS.findall(text.partition("\n\n")[0])
    told = {name: (float(lr), eps) for names, lr, eps in rows for name in re.findall(r"\w+", names)}
    assert set(told) == {path.stem for path in (conf_dir() / "defaults" / tuning).glob("*.yaml")}
    shown = FrontDoor([conf_dir()]).everything().partition("where the tuning sets them")[2]
    column = shown.index(f"tuning={tuning}") - shown.rindex("\n", 0, shown.index(f"tuning={tuning}")) - 1
    for method, (lr, eps) in told.items():
        used = compose(f"tuning={tuning}", f"method={method}").method
        assert (used.lr, used.get("eps")) == (lr, float(eps) if eps else used.get("eps"))
        (line,) = re.findall(rf"^  {method} +lr=.*$", shown, re.M)
        assert re.match(rf"lr={used.lr}( |$)", line[column:])
        assert load_yaml(conf_dir() / "method" / f"{method}.yaml").get("lr") != lr
    assert compose(f"tuning={tuning}", f"method={method}", "method.lr=3").method.lr == 3
    assert compose("tuning=full", f"method={method}").method.lr != lr
