"""Methods of another package: three keep the contracts and run, the others are told why not."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from helpers.processes import Zobench
from helpers.tiny_runs import TINY, summary_of

from zobench.errors import ConfigError
from zobench.tasks.template import TemplateTask
from zobench.testing.__main__ import main
from zobench.testing.cases import cases
from zobench.testing.contracts import CONTRACTS, LONG

HERE = Path(__file__).resolve().parent
SOUND = ("OneSided", "TwoBatches", "FromInputs")
BROKEN = ("Forgetful", "Amnesiac", "Overshooting", "Elsewhere", "Unmasked", "Secretive", "Thrifty")
YAML = """
defaults:
  - rule: sgd
_target_: lab.NAME
lr: 1.0e-6
eps: 1.0e-3
weight_decay: 0.0
lr_schedule: constant
warmup: 0
mode: in_place
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """What pytest printed in a folder with nothing but the methods, and (method, contract) → what became of it."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(HERE / "outside" / "lab.py", folder)
    methods = [argument for name in (*SOUND, *BROKEN) for argument in ("--method", f"lab.{name}")]
    words = (*methods, "--setting", "eps=1e-2", "-k", "sgd-in_place", "-rpf")
    code, out, error = Zobench(folder, *words, module="zobench.testing").wait(300)
    assert code == 1, out + error
    lines = re.findall(r"^(PASSED|FAILED) .*test_contract\[(\w+)-sgd-in_place-(\w+)\]", out, re.M)
    return out, {(name, contract): state for state, name, contract in lines}


@pytest.mark.parametrize("name", SOUND)
def test_a_method_that_keeps_every_contract_passes(session, name):
    states = {contract: state for (whose, contract), state in session[1].items() if whose == name}
    assert {*states.values()} == {"PASSED"}
    skipped = {"rebuild"} if name == "FromInputs" else set()  # which losses alone do not give
    assert {*states} == {c.__name__ for c in (*CONTRACTS, *LONG)} - skipped


@pytest.mark.parametrize("name", SOUND[1:])
def test_a_method_runs_from_a_folder_outside_the_repository(name, tmp_path):
    shutil.copy(HERE / "outside" / "lab.py", tmp_path)
    (tmp_path / "cfg" / "method").mkdir(parents=True)
    (tmp_path / "cfg" / "method" / "mine.yaml").write_text(YAML.replace("NAME", name))
    words = ("method=mine", "--config-dir", "cfg", *TINY, "task=sst2", "steps=3", "out=it")
    code, _, error = Zobench(tmp_path, *words).wait()
    assert code == 0, error
    row = summary_of(tmp_path / "runs" / "it")
    assert (row["state"], row["method"], row["steps"]) == ("finished", "mine", 3)
    assert row["forwards"] == 3 * {"TwoBatches": 4, "FromInputs": 2}[name]


def test_an_author_is_told_which_contract_broke_and_what_to_do(session):
    broken = {key for key, state in session[1].items() if state == "FAILED"}
    assert {contract for name, contract in broken if name == "Forgetful"} >= {"replay"}
    told = {name: {contract for whose, contract in broken if whose == name} for name, _ in broken}
    assert told["Amnesiac"] == {"resume", "ties"}
    assert {name: told[name] for name in ("Secretive", "Thrifty")} == {"Secretive": {"rebuild"}, "Thrifty": {"ledger"}}
    assert told["Overshooting"] >= {"cores"}
    assert told["Elsewhere"] == {"factors"}
    assert told["Unmasked"] >= {"masks"}
    for line in (
        r"Broken: embed.weight: \d+% of the applied direction lies along none of the 8 directions .* Give self.apply",
        r"Broken: embed.weight: add_\(\) of core\(\) is not the direction that estimate\(\) gives",
        r"Broken: embed.weight: the product of factors\(\) is not the direction that estimate\(\) gives",
        r"Broken: embed.weight: a direction is not 0 outside support\(\): draw and lift under the mask alone",
        r"Broken: torch.float32: a step is not made again from its losses: .* set taps = True in the method's class",
        r"Broken: step 0 took 8 forward passes and 2 are declared: set forwards_per_step",
        r"Broken: torch.float32: stopped at step 4 and gone on to 7: embed.weight differs .* belongs into state_dict",
    ):
        assert re.search(line, session[0]), line


def test_a_name_that_is_no_method_is_said_at_once(capsys, monkeypatch):
    assert main(["-k", "sgd"]) == 2
    assert capsys.readouterr().err.startswith("zobench.testing: expected --method my_pkg.MyMethod")
    monkeypatch.setitem(sys.modules, "pytest", None)
    assert main(["--method", "lab.OneSided"]) == 1
    assert "pip install 'zobench[testing]'" in capsys.readouterr().err
    for target, said in (
        ("zobench.methods.mezo.MeZo", "cannot be imported"),
        (
            f"{TemplateTask.__module__}.TemplateTask",
            "TemplateTask is no method: a method is a class derived from zobench.zo.Method",
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            list(cases("it", {"_target_": target}))
