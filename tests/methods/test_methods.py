"""The contracts of methods, over every method, variant and update rule found in conf/."""

import pytest
from helpers.methods import CASES, METHODS, PRESETS, SELDOM, make, node_of

import zobench
from zobench.config import instantiate
from zobench.errors import ConfigError
from zobench.testing.contracts import pairs
from zobench.testing.problem import Problem

PAIRS = [
    pytest.param(case, contract, id=name, marks=pytest.mark.slow if case.name in SELDOM else ())
    for name, (case, contract) in pairs(CASES).items()
]


@pytest.mark.parametrize("name", METHODS)
def test_yaml_and_signature_agree(name):
    """Every key of the YAML file is an argument, and every argument a user may set is in the YAML file."""
    node = node_of(name)
    known = instantiate.keyword_arguments(instantiate.locate(node["_target_"], name))
    runner_sets = {"seed", "total_steps", "perturbation", "noise_cache"}
    if not {"distribution", "rank"} & set(node):  # directions that have no factors are evaluated one by one
        runner_sets.add("stack_rows")
    assert set(known) - runner_sets == set(node) - {"_target_"}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in PRESETS])
def test_the_yaml_file_says_what_the_class_does_by_default(name):
    node = node_of(name)
    for key, parameter in instantiate.keyword_arguments(instantiate.locate(node["_target_"], name)).items():
        if key in node and key not in ("lr", "rule", "lr_schedule"):
            assert node[key] == parameter.default, key


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("adamw", {"lr": "low"}, "method.lr=low: expected a number"),
        ("mezo", {"eps": "low"}, "method.eps=low: expected a number"),
        ("kerzoo", {"probes": "few"}, "method.probes=few: expected an integer or null"),
        ("kerzoo", {"rescale_kernel": 1}, "method.rescale_kernel=1: expected true or false or null"),
        ("pgap", {"rank": 2.5}, "method.rank=2.5: expected an integer"),
        ("ldsd", {"sigma": 0.0}, "method.sigma=0.0: must be positive"),
        ("loren", {"block": "rows"}, "method.block=rows: expected one of rowwise, tiled, none"),
        ("curvzo", {"score_pow": 1.0}, "method.score_pow: CurvZO has no score_pow; did you mean method.score_power?"),
    ],
)
def test_switches_and_settings_of_parts_are_checked_like_arguments(name, settings, said):
    with pytest.raises(ConfigError) as caught:
        make(Problem(), name, **settings)
    assert str(caught.value) == said


@pytest.mark.parametrize(("case", "contract"), PAIRS)
def test_contract(case, contract):
    contract(case)


def test_a_method_that_steps_by_gradients_cannot_be_replayed():
    with pytest.raises(ValueError, match="AdamW steps by gradients, which losses do not give"):
        make(Problem(), "adamw").replay([1.0], [])


def test_every_method_is_exported():
    classes = {instantiate.locate(node_of(name)["_target_"], name) for name in METHODS}
    assert sorted(zobench.__all__) == sorted([*(cls.__name__ for cls in classes), "ZOOptimizer", "__version__"])
    for cls in classes:
        assert getattr(zobench, cls.__name__) is cls
        assert cls.__name__ in dir(zobench)
    with pytest.raises(AttributeError, match="no attribute 'MeZo'"):
        zobench.MeZo  # noqa: B018
