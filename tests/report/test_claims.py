"""The claims: every one can be tested with its commands, and a verdict follows from records alone."""

import functools
import itertools
import json
import math
import shlex
from pathlib import Path

import pandas as pd
import pytest
from helpers.modules import module_of
from helpers.written import write_run
from omegaconf import OmegaConf
from scipy.stats import ttest_1samp

from zobench import report
from zobench.config.folders import conf_dir
from zobench.config.settings import check_settings
from zobench.config.signature import compose
from zobench.report.__main__ import main
from zobench.report.papers.claims import registry
from zobench.report.papers.measures import MEASURES
from zobench.report.papers.names import known_as
from zobench.report.papers.published import named

CLAIMS = {claim.name: claim for claim in registry()}
#: what records hold of a method that is not told by the option's name alone
SETTINGS = {
    "ldsd": {"method.rule": "momentum", "method.lr_mu": 1e-3},
    "ldsd_no_policy": {"method": "ldsd", "method.rule": "momentum", "method.lr_mu": 0},
    "lozo": {"method.interval": 50},
    "lozo_interval_1": {"method": "lozo", "method.interval": 1},
}


@pytest.fixture
def record(tmp_path):
    """Writes runs of one method for several seeds; ``scores`` and ``curves`` have a value for each seed."""

    def write(method, scores, curves=(), **values):
        for seed, score in enumerate(scores):
            directory = write_run(tmp_path / "runs", method, seed, test=score, **{**WSC, **values})
            if curves:
                lines = [{"step": 10 * n, "forwards": 20 * n, "dev/accuracy": v} for n, v in enumerate(curves[seed], 1)]
                (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path / "runs"

    return write


#: the settings at which KerZOO's claims were made
WSC = {"model": "opt-2.7b", "task": "wsc", "data": "hub", "test/n": 10_000}


def judged(runs, name):
    """The rows of one claim."""
    return report.verdicts(report.load(runs), [CLAIMS[name]])


@functools.cache
def expanded(command):
    """The settings of every run of a command, checked, with the first of several seeds and learning rates."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "zobench"]
    overrides = [word for word in words[3:] if word != "-m"]
    assert ("-m" in words[3:]) == any("," in word for word in overrides)
    choices = []
    for key, values in (word.split("=", 1) for word in overrides):
        chosen = values.split(",")[:1] if key.endswith(("seed", "method.lr")) else values.split(",")
        choices.append([f"{key}={value}" for value in chosen])
    found = []
    for combination in itertools.product(*choices):
        cfg = compose(*combination)
        check_settings(cfg)
        found.append(OmegaConf.to_container(cfg, resolve=True))  # choices are those of the last composition
    return found


def identity(settings):
    method = settings["method"]
    row = {f"method.{key}": value for key, value in method.items() if key != "rule"}
    if "rule" in method:
        row["method.rule"] = method["rule"]["_target_"].rpartition(".")[2].lower()
    return known_as({"method": settings["choices"]["method"], **row})


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_the_commands_run_both_sides_at_the_papers_settings(claim):
    found = [settings for command in claim.commands for settings in expanded(command)]
    assert {identity(settings) for settings in found} == {claim.method, claim.against} - {"majority"}
    assert (claim.against == "majority") == MEASURES[claim.measure].alone
    assert all(claim.is_of(settings["choices"] | {"paper_model": settings["choices"]["model"]}) for settings in found)
    alike = ("choices.protocol", "forwards", "steps", "batch_size", "dtype")
    assert len({tuple(str(OmegaConf.select(OmegaConf.create(s), key)) for key in alike) for s in found}) == 1
    repeated = all("seed=0,1,2" in command for command in claim.commands)
    assert repeated or MEASURES[claim.measure].seeds == 1


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_is_of_known_things_and_a_published_number(claim):
    assert len(CLAIMS) == len(registry())
    assert claim.measure in MEASURES
    tasks = [] if claim.tasks == "any" else claim.tasks
    for group, names in (("model", claim.models), ("task", tasks), ("tuning", [claim.tuning])):
        assert names or group == "task"
        assert set(names) <= {path.stem for path in (conf_dir() / group).glob("*.yaml")}
    numbers = report.published()
    numbers = numbers[numbers["paper"].eq(claim.paper)]
    assert len(numbers)
    if claim.claimed is not None:
        values = sorted(set(numbers["value"].dropna()))
        pairs = list(itertools.permutations(values, 2))
        derived = {*values, *(round(a - b, 1) for a, b in pairs), *(round(100 * (a / b - 1), 1) for a, b in pairs if b)}
        derived |= {round(value - 100, 1) for value in numbers.loc[numbers["unit"].eq("% of"), "value"]}
        assert claim.claimed in derived or claim.margin is not None  # no difference is an equality in the table
        assert (claim.claimed > 0) == (MEASURES[claim.measure].better > 0) or claim.margin is not None


@pytest.mark.parametrize(
    ("gains", "verdict", "why"),
    [
        ([3.0, 2.9, 3.1], "supported", "of the claimed size"),
        ([12.0, 13.0, 11.0], "supported", "of the claimed size"),
        ([1.0, 1.1, 0.9], "not supported", "smaller than claimed"),
        ([0.0, 0.1, -0.1], "not supported", "is ruled out"),
        ([-3.0, -2.9, -3.1], "not supported", "is ruled out"),
        ([-5.0, 3.0, 8.0], "not supported", "undecided"),
        ([3.0, 2.9], "not tested", "2 of 3 needed"),
    ],
)
def test_verdicts_on_accuracy(record, gains, verdict, why):
    record("mezo", [0.6] * len(gains))
    found = judged(record("kerzoo", [0.6 + gain / 100 for gain in gains]), "kerzoo-accuracy-wsc")
    assert len(found) == 1
    row = found.iloc[0]
    assert (row["claim_verdict"], row["verdict"], row["at_paper"]) == (verdict, verdict, True)
    assert why in row["why"]
    assert row["seeds"] == len(gains)
    assert row["values"] == pytest.approx(gains)


@pytest.mark.parametrize("claim", ["mezo-learns", "ldsd-policy", "kerzoo-accuracy-wsc", "pgap-squad", "lozo-interval"])
@pytest.mark.parametrize("answers", [[-1, -1, -1], [-1, -1, -2], [0, 0, 0], [4, 4, 4], [0, 1, 1]])
def test_seeds_that_hardly_differ_rule_nothing_out(record, claim, answers):
    """56 test rows: one answer is 1.8 points, and equal differences of three seeds are no certainty."""
    claim = CLAIMS[claim]
    at = {"model": claim.models[0], "task": "rte" if claim.tasks == "any" else claim.tasks[0], "test/n": 56}
    at |= {"metric": claim.metric, "method.rule": "sgd"}
    ours, theirs = ({"method": name} | at | SETTINGS.get(name, {}) for name in (claim.method, claim.against))
    record(scores=[0.5] * 3, trains=claim.against != "zeroshot", **theirs)
    row = judged(record(scores=[0.5 + n / 56 for n in answers], **ours), claim.name).iloc[0]
    assert row["at_paper"]
    assert row["seeds"] == 3
    assert row["high"] - row["low"] > 2 * 4.3 * (100 / 56) / 3**0.5 - 0.1
    assert "ruled out" not in row["why"]
    assert "no spread seen" in row["why"]


def test_equal_values_without_a_known_step_decide_nothing(record):
    record("mezo", [0.6] * 3, **{"test/n": None})
    row = judged(record("kerzoo", [0.5] * 3, **{"test/n": None}), "kerzoo-accuracy-wsc").iloc[0]
    assert (row["verdict"], math.isnan(row["low"]), math.isnan(row["high"])) == ("not supported", True, True)
    assert row["why"].startswith("undecided: no spread seen")


@pytest.mark.parametrize(("name", "metric"), [("curvzo-accuracy", "f1"), ("pgap-squad", "accuracy")])
def test_a_claim_is_judged_by_its_own_metric_alone(record, name, metric):
    at = {"model": "opt-2.7b", "task": "squad", "metric": metric}
    record("mezo", [0.5] * 3, **at)
    row = judged(record(CLAIMS[name].method, [0.6, 0.61, 0.62], **at), name).iloc[0]
    assert (row["claim_verdict"], row["verdict"]) == ("not tested", "not tested")
    assert row["why"] == f"these runs are measured by {metric}, the claim is of {CLAIMS[name].metric}"


@pytest.mark.parametrize("untrained", ["zero_shot/dev/accuracy", "zero_shot/dev/accuracy_calibrated"])
def test_a_level_below_the_untrained_model_credits_nobody(record, untrained):
    record("mezo", [0.6] * 3, [[0.5, 0.6]] * 3, steps=20, **{untrained: 0.7})
    row = judged(record("kerzoo", [0.6] * 3, [[0.65, 0.65]] * 3, steps=20, **{untrained: 0.7}), "kerzoo-hours-wsc")
    assert list(row["verdict"]) == ["not tested"]
    assert "a reference that ends above the untrained model" in row["why"].iloc[0]


@pytest.mark.parametrize("how", [None, "VmHWM of the process since the run began, libraries and evaluations included"])
def test_peaks_of_shared_processes_judge_no_memory(record, how):
    at = {"model": "opt-13b", "memory_measured_by": how}
    record("mezo", [0.5], **at, peak_gib=70.0, **{"method.rule": "adam"})
    runs = record("loren", [0.5], **at, peak_gib=50.0, **{"method.rule": "momentum"})
    row = judged(runs, "loren-memory").iloc[0]
    assert (row["claim_verdict"], row["verdict"]) == ("not tested", "not tested")
    assert "measured for the run alone" in row["why"]


def test_the_interval_is_students(record):
    gains = [1.0, 4.0, 2.5]
    record("mezo", [0.5, 0.6, 0.7])
    row = judged(record("kerzoo", [0.51, 0.64, 0.725]), "kerzoo-accuracy-wsc").iloc[0]
    low, high = ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((2.5, low, high))


def test_more_cells_ask_for_more_certainty(record):
    gains = [4.0, 5.5, 4.3]
    for task in ("rte", "wsc"):
        record("mezo", [0.5] * 3, task=task)
        runs = record("curvzo", [0.5 + gain / 100 for gain in gains], task=task)
    found = judged(runs, "curvzo-accuracy")
    assert list(found["at_paper"]) == [True, True]
    low, high = ttest_1samp(gains, 0).confidence_interval(0.975)
    for row in found.to_dict("records"):
        assert (row["low"], row["high"]) == pytest.approx((low, high))


@pytest.mark.parametrize(
    "changed",
    [{"model": "smollm2"}, {"task": "sst2"}, {"tuning": "last_layers"}, {"data": "mini"}, {"objective": "metric"}],
    ids=lambda changed: "-".join(changed),
)
def test_other_settings_decide_nothing_and_are_labelled(record, capsys, changed):
    record("mezo", [0.6] * 3, **changed)
    runs = record("kerzoo", [0.63, 0.629, 0.631], **changed)
    row = judged(runs, "kerzoo-accuracy-wsc").iloc[0]
    assert (row["claim_verdict"], row["verdict"], row["at_paper"]) == ("not tested", "supported", False)
    assert main([str(runs), "--claims"]) == 0
    said = capsys.readouterr().out
    block = next(block for block in said.split("\n\n") if block.startswith("kerzoo-accuracy-wsc: not tested"))
    assert f"at our scale ({changed.get('model', 'opt-2.7b')}, " in block
    assert "supported, +3.0 points [+2.8, +3.2], 3 seeds" in block
    assert "at the paper's settings" not in said
    assert f"{len(CLAIMS)} claims: 0 supported, 0 not supported, {len(CLAIMS)} not tested" in said


def test_an_ablation_is_not_the_method(record):
    record("mezo", [0.6] * 3)
    runs = record("kerzoo", [0.7] * 3, **{"method.r_scope": "none"})
    found = judged(runs, "kerzoo-accuracy-wsc")
    assert list(found["claim_verdict"]) == ["not tested"]
    assert found["verdict"].isna().all()


def test_the_policy_is_judged_against_its_ablation(record):
    settings = {"model": "opt-1.3b", "task": "sst2", "method.rule": "momentum"}
    record("ldsd", [0.6, 0.61, 0.62], **settings, **{"method.lr_mu": 0})
    row = judged(record("ldsd", [0.65, 0.655, 0.66], **settings, **{"method.lr_mu": 1e-3}), "ldsd-policy").iloc[0]
    assert (row["claim_verdict"], row["why"]) == ("supported", "a gain")
    assert row["rows"] == "ldsd and ldsd (lr_mu=0)"


def test_hours_until_the_references_last_dev_metric(record):
    """MeZO is there at step 40, KerZOO at 10, 10 and 20, its steps being half as dear."""
    record("mezo", [0.6] * 3, [[0.5, 0.6, 0.65, 0.7]] * 3, steps=40, device="cuda", gpu_hours=4.0)
    curves = [[0.7, 0.1, 0.1, 0.1], [0.8, 0.1, 0.1, 0.1], [0.6, 0.7, 0.1, 0.1]]
    runs = record("kerzoo", [0.6] * 3, curves, steps=40, device="cuda", gpu_hours=2.0)
    row = judged(runs, "kerzoo-hours-wsc").iloc[0]
    assert row["values"] == pytest.approx([-87.5, -87.5, -75.0])
    assert row["claim_verdict"] == "supported"


def test_a_level_that_is_never_reached_is_no_support(record):
    record("mezo", [0.6] * 3, [[0.5, 0.7]] * 3, steps=20)
    runs = record("kerzoo", [0.9] * 3, [[0.7, 0.7], [0.6, 0.6], [0.7, 0.7]], steps=20)
    row = judged(runs, "kerzoo-hours-wsc").iloc[0]
    assert (row["claim_verdict"], row["why"]) == ("not supported", "in 1 of 3 pairs the level was never reached")
    assert math.isnan(row["mean"])


def test_steps_of_pgap_and_hours_of_two_devices(record):
    record("mezo", [0.6] * 3, [[0.5] * 9 + [0.7]] * 3, steps=100)
    runs = record("pgap", [0.6] * 3, [[0.7] * 10] * 3, steps=100, device="cuda:1")
    steps, hours = judged(runs, "pgap-steps").iloc[0], judged(runs, "pgap-hours").iloc[0]
    assert (steps["claim_verdict"], steps["mean"]) == ("supported", pytest.approx(-90))
    assert (hours["claim_verdict"], hours["seeds"]) == ("not tested", 0)


def test_one_pair_tells_peak_memory(record):
    record("mezo", [0.5], model="opt-13b", peak_gib=70.0, **{"method.rule": "adam"})
    runs = record("loren", [0.5], model="opt-13b", peak_gib=50.0, **{"method.rule": "momentum"})
    row = judged(runs, "loren-memory").iloc[0]
    assert (row["claim_verdict"], row["seeds"]) == ("supported", 1)
    assert row["mean"] == pytest.approx(100 * (50 / 70 - 1))
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])


@pytest.mark.parametrize(("peak", "verdict"), [(4.1, "supported"), (4.3, "not supported"), (3.7, "not supported")])
def test_no_difference_is_a_claim_too(record, peak, verdict):
    at = {"model": "opt-1.3b", "task": "multirc"}
    record("zeroshot", [0.5], trains=False, steps=0, forwards=0, peak_gib=4.0, **at)
    row = judged(record("mezo", [0.5], peak_gib=peak, **at), "mezo-memory-of-inference").iloc[0]
    assert row["claim_verdict"] == verdict
    assert "within ± 5 %" in row["why"]


@pytest.mark.parametrize(
    ("scores", "verdict"), [([0.49, 0.5, 0.505], "supported"), ([0.9, 0.91, 0.92], "not supported")]
)
def test_chance_needs_no_second_method(record, scores, verdict):
    at = {"model": "opt-13b", "task": "sst2", "test/majority": 0.509, "method.interval": 50}
    row = judged(record("lozo", scores, **at), "lozo-at-chance").iloc[0]
    assert (row["claim_verdict"], row["seeds"], row["rows"]) == (verdict, 3, "lozo and majority")
    assert row["values"] == pytest.approx([100 * (score - 0.509) for score in scores])
    assert "within ± 5 points" in row["why"]
    other = judged(record("curvzo", scores, model="opt-13b", task="sst2"), "curvzo-at-chance").iloc[0]
    assert (other["claim_verdict"], other["seeds"]) == ("not tested", 0)
    assert "a pair needs the share of the most frequent class" in other["why"]


def test_forward_passes_are_not_steps(record):
    """Both are there at step 10, after 50 and after 20 forward passes of equal budgets."""
    at = {"model": "opt-13b", "task": "sst2", "forwards": 100}
    record("mezo", [0.6] * 3, [[0.6, 0.6, 0.6, 0.6, 0.7]] * 3, steps=50, **at)
    runs = record("zo_muon", [0.6] * 3, [[0.7, 0.7, 0.7, 0.7, 0.7]] * 3, steps=20, **at)
    for path in runs.rglob("metrics.jsonl"):
        if "zo_muon" in path.as_posix():
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(line | {"forwards": 5 * line["step"]}) + "\n" for line in lines))
    row = judged(runs, "zo-muon-forwards").iloc[0]
    assert row["values"] == pytest.approx([-50] * 3)
    assert row["why"].startswith("undecided")


def test_runs_that_cannot_be_compared_test_nothing(record):
    record("mezo", [0.6] * 3)
    row = judged(record("kerzoo", [0.7] * 3, forwards=4000), "kerzoo-accuracy-wsc").iloc[0]
    assert row["claim_verdict"] == "not tested"
    assert "differ in forwards" in row["why"]


def test_a_side_that_diverged_tests_nothing(record):
    record("mezo", [0.6] * 3)
    row = judged(record("kerzoo", [0.7] * 3, state="diverged"), "kerzoo-accuracy-wsc").iloc[0]
    assert (row["claim_verdict"], row["why"]) == ("not tested", "all runs of one side diverged")


def test_the_table_of_the_first_run_is_that_of_its_numbers():
    made = module_of(Path(__file__).parents[2] / "scripts" / "claims_of_first_run.py")
    page = made.PAGE.read_text(encoding="utf-8")
    assert made.with_table(page) == page, "made anew by python scripts/claims_of_first_run.py"
    assert "| lozo-at-chance | within ± 5 | +14.8 [+9.5, +20.1] |" in page


def test_without_runs_the_registry_is_printed(tmp_path, capsys):
    assert main([str(tmp_path), "--claims"]) == 0
    said = capsys.readouterr().out
    for claim in CLAIMS.values():
        assert f"{claim.name}: not tested\n  {claim.says}\n  {named(claim.paper)}; {claim.source}\n" in said
        assert all(f"$ {command}\n" in said for command in claim.commands)
    assert list(report.verdicts(pd.DataFrame())["claim"]) == list(CLAIMS)
    assert main([str(tmp_path / "nowhere"), "--claims"]) == 1


def test_where_chooses_the_runs(record, capsys):
    record("mezo", [0.6] * 3)
    runs = record("kerzoo", [0.63, 0.629, 0.631])
    assert main([str(runs), "--claims"]) == 0
    assert f"{len(CLAIMS)} claims: 1 supported" in capsys.readouterr().out
    assert main([str(runs), "--claims", "--where", "method=mezo"]) == 0
    assert f"{len(CLAIMS)} claims: 0 supported" in capsys.readouterr().out
