"""What is typed and cannot run: one message, exit code 2, before torch where no class is asked, and nothing on disk."""

import itertools
import json
import re
import sys

import pytest
import torch
from helpers import commands
from omegaconf import OmegaConf

from zobench.config import instantiate, ranges
from zobench.config.folders import conf_dir
from zobench.config.options import leaves, load_yaml
from zobench.config.schema import SETTINGS
from zobench.config.settings import check_settings
from zobench.config.signature import compose
from zobench.config.words import check_words, flags_first
from zobench.errors import ConfigError

TINY = ("model=tiny-opt", "data=mini", "wandb=disabled", "steps=1")
COMMANDS = {
    "out=null": "out=null: expected a folder",
    "out=": "out=: expected a folder",
    "runs_dir=null": "runs_dir=null: expected a folder",
    "runs_dir=[a]": "expected a folder",
    "data=local data.dir=5": "data.dir=5: expected a folder",
    "data=local data.dir=": "data.dir=: expected a folder",
    "method.lr=${oops}": "'oops' not found",
    "seed=${seed}": "Recursive interpolation",
    "seed=${nosuch:1}": "${nosuch:...}",
    "tags=['${oc.env:HOME}']": "would be stored resolved in the record",
    "tags=['${${wandb.mode}.env:HOME}']": "would be stored resolved in the record",
    "~seed": "~seed: a setting cannot be taken away",
    "~data.dir": "~data.dir: a setting cannot be taken away",
    "choices=5": "choose with GROUP=5",
    "task.splits=5": "expected its keys",
    "task.splits.mini=5": "expected its keys",
    "model.start_token=5": "expected its keys",
    "model.lora_targets=5": "expected a list",
    "model.hidden=63": "hidden=63: must be a multiple of 4",
    "model.hidden=1000000000": "must lie in [4, 4096]",
    "method.lr=-1": "method.lr=-1: must be 0 or positive",
    "method.lr=1e400": "expected a finite number",
    "method.eps=0": "method.eps=0: must be positive",
    "method=pgap method.rank=0": "method.rank=0: must be at least 1",
    "method=zo_muon method/rule=adam": "method/rule=adam: method=zo_muon leaves no rule to choose; see its file",
    "method=lozo_m method.rule.beta=0.5": "no such key for method=lozo_m, which has",
    "method=mezo_gv method.probes=1": "method.probes=1: must be at least 2",
    "method=tezo_adam method.eps_adam=0": "method.eps_adam=0: must be positive",
    "method=grzo batch_size=1": "batch_size=1, 340 training examples: method=grzo weighs",
    "method=curvzo method.budget_init=2": "method.budget_init=2: must lie in [0, 1]",
    "method/rule=momentum method.rule.beta=1.5": "method.rule.beta=1.5: must lie in [0, 1)",
    "method=adamw method.beta1=2": "method.beta1=2: must lie in [0, 1)",
    "method.probes=1000000000000000000": "expected an integer of at most",
    "method.probes=1000000000": "a step of this method takes 2000000000 forward passes",
    "tuning=lora tuning.r=1000000": "tuning.r=1000000: must lie in [1, 65536]",
    "tuning=lora tuning.r=1000": "tuning.r=1000: v_proj has sides of at most 64",
    "tuning=lora tuning.targets=[nosuch]": "no linear module with such a name",
    "tuning=last_layers tuning.layers=5": "the model has 2 layers",
    "threads=1000000": "an integer of at most 1024",
    "batch_size=1000000000000": "an integer of at most 4294967295",
    "steps=1e400": "expected an integer",
    "data.splits=cleen": "clean, mezo_exact, mini",
    "++method._target_=os.path.join": "the class belongs to the option's file",
    "+method={_target_:os.system}": "the class belongs to the option's file",
    "+hydra.callbacks.x._target_=builtins.open": "add --allow-foreign",
    "hydra.launcher._target_=os.system -m": "add --allow-foreign",
    "hydra.searchpath=[file:///tmp]": "--config-dir DIR",
    "--config-dir /nowhere/x": "--config-dir /nowhere/x: no such folder",
    "--config-dir": "expected a value",
    "--config-path /tmp": "options of yours go into --config-dir DIR",
    "--experimental-rerun x.pickle": "options of yours go into --config-dir DIR",
    "--dry-run": "python -m zobench.sweep GRID --dry-run",
    "data=local data.dir=/tmp/a=b": "\"data.dir='/tmp/a=b'\"",
    "data=local data.dir=/tmp/a,b": "\"data.dir='/tmp/a,b'\"",
    "out=прогон": "\"out='прогон'\"",
    "-m seed=range(0,100000000)": "a sweep of 100,000,000 cells or more",
    "-m method.lr=range(0,1,1e-9)": "cells or more",
    "-m method.lr=range(0,1,0)": "has no end",
    "-m seed=0,1 method.eps=1e-3,0": "method.eps=0: must be positive",
    f"tags={'[' * 30}{']' * 30}": "at most 20 deep",
    f"seed={'1' * 5000}": "a number of over 300 digits",
    f"tags=[{'a,' * 20000}]": "characters, expected at most",
}


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line[:40])
def test_a_command_that_cannot_run_is_answered_in_a_line_and_leaves_nothing(tmp_path, line):
    ended = commands.command("zobench", *TINY, *line.split(), cwd=tmp_path)
    assert COMMANDS[line] in ended.stderr
    assert (ended.returncode, ended.stderr.count("\n"), ended.stdout.count("Traceback")) == (2, 1, 0)
    assert not list(tmp_path.rglob("summary.json"))


@pytest.mark.parametrize("folder", ["/dev/null/r", "/proc/r"])
def test_a_place_that_cannot_be_written_is_named_with_the_setting(tmp_path, folder):
    ended = commands.command("zobench", *TINY, f"runs_dir={folder}", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert f"runs_dir={folder} must be a folder that can be written to" in ended.stderr


def test_flags_stand_anywhere():
    assert flags_first(["a=1", "--config-dir", "x", "b=2"]) == ["--config-dir", "x", "a=1", "b=2"]
    with pytest.raises(ConfigError, match=r"--multirum: no such flag; did you mean --multirun\?"):
        flags_first(["a=1", "--multirum"])


def test_texts_of_another_encoding_are_refused():
    with pytest.raises(ConfigError, match="not UTF-8"):
        check_words(["tags=[\udcff]"])


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("model.dir=~/mine", "\"model.dir='~/mine'\""),
        ("model.dir=my model (v2)", "\"model.dir='my model (v2)'\""),
        ("model.dir=[mine]/model", "\"model.dir='[mine]/model'\""),
        ("model.dir=Ann's", '"model.dir=\\"Ann\'s\\""'),
    ],
)
def test_a_folder_whose_name_is_no_plain_word_is_told_with_its_quotes(tmp_path, word, typed):
    for module, words in (("zobench", []), ("zobench.task", ["check", "sst2"])):
        ended = commands.command(module, *words, "model=local", word, cwd=tmp_path)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert word in ended.stderr
        assert ended.stderr.rstrip().endswith(typed)


#: a message of a check that no other setting has a part in
SIMPLE = re.compile(r".*: must (be positive|be 0 or positive|be at least -?\d+|lie in .*)$")

BAD = (
    None,
    -1,
    0,
    2**70,
    1.5,
    1e-300,
    float("inf"),
    float("nan"),
    True,
    "",
    "x",
    "\x1b[2J",
    [],
    ["a"],
    {},
    {"a": 1},
    "${oops}",
)
OPTIONS = {"method": ("mezo", "loren", "ldsd", "kerzoo", "curvzo", "pgap", "adamw"), "tuning": ("lora", "last_layers")}


@pytest.mark.parametrize("choice", [f"{group}={option}" for group, options in OPTIONS.items() for option in options])
def test_any_value_of_any_setting_passes_or_is_refused_in_words(choice):
    """No other error than ConfigError, whatever stands where."""
    whole = compose("model=tiny-opt", choice)
    group = choice.partition("=")[0]
    keys = [f"{group}.{key}" for key, _ in leaves(OmegaConf.to_container(whole[group], resolve=True))]
    keys += [setting.key for setting in SETTINGS if choice == "method=mezo"]
    keys += ["task.splits", "task.rows", "model.start_token", "data.dir", "out", "lens"] * (choice == "method=mezo")
    said = []
    for number, (key, value) in enumerate(itertools.product(keys, BAD)):
        if number % 5:  # each value meets other keys; all of them together take too long
            continue
        cfg = whole.copy()
        OmegaConf.set_struct(cfg, False)
        OmegaConf.update(cfg, key, value, merge=False)
        try:
            check_settings(cfg)
        except ConfigError as error:
            said += str(error).splitlines()
    assert len(said) > len(keys)
    assert not [line for line in said if "\x1b" in line or len(line) > 300]


def defaults_of(target):
    for path in sorted(conf_dir().rglob("*.yaml")):
        node = load_yaml(path)
        if node.get("_target_") == target:
            plain = {key: None if value == "???" else value for key, value in node.items() if key != "defaults"}
            return path.parent.name, plain
    raise AssertionError(target)


@pytest.mark.parametrize("target", [name for name, checks in json.loads(ranges.FILE.read_text()).items() if checks])
def test_what_is_refused_early_is_what_the_class_refuses_in_the_same_words(target):
    group, node = defaults_of(target)
    stand_in = [[("weight", torch.zeros(8, 8))]] if group == "method" else []
    instantiate.build(node, group, *stand_in)
    for key, check in json.loads(ranges.FILE.read_text())[target].items():
        ends = [float(end) for end in check["interval"][1:-1].split(",")] if "interval" in check else []
        numbers = [end + by for end in ends if abs(end) < 1e300 for by in (-1, -0.25, 0, 0.25, 1)]
        whole = isinstance(node.get(key, 1), int) and not isinstance(node.get(key), float)
        for value in (
            [int(n) for n in numbers if n == int(n)] if whole and ends else [*numbers, *check.get("choices", ()), "x"]
        ):
            if isinstance(value, str) and ends:
                continue
            given = {**node, key: value}
            early = list(ranges.out_of_range(given, group))
            try:
                instantiate.build(given, group, *stand_in)
                late = None
            except ConfigError as error:
                late = str(error)
            if early:
                assert late is not None, (key, value)
                assert late == early[0] or "expected an integer" in late
            else:
                assert late is None or not SIMPLE.match(late), (key, value, late)


@pytest.mark.parametrize("path", sorted((conf_dir() / "method").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_class_refuses_is_one_of_its_settings_by_name(path):
    node, said = {key: value for key, value in load_yaml(path).items() if key != "defaults"}, []
    for key, given in node.items():
        for value in (-1, 0, 1, 10**6, -0.5, 1.5) if isinstance(given, int | float) else ():
            if isinstance(given, bool) or (isinstance(given, int) and isinstance(value, float)):
                continue
            try:
                instantiate.build({**node, key: value}, "method", [("weight", torch.zeros(8, 8))])
            except ConfigError as error:
                said.append(str(error))
    named = [re.match(r"method\.(\w+)=", line) for line in said]
    assert all(found and found[1] in node for found in named), said


def test_the_recorded_checks_are_those_that_the_classes_make():
    recorded = ranges.FILE.read_text(encoding="utf-8")
    scripts = str(conf_dir().parent / "scripts")
    sys.path.insert(0, scripts)
    try:
        from record_settings import checked
    finally:
        sys.path.remove(scripts)
    assert json.loads(recorded) == json.loads(json.dumps(checked())), "run python scripts/record_settings.py"
