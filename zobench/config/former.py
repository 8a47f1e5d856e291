"""Classes that configurations of earlier versions name and that are options without a class of their own by now."""

from typing import Any

from zobench.config.folders import conf_dir
from zobench.config.options import load_yaml

#: the class of a task whose file names none
TEMPLATE = "zobench.tasks.template.TemplateTask"
_TASKS = {
    f"zobench.tasks.{module}.{name}": module
    for module, name in (
        ("cb", "CB"), ("multirc", "MultiRC"), ("rte", "RTE"), ("squad", "SQuAD"), ("sst2", "SST2"), ("wsc", "WSC"),
    )
}  # fmt: skip
_TEXTS = ("prompt", "options", "answer")


def renewed(task: dict[str, Any]) -> dict[str, Any]:
    """A task's settings as they would be given today: what its class held is in its option's file.

    Args:
        task: the node ``task`` of a stored configuration.

    Example:
        >>> renewed({"_target_": "zobench.tasks.rte.RTE", "subset": "rte"})["options"]
        ['Yes', 'No']
    """
    option = _TASKS.get(str(task.get("_target_")))
    if option is None:
        return task
    shipped = load_yaml(conf_dir() / "task" / f"{option}.yaml")
    return task | {"_target_": TEMPLATE} | {key: shipped[key] for key in _TEXTS if key in shipped}
