"""The benchmark: what it compares is what it says, and its numbers are the ones it measured. No timing is asserted."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.methods import METHODS
from helpers.own import write_model

from zobench import MeZO, MeZOSVRG
from zobench.bench import checkout, memory, models, official, subjects, table, timing
from zobench.bench.__main__ import main
from zobench.bench.models import Tuned
from zobench.bench.plain import PlainStep
from zobench.bench.spec import Shape, Spec, label, overrides, parse_methods, parse_shapes
from zobench.bench.subjects import OFFICIAL, OFFICIAL_OPTIONS, PLAIN, PLAIN_STEP, TRIMMED, Subject
from zobench.bench.timing import Sample
from zobench.errors import ConfigError, UserError
from zobench.objective import Encoded
from zobench.objective.encode import Row
from zobench.protocols.mezo_exact.objective import OfficialObjective
from zobench.protocols.mezo_exact.step import TorchStream
from zobench.tasks.base import Example
from zobench.zo import Oracle

SUMMARY = {"median", "q1", "q3"}
MLP, FROM_ATTENTION = ("gate_proj", "up_proj", "down_proj"), "from the last attention"
CPU = torch.device("cpu")
MEZO = os.environ.get("ZOBENCH_MEZO")
needs_mezo = pytest.mark.skipif(
    not MEZO, reason=f"ZOBENCH_MEZO does not name a checkout of {checkout.REPOSITORY} at {checkout.COMMIT}"
)
# In the place of the official files: a step of two forwards that moves every weight, written for these tests.
STAND_IN_TRAINER = """\
import a_package_that_is_not_there

class Another:
    def zo_step(self, model, inputs):
        raise AssertionError("not this one")

class OurTrainer(a_package_that_is_not_there.Trainer):
    def zo_perturb_parameters(self, scale):
        for param in self.params:
            param.data = param.data + scale * self.args.zo_eps

    def zo_forward(self, model, inputs):
        with torch.inference_mode(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach()

    def zo_step(self, model, inputs):
        self.params = [param for param in model.parameters()]
        self.zo_perturb_parameters(1)
        plus = self.zo_forward(model, inputs)
        self.zo_perturb_parameters(-2)
        self.projected_grad = float(plus - self.zo_forward(model, inputs)) / (2 * self.args.zo_eps)

    def zo_update(self, model):
        self.zo_perturb_parameters(1 - self._get_learning_rate())
        self.lr_scheduler.step()
"""
STAND_IN_UTILS = """\
import a_package_that_is_not_there

def forward_wrap_with_option_len(self, input_ids, labels, option_len, num_options=None, **kwargs):
    return (self.original_forward(input_ids=input_ids, **kwargs).logits.square().mean(),)
"""


def spec(*methods, **changes):
    given = {"model": "tiny-llama", "dtype": "float32", "device": "cpu", "threads": None, "shapes": (Shape(2, 8),)}
    return Spec(**{**given, "methods": methods, **changes})


@pytest.fixture(scope="module")
def tuned():
    return models.load("tiny-llama", "float32", CPU)


def regression():
    """A linear regression in fp64: its parameters, and its loss."""
    torch.manual_seed(3)
    module = torch.nn.Linear(6, 4).double()
    inputs, targets = torch.randn(9, 6).double(), torch.randn(9, 4).double()
    return list(module.named_parameters()), lambda: (module(inputs) - targets).square().mean()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_plain_step_is_the_formula_on_its_own_noise(weight_decay):
    named, loss = regression()
    old = [param.detach().clone() for _, param in named]
    generator = torch.Generator().manual_seed(11)
    z = [torch.normal(0.0, 1.0, param.shape, generator=generator, dtype=param.dtype) for _, param in named]

    def loss_at(eps):
        with torch.no_grad():
            for (_, param), start, noise in zip(named, old, z, strict=True):
                param.copy_(start + eps * noise)
            return float(loss())

    expected = (loss_at(1e-3) - loss_at(-1e-3)) / 2e-3
    loss_at(0.0)
    found = PlainStep(named, lr=1e-2, weight_decay=weight_decay, seed=11).step(loss)
    assert found == pytest.approx(expected, rel=1e-9)
    for (name, param), start, noise in zip(named, old, z, strict=True):
        decay = 0.0 if name == "bias" else weight_decay
        wanted = start - 1e-2 * (expected * noise + decay * start)
        torch.testing.assert_close(param.detach(), wanted, rtol=0, atol=1e-11)


def test_plain_steps_are_those_of_mezo_on_the_same_noise():
    ours, our_loss = regression()
    theirs, their_loss = regression()
    mezo, plain = MeZO(ours, lr=1e-2, eps=1e-3), PlainStep(theirs, lr=1e-2, eps=1e-3, seed=20)
    mezo.oracle = Oracle(mezo.slots, TorchStream(mezo.slots))
    mezo.keys = lambda step, *rest: 20 + step
    for _ in range(3):
        mezo.step(our_loss)
        assert plain.step(their_loss) == pytest.approx(mezo.oracle.notes["projected_gradient"], rel=1e-9)
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("tuning", ["full", "last_layers:layers=1+only=mlp", "lora"])
def test_trimmed_and_plain_forwards_are_one_loss(tuning):
    tuned = models.load("tiny-llama", "float32", CPU, tuning)
    trimmed, plain = subjects.losses(tuned, Shape(3, 10))
    with torch.inference_mode():
        assert abs(float(trimmed()) - math.log(2)) > 1e-3  # it depends on the model
        assert float(trimmed()) == pytest.approx(float(plain()), rel=1e-5)


def test_every_subject_does_its_forwards_and_the_weights_come_back(tuned):
    asked = spec("mezo", "loren:probes=3", "kerzoo:probes=2")
    compared = subjects.make_all(asked, tuned, Shape(2, 8))
    model = tuned.model
    before = [param.detach().clone() for param in model.parameters()]
    samples = timing.interleave(compared, model, 2)
    expected = {TRIMMED: 2, PLAIN: 2, "mezo": 2, "loren:probes=3": 3, "kerzoo:probes=2": 4, PLAIN_STEP: 2}
    assert {name: [s.forwards for s in own] for name, own in samples.items()} == {
        name: [n, n] for name, n in expected.items()
    }
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_ratios_are_made_within_a_repeat():
    """A machine that is three times slower in one repeat changes no ratio."""

    def samples(seconds, forward_seconds, forwards):
        return [Sample(slow * seconds, 0.0, slow * forward_seconds, forwards) for slow in (1.0, 3.0, 1.0)]

    names = (TRIMMED, "loren", PLAIN_STEP, OFFICIAL)
    passes = {TRIMMED: 0, "loren": 7, PLAIN_STEP: 4, OFFICIAL: 4}
    compared = [Subject(n, torch.Tensor, list, lambda forwards, n=n: passes[n]) for n in names]
    measured = dict(zip(names, (samples(2, 2, 2), samples(13, 6, 6), samples(6, 2, 2), samples(26, 4, 2)), strict=True))
    _, loren, plain, theirs = timing.rows(compared, measured, weights=1000)
    assert loren["ratio"] == pytest.approx({"median": 6.5, "q1": 6.5, "q3": 6.5})
    assert loren["ratio_to_as_many_forwards"]["median"] == pytest.approx(13 / 6)
    assert loren["plain_over_this"]["median"] == pytest.approx(6 / 13)
    assert loren["official_over_this"]["median"] == pytest.approx(2)
    assert theirs["official_over_this"]["median"] == 1
    assert loren["outside_ms_per_forward"] == pytest.approx(7 / 6 * 1e3)
    assert loren["ns_per_weight_pass"] == pytest.approx(7 / 1000 / 7 * 1e9)
    assert plain["outside_seconds"]["median"] == pytest.approx(4)
    without = timing.rows(compared[:-1], {name: measured[name] for name in names[:-1]}, weights=1000)
    assert "official_over_this" not in without[0]
    assert "official step / this" not in table.timing(without)
    assert "official step / this" in table.timing(timing.rows(compared, measured, weights=1000))


def test_a_non_finite_loss_is_an_error():
    broken = Subject("broken", lambda: torch.tensor(float("nan")), lambda loss: loss())
    with pytest.raises(UserError, match="not finite"):
        timing.measure(broken, CPU)


def test_memory_is_split_into_weights_and_declared_state(tuned):
    row = memory.measure(spec("mezo:rule=adam"), Shape(2, 8), "mezo:rule=adam")
    weights = sum(param.numel() * 4 for param in tuned.model.parameters())
    assert row["weights_bytes"] == weights
    assert row["method_state_bytes"] == 2 * weights


def test_a_peak_is_split_by_the_first_row():
    mib = 2**20

    def measured(name, peak, state):
        given = {"peak_bytes": peak, "weights_bytes": 100, "method_state_bytes": state, "process_before_bytes": 7}
        return {"name": name, **{key: value * mib for key, value in given.items()}}

    rows = memory.split([measured(TRIMMED, 140, 0), measured("adam", 343, 200), measured("mezo", 139, 0)])
    assert [row["activations_bytes"] / mib for row in rows] == [40, 40, 40]
    assert [row["transient_bytes"] / mib for row in rows] == [0, 3, -1]
    assert [row["ratio"] for row in rows] == pytest.approx([1, 343 / 140, 139 / 140])
    assert [row["over_declared"] for row in rows] == pytest.approx([1, 343 / 340, 139 / 140])
    assert "| adam                 | 2.450 |                  1.009 |     343.0 |   100.0 |" in table.memory(rows)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("opt-125m-random", 125.2),
        ("llama-135m-random", 134.5),
        ("opt-1.3b-random", 1315.8),
        ("opt-13b-random", 12853.5),
    ],
)
def test_random_models_have_the_size_of_the_published_ones(name, millions):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        found = AutoModelForCausalLM.from_config(models.random_config(name))
    assert sum(p.numel() for p in found.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_all_methods_are_those_of_conf_that_take_steps():
    found = parse_methods("all")
    assert {name.partition(":")[0] for name in found} == set(METHODS) - {"zeroshot"}
    assert len(set(found)) == len(found)
    assert spec(*found).methods == found  # every variant is a setting that there is
    assert max(len(label(name)) for name in found) <= max(len(TRIMMED), len("mezo, low_rank, rank 8"))


def test_the_table_of_all_methods_fits_a_hundred_columns():
    times = {"median": 2.345, "q1": 2.19, "q3": 3.456}
    numbers = ("ratio", "ratio_to_as_many_forwards", "plain_over_this", "seconds")
    given = {"fed": "16x64", "forwards": 20, "outside_share": 0.99, "outside_ms_per_forward": 1234.5}
    given |= {"ns_per_weight_pass": 12.34, "evaluation": "side, stacked", **dict.fromkeys(numbers, times)}
    lines = table.timing([{"name": name, **given} for name in (TRIMMED, *parse_methods("all"))]).splitlines()
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) <= 100


def test_with_a_small_tuning_the_methods_train_it_alone_from_cached_activations():
    tuning = "last_layers:layers=1+only=mlp"
    asked = spec("mezo", "loren:probes=2", tuning=tuning)
    tuned = models.load("tiny-llama", "float32", CPU, tuning)
    assert {".".join(name.split(".")[2:5]) for name, _ in subjects.trained(tuned.model)} == {"1.mlp." + x for x in MLP}
    assert subjects.settled(tuned, models.random_batch(tuned.model, Shape(2, 8))).forward_path == FROM_ATTENTION
    compared = subjects.make_all(asked, tuned, Shape(2, 8))
    rows = timing.rows(compared, timing.interleave(compared, tuned.model, 1), weights=1)
    assert [(row["name"], row["evaluation"]) for row in rows] == [(TRIMMED, ""), *((m, "walk") for m in asked.methods)]
    for row in rows:
        assert row["outside_share"] == pytest.approx(row["outside_seconds"]["median"] / row["seconds"]["median"])
    state = [subject.state_bytes() for subject in compared]
    trained = sum(param.numel() for _, param in subjects.trained(tuned.model))
    assert state[1] <= 4 * trained <= state[2]  # a held draw; LOREN's momentum, and its draws
    assert state[2] < 4 * sum(param.numel() for param in tuned.model.parameters())


@pytest.mark.parametrize(("way", "expected"), [("walk", "walk"), ("side", "side"), ("stacked", "side, stacked")])
def test_a_method_whose_directions_have_factors_can_be_made_to_take_each_way(tuned, way, expected):
    asked = spec(f"pgap:rank=2+basis=random@{way}")
    forced = subjects.make_all(asked, tuned, Shape(2, 8))[2]
    sample = timing.measure(forced, CPU)
    sample = timing.measure(forced, CPU)
    assert forced.evaluation() == expected
    assert (sample.forwards, forced.passes(2)) == (2, 3 if way == "walk" else 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kerzoo@side", "by walk; leave @side out"),
        ("mezo:mode=exact@walk", "by exact; leave @walk out"),
        ("mezo:mode=exact@stacked", "by exact; leave @stacked out"),
        ("adamw@walk", "has no offsets"),
    ],
)
def test_a_way_that_a_method_cannot_take_is_refused(tuned, name, said):
    with pytest.raises(ConfigError, match=said):
        timing.measure(subjects.make_all(spec(name), tuned, Shape(2, 8))[2], CPU)


def test_a_sample_of_short_steps_is_the_mean_of_several():
    calls = []

    def work(loss):
        calls.append(float(loss()) + float(loss()))

    sample = timing.measure(Subject("pair", lambda: torch.zeros(()), work), CPU, steps=4)
    assert (len(calls), sample.forwards, sample.steps) == (4, 2, 4)


def test_further_batches_of_a_step_are_its_own_again_and_each_is_a_forward():
    method = MeZOSVRG([("weight", torch.ones(3))], lr=0.0)
    work = subjects._with_further_batches(method, method.step)
    subject = Subject("anchored", lambda: method.slots[0].param.square().sum(), work)
    assert [timing.measure(subject, CPU).forwards for _ in range(2)] == [method.forwards_at(step) for step in range(2)]


def test_a_loss_that_stacks_counts_a_forward_for_each_copy():
    class Stacking:
        rows, size, stacks = 30, 3, True

        def __call__(self):
            return torch.tensor(1.0)

        def losses(self, copies=1, examples=False):
            return torch.ones(copies, self.size) if examples else torch.ones(copies)

    seen = []

    def work(loss):
        seen.append((float(loss()), loss.losses(2).shape, loss.losses(3, True).shape))
        seen.append((loss.rows, loss.size, loss.stacks))

    assert timing.measure(Subject("stacking", Stacking(), work), CPU).forwards == 6
    assert seen == [(1.0, (2,), (3, 3)), (30, 3, True)]


def test_settings_of_a_method_become_overrides():
    assert overrides("loren:probes=10+rule=sgd") == ["method=loren", "method.probes=10", "method/rule=sgd"]
    assert overrides("local:dir=a+b@c/d+attention=eager", "model") == [
        "model=local", "model.dir=a+b@c/d", "model.attention=eager",
    ]  # fmt: skip
    assert parse_shapes("16x64,8x256") == (Shape(16, 64), Shape(8, 256))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "mezo,lorne"], "did you mean method=loren?"),
        (["--methods", "pgap@walks"], "did you mean walk?"),
        (["--methods", "mezo:probs=2"], "did you mean method.probes?"),
        (["--methods", "mezo:probes"], "expected setting=value"),
        (["--methods", "mezo:probes=0"], "must be at least 1"),
        (["--methods", "mezo,mezo"], "there twice"),
        (["--methods", "mezo,"], "a name is empty"),
        (["--methods", "zeroshot"], "takes no steps"),
        (["--model", "smolm2"], "did you mean smollm2?"),
        (["--model", "opt-125m-random:layers=2"], "has no settings; expected opt-125m-random"),
        (["--model", "local"], "model=local needs model.dir=DIR"),
        (["--model", "hub"], "model=hub needs model.id=ORG/NAME"),
        (["--model", "local:dri=."], "did you mean model.dir?"),
        (["--model", "local:dir=[my]model"], "\"model.dir='[my]model'\""),
        (["--dtype", "bfloat"], "did you mean bfloat16?"),
        (["--repeets", "2"], "did you mean --repeats?"),
        (["--repeats", "0"], "must be at least 1"),
        (["--threads", "0"], "must be at least 1"),
        (["--device", "gpu"], "expected auto, cpu"),
        (["--tuning", "last_layer"], "did you mean tuning=last_layers?"),
        (["--tuning", "full", "--methods", "all,mezo"], "there twice"),
        (["--tuning", "lora", "--official", "."], "leave it at full"),
        (["--json", "."], "it is a folder"),
        (["--shape", "16*64"], "expected batch x tokens"),
        (["--shape", "2x4096", "--model", "tiny-llama"], "2048 positions"),
    ],
)
def test_wrong_arguments_are_answered(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


SMALL = ("--model", "tiny-llama", "--shape", "2x8")


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    file = tmp_path / "new" / "bench.json"
    words = ["--repeats", "2", "--threads", "1", "--methods", "mezo,ldsd:candidates=2", "--json", str(file)]
    assert main([*SMALL, *words]) == 0
    printed = capsys.readouterr().out
    for said in (
        "tiny-llama, float32, 2x8",
        "1 threads, 2 repeats",
        TRIMMED,
        PLAIN,
        PLAIN_STEP,
        "| ldsd, candidates 2",
    ):
        assert said in printed
    found = json.loads(file.read_text())
    assert found["asked"]["repeats"] == 2
    assert found["environment"]["threads"] == 1
    (result,) = found["results"]
    assert (result["shape"], result["batch"], result["tokens"]) == ("2x8", 2, 8)
    assert [row["name"] for row in result["time"]] == [TRIMMED, PLAIN, "mezo", "ldsd:candidates=2", PLAIN_STEP]
    for row in result["time"]:
        for key in ("ratio", "ratio_to_as_many_forwards", "plain_over_this", "seconds", "cpu_seconds"):
            assert set(row[key]) == SUMMARY
            assert 0 < row[key]["q1"] <= row[key]["median"] <= row[key]["q3"]
    assert [row["forwards"] for row in result["time"]] == [2, 2, 2, 3, 2]
    assert [row["passes"] for row in result["time"]] == [0, 0, 3, 4, 4]
    for row in result["time"]:
        expected = row["outside_seconds"]["median"] / row["forwards"] * 1e3
        assert row["outside_ms_per_forward"] == pytest.approx(expected)


def test_a_model_of_ones_own_is_measured(tmp_path, capsys):
    write_model(tmp_path / "a+b@c")
    asked = ["--model", f"local:dir={tmp_path}/a+b@c", "--tuning", "lora:layers=1", "--methods", "mezo"]
    assert main([*asked, "--shape", "2x8", "--repeats", "1", "--threads", "1"]) == 0
    assert "| mezo " in capsys.readouterr().out
    assert main([*asked, "--shape", "2x4096"]) == 2
    assert "the model has 2048 positions" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere loading counts towards the peak")
def test_memory_of_processes(tmp_path):
    file = tmp_path / "memory.json"
    words = [*SMALL, "--memory", "--methods", "mezo,mezo:rule=adam", "--json", str(file)]
    done = subprocess.run([sys.executable, "-m", "zobench.bench", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(file.read_text())["results"]
    rows = {row["name"]: row for row in result["memory"]}
    assert list(rows) == [TRIMMED, PLAIN, "mezo", "mezo:rule=adam", PLAIN_STEP]
    assert rows[TRIMMED]["ratio"] == 1
    for row in rows.values():
        assert row["peak_bytes"] >= row["weights_bytes"] + row["method_state_bytes"]
        parts = ("weights_bytes", "method_state_bytes", "activations_bytes", "transient_bytes")
        assert row["peak_bytes"] == sum(row[part] for part in parts)
    assert rows["mezo:rule=adam"]["peak_bytes"] > 2 * rows["mezo"]["peak_bytes"]


def git(folder, *arguments):
    settings = ("user.name=T", "user.email=t@localhost", "commit.gpgsign=false", "core.autocrlf=false")
    options = [word for setting in settings for word in ("-c", setting)]
    done = subprocess.run(["git", "-C", folder, *options, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A git repository with files of the official names, expected as it is."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "stand-in"
    (folder / "large_models").mkdir(parents=True)
    (folder / checkout.TRAINER).write_text(STAND_IN_TRAINER)
    (folder / checkout.UTILS).write_text(STAND_IN_UTILS)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.setattr(checkout, "COMMIT", git(folder, "rev-parse", "HEAD"))
    monkeypatch.setattr(checkout, "BLOBS", {name: git(folder, "rev-parse", f"HEAD:{name}") for name in checkout.BLOBS})
    return folder


def nothing(folder):
    return folder / "not-there"


def no_repository(folder):
    (folder / ".git").rename(folder / "not-git")
    return folder


def another_commit(folder):
    git(folder, "commit", "-q", "--allow-empty", "-m", "second")
    return folder


def edited(folder):
    (folder / checkout.UTILS).write_text(STAND_IN_UTILS + "# edited\n")
    return folder


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (nothing, ("no such folder", "git clone https://github.com/princeton-nlp/MeZO DIR")),
        (no_repository, ("not a git repository", "git clone https://github.com/princeton-nlp/MeZO DIR")),
        (another_commit, ("it is at commit", "princeton-nlp/MeZO at", "git clone")),
        (edited, ("large_models/utils.py is not the released file", "unedited", "to restore it: git -C")),
        (lambda folder: folder / "large_models", ("no file large_models/trainer.py", "its top folder")),
    ],
)
def test_what_is_not_the_official_checkout_is_refused(spoil, said, stand_in, capsys):
    assert main(["--model", "tiny-llama", "--shape", "2x8", "--official", str(spoil(stand_in))]) == 2
    error = capsys.readouterr().err
    for part in (*said, checkout.COMMIT):
        assert part in error


def test_functions_are_those_of_the_file_and_nothing_else_of_it_runs(stand_in):
    file = stand_in / checkout.TRAINER
    step = checkout.functions(file, ["zo_step"], {}, of="OurTrainer")["zo_step"]
    assert step.__code__.co_filename == str(file)
    line = STAND_IN_TRAINER.splitlines()[step.__code__.co_firstlineno - 1]
    assert line == "    def zo_step(self, model, inputs):"
    assert step.__code__.co_firstlineno > STAND_IN_TRAINER[: STAND_IN_TRAINER.index("class OurTrainer")].count("\n")
    with pytest.raises(UserError, match=r"class OurTrainer of .* does not define zo_stop"):
        checkout.functions(file, ["zo_step", "zo_stop"], {}, of="OurTrainer")


def test_the_official_steps_leave_the_model_as_it_was(stand_in, tuned):
    asked = spec("mezo", official=str(stand_in))
    names = subjects.names(asked)
    assert names == [TRIMMED, PLAIN, "mezo", PLAIN_STEP, OFFICIAL, OFFICIAL_OPTIONS]
    model = tuned.model
    compared = [subjects.make(asked, name, tuned, Shape(2, 8)) for name in names]
    before = [param.detach().clone() for param in model.parameters()]
    samples = timing.interleave(compared, model, 1)
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)
    rows = {row["name"]: row for row in timing.rows(compared, samples, weights=1)}
    assert [rows[name]["fed"] for name in names] == ["2x8"] * 4 + ["2x16", "4x16"]
    for name in (OFFICIAL, OFFICIAL_OPTIONS):
        assert (rows[name]["forwards"], rows[name]["passes"]) == (2, 4)
        assert 0 < rows[name]["outside_seconds"]["median"] < rows[name]["seconds"]["median"]

    def fails(self, *args, **kwargs):
        assert self.original_forward(torch.tensor([[5, 6]])).logits.shape[:2] == (1, 2)
        raise NotImplementedError

    step = official.OfficialStep(stand_in, model, models.random_batch(model, Shape(2, 8)), row_per_option=True, lr=0.1)
    step._forward = fails
    with pytest.raises(NotImplementedError):
        step.step(step.loss)
    assert not {"forward", "original_forward"} & set(vars(model))


def test_the_official_step_has_its_place_in_the_file(stand_in, tmp_path, capsys):
    file = tmp_path / "bench.json"
    given = {"model": "tiny-llama", "shape": "2x8", "methods": "mezo", "repeats": "1", "json": str(file)}
    arguments = [word for key, value in given.items() for word in (f"--{key}", value)]
    assert main([*arguments, "--official", str(stand_in)]) == 0
    assert "official step / this" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["official"] == {"repository": checkout.REPOSITORY, "commit": checkout.COMMIT}
    rows = {row["name"]: row for row in found["results"][0]["time"]}
    assert rows[OFFICIAL]["official_over_this"] == {"median": 1, "q1": 1, "q3": 1}
    expected = rows[OFFICIAL]["seconds"]["median"] / rows["mezo"]["seconds"]["median"]
    assert rows["mezo"]["official_over_this"]["median"] == pytest.approx(expected)
    assert main([*arguments, "--shape", "2x2048", "--official", str(stand_in)]) == 2
    assert "give --shape at most 2047 tokens" in capsys.readouterr().err


def test_the_official_batch_is_padded_on_the_left_to_a_multiple_of_eight():
    short, long = tuple(range(10, 15)), tuple(range(20, 29))
    batch = [
        Encoded(Example(0, "", ("", ""), 1), (Row((*short, 7), 1), Row((*short, 8, 9), 2))),
        Encoded(Example(1, "", ("", ""), 0), (Row((*long, 7), 1), Row((*long, 8, 9), 2))),
    ]
    gold = official.inputs(batch, 1, row_per_option=False)
    assert gold["input_ids"].tolist() == [[1] * 9 + [*short, 8, 9], [1] * 6 + [*long, 7]]
    assert gold["attention_mask"].tolist() == [[0] * 9 + [1] * 7, [0] * 6 + [1] * 10]
    assert gold["labels"].tolist() == [[-100] * 9 + [*short, 8, 9], [-100] * 6 + [*long, 7]]
    assert gold["option_len"].tolist() == [2, 1]
    assert "num_options" not in gold
    both = official.inputs(batch, 1, row_per_option=True)
    assert both["input_ids"].shape == both["attention_mask"].shape == (4, 16)
    assert [both[key].tolist() for key in ("labels", "num_options", "option_len")] == [
        [1, 1, 0, 0],
        [2] * 4,
        [1, 2] * 2,
    ]


@needs_mezo
@pytest.mark.parametrize(("row_per_option", "task"), [(False, "squad"), (True, "sst2")])
def test_official_steps_are_plain_steps_with_the_official_loss(tiny, compose_task, row_per_option, task):
    checkout.check(Path(MEZO))
    other = copy.deepcopy(tiny.model)
    batch = models.random_batch(other, Shape(3, 10))
    objective = OfficialObjective(other, tiny.tokenizer, compose_task(task))
    settings = {"lr": 1e-3, "weight_decay": 0.1}
    theirs = official.OfficialStep(Path(MEZO), tiny.model, batch, row_per_option=row_per_option, **settings)
    plain = PlainStep(other.named_parameters(), **settings)
    np.random.seed(11)
    seeds = [np.random.randint(10**9) for _ in range(3)]
    np.random.seed(11)
    for plain.seed in seeds:
        found = plain.step(lambda: objective.loss_sum(batch)[0])
        assert abs(found) > 1e-2
        assert theirs.step(theirs.loss) == pytest.approx(found, rel=2e-7)
        for a, b in zip(tiny.model.parameters(), other.parameters(), strict=True):
            # The plain step keeps the projected gradient in fp64, the official one rounds it to fp32.
            torch.testing.assert_close(a, b, rtol=3e-7, atol=5e-8)
        tiny.model.load_state_dict(other.state_dict())


@needs_mezo
def test_the_official_loss_with_a_row_per_option_is_ours_on_the_same_batch(tiny):
    step = official.OfficialStep(
        Path(MEZO), tiny.model, models.random_batch(tiny.model, Shape(3, 10)), row_per_option=True, lr=0.1
    )
    trimmed, _ = subjects.losses(Tuned(tiny.model, 0.0), Shape(3, 10))
    with torch.inference_mode():
        assert float(step.loss()) == pytest.approx(float(trimmed()), rel=1e-4)
