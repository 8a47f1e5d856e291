"""Scores that cannot be maximised are answered in one line, and leave nothing behind."""

import pytest
from helpers.commands import command
from helpers.tiny_runs import TINY

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.options import load_yaml
from zobench.config.settings import DIFFERENTIATE

RUN = (*TINY, "steps=2", "objective=metric")
#: a user's function -> what is said of it
OWN = {
    "wide": "row 124: it gave 1.5, a float; expected a number from 0 to 1, or True or False",
    "worded": "row 124: it gave 'good', a str; expected a number from 0 to 1, or True or False",
    "undefined": "row 124: it gave nan, a float; expected a number from 0 to 1, or True or False",
    "missing": "row 124: it gave None, a NoneType; expected a number from 0 to 1, or True or False",
    "raising": r"row 124: it raised KeyError: 'no\nsuch'",
    "remembering": "row 124: one answer got the scores 0.5 and 0.333333; expected a function of (answer, example) "
    "alone, without random numbers or memory",
    "alone": "a function; expected a function of (answer, example), such as my_package.my_module.my_function",
    "HALF": "a float; expected a function of (answer, example), such as my_package.my_module.my_function",
    "nosuch": "cannot be imported: module 'helpers.scored' has no attribute 'nosuch'",
}
#: settings -> what is said of them
LINES = {
    "method=adamw": "objective=metric: a score has no derivative, and method=adamw takes one; choose a method of "
    "forward passes, such as method=mezo",
    "method=forward_gradient": "objective=metric: a score has no derivative, and method=forward_gradient takes one; "
    "choose a method of forward passes, such as method=mezo",
    "lens.every=2": "lens.every=2: it compares with a gradient, and objective=metric has none; add "
    "lens.gradient=false, or leave it out",
    "objective.score=7": "objective.score=7: expected the dotted path of a function of (answer, example), such as "
    "my_package.my_module.my_function",
    "objective.score=nosuch.fn": "objective.score=nosuch.fn: cannot be imported: No module named 'nosuch'",
    "objective.max_new_tokens=0": "objective.max_new_tokens=0: must lie in [1, 50]",
    "objective.max_new_tokens=51": "objective.max_new_tokens=51: must lie in [1, 50]",
    "protocol=mezo_exact": "objective=metric: protocol=mezo_exact reproduces runs that minimise losses; set "
    "protocol=clean",
}


def said(folder, *settings):
    """What the command says, in the one line after which nothing is left."""
    ended = command("zobench", *RUN, *settings, cwd=folder)
    assert ended.returncode == 2
    assert not list(folder.rglob("*.json*"))
    (line,) = ended.stderr.splitlines()
    return line.removeprefix("zobench: ")


@pytest.mark.parametrize("name", OWN)
def test_a_function_that_is_no_score_is_found_out_before_the_run_begins(tmp_path, name):
    path = f"objective.score=helpers.scored.{name}"
    assert said(tmp_path, path) == f"{path}: {OWN[name]}"


def test_what_a_function_gives_may_have_no_words_for_itself(tmp_path):
    line = said(tmp_path, "objective.score=helpers.scored.unspeakable")
    assert line.endswith(", a _Unspeakable; expected a number from 0 to 1, or True or False")


@pytest.mark.parametrize("line", LINES)
def test_what_does_not_go_with_a_score_is_said(tmp_path, line):
    assert said(tmp_path, line) == LINES[line]


def test_the_methods_that_are_refused_without_importing_them_are_those_that_say_so():
    nodes = [load_yaml(path) for path in (conf_dir() / "method").glob("*.yaml")]
    classes = {node["_target_"]: instantiate.locate(node["_target_"], "method") for node in nodes}
    assert sorted(DIFFERENTIATE) == sorted(path for path, cls in classes.items() if cls.differentiates)
