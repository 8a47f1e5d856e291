"""Search spaces are of one size, grids draw the same trials from each, and raise rates where that makes sense."""

import math
from itertools import pairwise

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import OmegaConf

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.options import load_yaml
from zobench.config.signature import compose
from zobench.errors import ConfigError
from zobench.sweep import grids
from zobench.sweep.trials import LR, draw, expand, spaces, words_of
from zobench.sweep.trials import tuned as tuned_space

SPACES = spaces([conf_dir()])
METHODS = {path.stem: load_yaml(path) for path in sorted((conf_dir() / "method").glob("*.yaml"))}
TUNINGS = sorted(path.stem for path in (conf_dir() / "tuning").glob("*.yaml"))
GRIDS = sorted(path.stem[5:] for path in (conf_dir() / "experiment").glob("grid_*.yaml"))
parse = OverridesParser.create().parse_override


def searched(text):
    return parse(f"x={text}")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_trains_has_a_search_space_and_defaults_with_every_tuning_of_a_part(name):
    method = instantiate.locate(METHODS[name]["_target_"], "method")
    assert (name in SPACES) == method.trains
    for tuning in TUNINGS:
        fits = tuning != "full" and not (tuning == "prefix" and method.taps)  # taps: directions from linear layers
        assert (conf_dir() / "defaults" / tuning / f"{name}.yaml").is_file() == (method.trains and fits), tuning


#: of these the length of a matrix's step is known, whatever the loss
BY_LENGTH = ("subzero_plus", "zo_mopi", "zo_muon")


@pytest.mark.parametrize("name", SPACES)
def test_some_layers_take_ten_times_the_rate_of_all_weights_and_the_same_scale(name):
    own, tuned = (compose(f"method={name}", f"tuning={tuning}").method for tuning in ("full", "last_layers"))
    assert tuned.lr / own.lr == pytest.approx(3 if name in BY_LENGTH else 10)
    assert tuned.get("eps") == own.get("eps")
    if "lr_vectors" in own:
        assert tuned.lr_vectors / own.lr_vectors == pytest.approx(10)


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("name", SPACES)
def test_a_search_space_lies_around_a_tunings_defaults_as_around_those_of_all_weights(name, tuning):
    own, changed = (compose(f"method={name}", f"tuning={each}").method for each in ("full", tuning))
    space = tuned_space(SPACES[name], name, tuning, [conf_dir()])
    assert list(space) == list(SPACES[name])
    for key, text in space.items():
        before, now = searched(SPACES[name][key]).value(), searched(text).value()
        factor = changed[key[7:]] / own[key[7:]] if key in (LR, "method.eps") else 1
        if isinstance(now, IntervalSweep):
            assert (now.start, now.end) == pytest.approx((before.start * factor, before.end * factor), rel=1e-5)
        elif key == "method.eps":
            values = [[float(x) for x in searched(each).sweep_iterator()] for each in (SPACES[name][key], text)]
            assert values[1] == pytest.approx([x * factor for x in values[0]])
            assert any(math.isclose(changed.eps, value) for value in values[1])
        else:
            assert text == SPACES[name][key]


def test_a_grids_trials_follow_the_tuning():
    lines = [f"search=mezo search.trials=1 tuning={tuning}".split() for tuning in ("full", "last_layers", "lora")]
    drawn = [words_of(line) for line in expand(lines, [conf_dir()])]
    assert [(each[LR], each["method.eps"]) for each in drawn] == [
        ("3.16e-07", "0.001"),
        ("3.16e-06", "0.001"),
        ("3.16e-05", "0.01"),
    ]


@pytest.mark.parametrize("name", SPACES)
def test_a_search_space_has_the_size_that_all_have(name):
    """Three decades of learning rates, and at most two settings more: four choices, or two decades, at most."""
    shipped = compose(f"search={name}")
    assert shipped.choices.method == name
    rates = searched(SPACES[name][LR]).value()
    assert next(iter(SPACES[name])) == LR
    assert len(SPACES[name]) <= 3
    assert rates.end / rates.start == pytest.approx(1000)
    assert "log" in rates.tags
    for key, text in SPACES[name].items():
        around, default = searched(text), OmegaConf.select(shipped, key)
        values = around.value()
        if isinstance(values, IntervalSweep):
            assert values.start < default < values.end, key
            assert key == LR or values.end / values.start <= 100
        else:
            choices = list(around.sweep_iterator())
            assert 2 <= len(choices) <= 4, key
            assert default in choices, key


@pytest.mark.parametrize("name", SPACES)
def test_a_search_space_holds_nothing_else(name):
    content = load_yaml(conf_dir() / "search" / f"{name}.yaml")
    assert content == {
        "defaults": [{"override /method": name}],
        "hydra": {"sweeper": {"params": SPACES[name]}},
    }


@pytest.mark.parametrize("method", GRIDS)
def test_a_search_space_holds_the_methods_grid(method):
    grid = OmegaConf.load(conf_dir() / "experiment" / f"grid_{method}.yaml").hydra.sweeper.params
    for key, text in grid.items():
        around = searched(SPACES[method][key])
        for value in searched(text).sweep_iterator():
            if isinstance(around.value(), IntervalSweep):
                assert around.value().start < value < around.value().end, key
            else:
                assert value in around.sweep_iterator(), key


def test_trials_lie_evenly_on_the_learning_rates_and_all_choices_come():
    space = {LR: "tag(log, interval(1e-8, 1e-5))", "method.eps": "choice(1, 2, 3)", "method.rank": "choice(4, 8)"}
    for trials in (5, 8, 20):
        drawn = [draw(space, trial) for trial in range(trials)]
        decades = sorted(math.log10(float(each[LR])) for each in drawn)
        gaps = [b - a for a, b in pairwise([-8.0, *decades, -5.0])]
        assert max(gaps) < 2.5 * 3 / trials
        assert {each["method.eps"] for each in drawn} == {"1", "2", "3"}
        assert {each["method.rank"] for each in drawn} == {"4", "8"}
    assert draw({"method.beta": "interval(0, 1)"}, 0) == {"method.beta": "0.5"}


def test_every_method_is_tried_at_the_same_places_of_its_learning_rates():
    for trial in range(5):
        places = set()
        for space in SPACES.values():
            rates = searched(space[LR]).value()
            decades = math.log10(float(draw(space, trial)[LR]) / rates.start)
            places.add(round(decades, 2))
        assert max(places) - min(places) <= 0.011  # three digits of a rate


def test_a_grid_draws_trials_and_what_is_set_wins():
    common = "seed=0 search.trials=2 search.rates=100"
    lines = [f"{common} search=mezo method.eps=1".split(), f"{common} search=loren,ldsd search.trials=1".split()]
    first, second, loren, ldsd = map(words_of, expand([*lines], [conf_dir()]))
    assert first == {"method": "mezo", LR: "3.16e-05", "method.eps": "1", "seed": "0"}
    assert second["method.eps"] == "1"
    assert (loren["method"], ldsd["method"]) == ("loren", "ldsd")
    others = [
        words["method"] for words in map(words_of, expand([*lines, ["search.trials=1", "search=*"]], [conf_dir()]))
    ]
    assert sorted(others) == sorted(["mezo", *SPACES])  # of mezo two trials
    assert expand([["method=mezo", "search.trials=2"]], [conf_dir()]) == [["method=mezo"]]


def test_a_search_space_of_a_folder_of_ones_own_is_drawn_from(tmp_path):
    own = tmp_path / "search"
    own.mkdir()
    (own / "mine.yaml").write_text("hydra: {sweeper: {params: {method.lr: 'choice(1, 2)'}}}")
    assert words_of(expand([["search=mine", "search.trials=1"]], [conf_dir(), tmp_path])[0])["method"] == "mine"
    (own / "mine.yaml").write_text("hydra: {sweeper: {params: {method.lr: 3}}}")
    with pytest.raises(ConfigError, match=r"method.lr=3: expected an interval or a choice"):
        expand([["search=mine", "search.trials=1"]], [conf_dir(), tmp_path])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("search=mezoo search.trials=2", "search=mezoo: no such search space; did you mean mezo?"),
        ("search=mezo", "search=mezo without search.trials: expected a positive integer, such as search.trials=5"),
        ("search=mezo search.trials=1.5", "search.trials=1.5: expected a positive integer"),
        ("search=mezo search.trials=2 search.rates=fast", "search.rates=fast: expected a positive number"),
    ],
)
def test_a_search_that_cannot_be_drawn_is_answered(line, said):
    with pytest.raises(ConfigError, match=said) as error:
        grids.Grid("own", "", (), (tuple(line.split()),)).arguments()
    assert "\n" not in str(error.value)
