"""The files of the rules: every method has an entry, every entry composes, spaces hold what ships, all is frozen."""

import math

import pytest
import torch
from helpers.methods import node_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import OmegaConf

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.options import load_yaml
from zobench.config.signature import compose, digest
from zobench.errors import ConfigError
from zobench.rules import frozen, load, settings
from zobench.rules.files import versions
from zobench.rules.runs import Runs
from zobench.rules.stages import Comparison
from zobench.sweep.trials import LR, spaces
from zobench.testing.problem import Problem, StepLoss

RULES = load("v1")
METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
INPUTS = ("data.dir=none", "model.dir=none")
RATE = "shipped: {method.lr: 1.0e-6}, space: {method.lr: 'tag(log, interval(1e-8, 1e-5))'}"
parse = OverridesParser.create().parse_override


def made(settings):
    """A space, and the same as what ships."""
    return f"space: {{{settings}}}, shipped: {{{settings}}}"


@pytest.mark.parametrize("version", versions())
def test_a_version_is_frozen(version):
    assert not frozen.changed(version), f"{version} is frozen: make v{int(version[1:]) + 1}"


def test_every_method_has_an_entry_of_its_name_with_the_space_that_ships():
    shipped = spaces([conf_dir()])
    for method in METHODS:
        entry = RULES.entries[method]
        assert entry.words == f"method={method}"
        assert dict(entry.space) == shipped.get(method, {})


@pytest.mark.parametrize("name", RULES.entries)
def test_a_space_holds_the_values_that_ship(name):
    entry = RULES.entries[name]
    composed = compose(*entry.words.split())
    for key, text in entry.space.items():
        around, value = parse(f"x={text}"), OmegaConf.select(composed, key)
        assert entry.shipped[key] == value
        if isinstance(around.value(), IntervalSweep):
            assert around.value().start <= value <= around.value().end
        else:
            assert value in list(around.sweep_iterator())
    if entry.vectors is not None:
        assert entry.vectors == composed.method.lr_vectors
    if entry.of is not None:
        assert settings.method(entry) == settings.method(RULES.entries[entry.of])
        assert set(entry.space) <= set(RULES.entries[entry.of].space)


@pytest.mark.parametrize("workload", RULES.workloads.values(), ids=lambda workload: workload.name)
def test_every_entry_has_a_run_under_every_ruleset_of_every_workload(workload):
    runs = Runs(RULES, inputs=[word for word in INPUTS if word.partition("=")[0] in workload.inputs])
    names = set()
    for entry in RULES.entries.values():
        budget = settings.budget(entry, workload)
        tried = settings.trials(entry, workload, RULES.searched)
        assert len(tried) == (RULES.searched.trials if entry.trains else 0)
        for own in [*tried[:1], settings.shipped(entry, workload)]:
            words = runs.words(workload, entry, own, budget, seed=1)
            names.add(runs.name(workload, entry, words))
            assert words["data_seed"] == words["seed"] == "1"
            assert ("eval_every" in words) == entry.trains
    assert len(names) > len(RULES.entries)


@pytest.mark.parametrize(
    ("workload", "entry"),
    [
        ("sst2-tiny-llama", "mezo_adam"),
        ("sst2-tiny-opt", "zo_muon"),
        ("subj-smollm2-mlp", "loren_iso"),
        ("mr-smollm2-mlp", "zeroshot"),
    ],
)
def test_a_run_has_the_name_that_hydra_gives_its_words(workload, entry):
    workload, entry = RULES.workloads[workload], RULES.entries[entry]
    inputs = [word for word in INPUTS if word.partition("=")[0] in workload.inputs]
    runs = Runs(RULES, inputs=inputs)
    words = runs.words(workload, entry, settings.shipped(entry, workload), settings.budget(entry, workload), seed=2)
    composed = compose(*(f"{key}={value}" for key, value in words.items()), *inputs)
    assert runs.name(workload, entry, words) == digest(OmegaConf.to_container(composed, resolve=True))


def test_all_entries_try_the_same_places_of_their_learning_rates():
    workload, places = RULES.workloads["sst2-tiny-llama"], set()
    for entry in RULES.entries.values():
        for number, own in enumerate(settings.trials(entry, workload, RULES.searched)):
            rates = parse(f"x={entry.space[LR]}").value()
            decades = math.log10(float(own[LR]) / settings.factor(entry, workload) / rates.start)
            places.add((number, round(decades, 1)))
    assert len(places) == RULES.searched.trials


def test_matrices_that_are_small_set_ranks_that_are_not_searched():
    pgap, small, large = RULES.entries["pgap"], *(RULES.workloads[n] for n in ("sst2-tiny-llama", "subj-smollm2-mlp"))
    assert {own["method.rank"] for own in settings.trials(pgap, small, RULES.searched)} == {"16"}
    assert {own["method.rank"] for own in settings.trials(pgap, large, RULES.searched)} == {"128", "256", "512"}


def test_a_budget_of_adamw_is_a_third_as_many_steps():
    workload = RULES.workloads["sst2-tiny-llama"]
    assert settings.budget(RULES.entries["mezo"], workload, 3) == {"forwards": str(3 * workload.forwards)}
    assert settings.budget(RULES.entries["adamw"], workload)["steps"] == str(workload.forwards // 3)
    assert settings.budget(RULES.entries["zeroshot"], workload) == {}


def first_step(name, scale):
    """The length of a method's first step on matrices, of a loss that is so many times as large; in fp64."""
    problem = Problem(torch.float64)
    node = {key: value for key, value in node_of(name).items() if key not in ("lr", "eps")}
    method = instantiate.build(node, "method", problem.parameters.items(), lr=1e-9, eps=1e-4, total_steps=50)
    method.oracle.further = lambda first, count: lambda: scale * problem.further(0, first, count)()
    before = problem.copy()
    method.step(StepLoss(problem, 0, lambda losses: scale * losses))
    after = problem.copy()
    return math.sqrt(sum(float((after[key] - before[key]).square().sum()) for key in before if before[key].dim() == 2))


@pytest.mark.parametrize("name", [name for name in METHODS if RULES.entries[name].trains])
def test_the_factor_on_a_rate_is_that_of_losses_where_steps_hang_on_their_scale(name):
    bounded = 1 / 30 < first_step(name, 1000.0) / first_step(name, 1.0) < 30
    assert (RULES.entries[name].factor != "rates") == bounded


def assert_refused(folder, file, content, said):
    """A file of one's own is answered in one line when the rules are loaded."""
    (folder / "rules").mkdir()
    (folder / "rules" / file).write_text(content)
    with pytest.raises(ConfigError, match=said) as error:
        load("v1", [folder])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("mezo: {words: method=mezo}", "mezo: there is one of that name already"),
        ("mine: {word: method=mezo}", "mine: word: no such key; did you mean words?"),
        ("mine: {of: mezo}", "mine: expected words too"),
        ("mine: {words: method=mezo, of: meso}", "mine: of: meso: no such entry; did you mean mezo?"),
        ("mine: {words: method=mezo, of: mine}", "of: mine: expected another entry"),
        ("mine: {words: method=mezo, factor: fast}", "factor: expected one of rates, step_rates"),
        ("mine: {words: method=mezo, space: {method.lr: 'choice(1, 2)'}}", "expected the same settings in both"),
        ("mine: {words: 3}", "words: expected method=NAME and settings of it"),
        ("mine: {words: method.probes=2}", "words: expected method=NAME and settings of it"),
        ("mine: {words: method=mezo forwards=9000}", "words: expected method=NAME and settings of it"),
        ("mine: {words: method=mezo, times: many}", "times: expected a positive number"),
        ("mine: {words: method=mezo, times: 0}", "times: expected a positive number"),
        ("mine: {words: method=mezo, backprop: 'no'}", "backprop: expected true or false"),
        ("mine: {words: method=mezo, space: [method.lr]}", "space: expected settings of the method"),
        ("mine: {words: method=mezo, space: {seed: 'choice(1, 2)'}}", "space: expected settings of the method"),
        (
            f"mine: {{words: method=mezo, {made('method.lr: 1, method.a: 1, method.b: 1, method.c: 1')}}}",
            "3 settings at",
        ),
        (f"mine: {{words: method=mezo, {made('method.eps: 1, method.lr: 1')}}}", "expected method.lr first"),
        (f"mine: {{words: method=mezo, {made('method.lr: 1')}}}", "expected an interval, such as"),
        (f"mine: {{words: method=mezo, {RATE.replace('1e-8', '1e-9')}}}", "3 decades at most, found 1e-09 to 1e-05"),
        (f"mine: {{words: method=mezo, {RATE.replace('1.0e-6', '1.0e-3')}}}", "expected a value in the space"),
        ("mezo.seconds: {words: method=mezo}", "expected a name of letters, digits, - and _"),
        ("7: {words: method=mezo}", "7: expected a name of letters, digits, - and _; a number needs quotes"),
    ],
)
def test_an_entry_of_ones_own_that_is_wrong_is_answered_in_one_line(tmp_path, content, said):
    assert_refused(tmp_path, "entries.yaml", content, said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "toy: {words: task=sst2 model=tiny-opt, forwards: many}",
            "forwards: expected a positive integer, found 'many'",
        ),
        ("toy: {words: task=sst2 model=tiny-opt, forwards: 16.5}", "forwards: expected a positive integer, found 16.5"),
        ("toy: {words: task=sst2 model=tiny-opt, forwards: 0}", "forwards: expected a positive integer, found 0"),
        ("toy: {words: model=tiny-opt, forwards: 16}", "words: expected task=NAME, model=NAME"),
        ("toy: {words: task=sst2 model=tiny-opt threads=2 seed=3, forwards: 16}", "threads, seed: the rules set that"),
        ("toy: {words: task=sst2 model=tiny-opt method.eps=1, forwards: 16}", "method.eps: the rules set that"),
        ("toy: {words: task=sst2 model=tiny-opt, forwards: 16, rates: .nan}", "rates: expected a positive number"),
        (
            "toy: {words: task=sst2 model=tiny-opt, forwards: 16, inputs: data.dir}",
            "inputs: expected a list of settings",
        ),
        ("'../toy': {words: task=sst2 model=tiny-opt, forwards: 16}", "expected a name of letters, digits, - and _"),
    ],
)
def test_a_workload_of_ones_own_that_is_wrong_is_answered_in_one_line(tmp_path, content, said):
    assert_refused(tmp_path, "workloads.yaml", content, said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{words: method=mezo}", "its method trains; give the entry the space"),
        (f"{{words: method=adamw, {RATE}}}", "takes backward passes: expected backprop: true"),
        (f"{{words: method=mezo, backprop: true, {RATE}}}", "takes no backward passes: expected backprop: false"),
        (f"{{words: method=meso, {RATE}}}", "method=meso: no such option"),
        (f"{{words: method=mezo method.probs=2, {RATE}}}", "did you mean method.probes"),
        (f"{{words: method=mezo method/rle=adam, {RATE}}}", "mezo has no such group"),
        (f"{{words: 'method=mezo method.probes=[1', {RATE}}}", "the value cannot be read"),
        (f"{{words: method=mezo, {RATE.replace('1e-8', '0')}}}", "mine: method.lr=.*expected a lower end below"),
        (
            f"{{words: method=mezo, {RATE.replace('interval(', 'intervall(')}}}",
            "space: method.lr: expected an interval",
        ),
    ],
)
def test_an_entry_that_no_run_can_be_made_of_is_refused_before_the_first_run(tmp_path, content, said):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "entries.yaml").write_text(f"mine: {content}")

    def check():
        rules = load("v1", [tmp_path])
        workload = rules.workloads["subj-smollm2-mlp"]
        Comparison(rules, tmp_path / "RUNS", ["data.dir=none"], [tmp_path]).check(workload, [rules.entries["mine"]])

    with pytest.raises(ConfigError, match=said) as error:
        check()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "RUNS").exists()


def test_a_version_that_there_is_not_is_answered():
    assert load(folders=[]).version == "v1"
    with pytest.raises(ConfigError, match=r"v9: no such version of the rules; did you mean v1\?"):
        load("v9")
    assert load_yaml(frozen.FOLDER / "v1" / "tuned.yaml")["seeds"] == list(RULES.rulesets["tuned"].seeds)
