"""Tasks that ship, made from their files alone."""

from zobench.config.folders import conf_dir
from zobench.config.former import TEMPLATE
from zobench.config.options import load_yaml
from zobench.run.build import build_task


def shipped(name, **settings):
    """A task of conf/task/, with some settings changed."""
    return build_task({"_target_": TEMPLATE, **load_yaml(conf_dir() / "task" / f"{name}.yaml"), **settings})


def checked_example(task, row, prompt, options, gold):
    """The example that a row becomes, which must have this prompt, these options and this right one."""
    assert task.problem(row) is None
    assert {column.partition(".")[0] for column in task.columns} <= set(row)
    example = task.example(7, row)
    assert (example.index, example.prompt, example.options, example.gold) == (7, prompt, options, gold)
    return example
