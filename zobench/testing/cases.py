"""What the contracts run over: a method with each rule, each mode and each variant that it takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.options import load_yaml
from zobench.errors import ConfigError
from zobench.testing.problem import Problem
from zobench.zo import Method

MODES = ("in_place", "exact")
SEED, LR = 5, 1e-2
OURS = {"lr": LR, "seed": SEED, "total_steps": 50}


@dataclass(frozen=True)
class Case:
    """A method and its settings.

    Attributes:
        name: for people, e.g. ``MyMethod-sgd-exact``.
        node: the class as ``_target_`` and its settings, as in a YAML file.
        device: where the weights are.
        plain: with the rule and the mode that stand first; what takes long is tested on such cases alone.
    """

    name: str
    node: Mapping[str, Any]
    device: str = "cpu"
    plain: bool = True

    def method(self, problem: Problem, **settings: Any) -> Method:
        """The method on a problem's weights, made anew; at a learning rate of 1e-2 unless the node has one.

        Raises:
            ConfigError: for settings that the class refuses.
        """
        known = instantiate.keyword_arguments(instantiate.locate(self.node["_target_"], "method"))
        node = {**OURS, **self.node, **settings}
        missing = [name for name in OURS if name not in known]  # one that only evaluates has no learning rate
        node = {name: value for name, value in node.items() if name not in missing}
        return instantiate.build(node, "method", problem.parameters.items())


def rules() -> dict[str, Mapping[str, Any]]:
    """Every update rule of conf/method/rule as a node, SGD first."""
    paths = sorted((conf_dir() / "method" / "rule").glob("*.yaml"), key=lambda path: (path.stem != "sgd", path.stem))
    return {path.stem: load_yaml(path) for path in paths}


def cases(name: str, node: Mapping[str, Any], device: str = "cpu") -> Iterator[Case]:
    """A method with every rule in every mode, and its other variants in every mode with the rule of the node.

    Args:
        name: the first part of the names of the cases.
        node: the class as ``_target_``, and the settings that differ from the class's own.
        device: where the weights are.

    Raises:
        ConfigError: if the class cannot be imported, or is no method.
    """
    cls = instantiate.locate(node["_target_"], "method")
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise ConfigError(f"{node['_target_']} is no method: a method is a class derived from zobench.zo.Method")
    known = instantiate.keyword_arguments(cls)

    def in_each_mode(word: str, settings: Mapping[str, Any], plain: bool) -> Iterator[Case]:
        for mode in MODES if "mode" in known else [""]:
            chosen = {**node, **settings} | ({"mode": mode} if mode else {})
            yield Case("-".join(filter(None, [name, word, mode])), chosen, device, plain and mode != "exact")

    for rule, its in rules().items() if "rule" in known else ():
        yield from in_each_mode(rule, {"rule": its}, plain=its == node.get("rule", rules()["sgd"]))
    if "rule" not in known:
        yield from in_each_mode("", {}, plain=True)
    for variant in cls.variants:
        if variant != node.get("variant", known["variant"].default):
            yield from in_each_mode(variant, {"variant": variant}, plain=True)
