"""The benchmark: what it compares is what it says, and its numbers are the ones it measured. No timing is asserted."""

import json
import math
import subprocess
import sys

import pytest
import torch

from zobench import MeZO
from zobench.bench import memory, models, subjects, timing
from zobench.bench.__main__ import main
from zobench.bench.plain import PlainStep
from zobench.bench.spec import Shape, Spec, overrides, parse_shapes
from zobench.bench.subjects import PLAIN, PLAIN_STEP, TRIMMED, Subject
from zobench.bench.timing import Sample
from zobench.errors import UserError
from zobench.zo import Oracle
from zobench.zo.torch_stream import TorchStream

SUMMARY = {"median", "q1", "q3"}
CPU = torch.device("cpu")


def spec(*methods, **changes):
    given = {"model": "tiny-llama", "dtype": "float32", "device": "cpu", "threads": None, "shapes": (Shape(2, 8),)}
    return Spec(**{**given, "methods": methods, **changes})


@pytest.fixture(scope="module")
def model():
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
    mezo.perturbation = TorchStream(mezo.slots)
    mezo.oracle = Oracle(mezo.slots, mezo.perturbation)
    mezo.keys = lambda step, *rest: 20 + step
    for _ in range(3):
        mezo.step(our_loss)
        assert plain.step(their_loss) == pytest.approx(mezo.oracle.notes["projected_gradient"], rel=1e-9)
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_trimmed_and_plain_forwards_are_one_loss(tiny):
    trimmed, plain = subjects.losses(tiny.model, Shape(3, 10))
    with torch.inference_mode():
        assert abs(float(trimmed()) - math.log(2)) > 1e-3  # it depends on the model
        assert float(trimmed()) == pytest.approx(float(plain()), rel=1e-5)


def test_every_subject_does_its_forwards_and_the_weights_come_back(model):
    asked = spec("mezo", "loren:probes=3", "kerzoo:probes=2")
    compared = [subjects.make(asked, name, model, Shape(2, 8)) for name in subjects.names(asked)]
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

    names = (TRIMMED, "loren", PLAIN_STEP)
    passes = {TRIMMED: 0, "loren": 7, PLAIN_STEP: 4}
    compared = [Subject(n, torch.Tensor, list, lambda forwards, n=n: passes[n]) for n in names]
    measured = dict(zip(names, (samples(2, 2, 2), samples(13, 6, 6), samples(6, 2, 2)), strict=True))
    _, loren, plain = timing.rows(compared, measured, weights=1000)
    assert loren["ratio"] == pytest.approx({"median": 6.5, "q1": 6.5, "q3": 6.5})
    assert loren["ratio_to_as_many_forwards"]["median"] == pytest.approx(13 / 6)
    assert loren["plain_over_this"]["median"] == pytest.approx(6 / 13)
    assert loren["ns_per_weight_pass"] == pytest.approx(7 / 1000 / 7 * 1e9)
    assert plain["outside_seconds"]["median"] == pytest.approx(4)


def test_a_non_finite_loss_is_an_error():
    broken = Subject("broken", lambda: torch.tensor(float("nan")), lambda loss: loss())
    with pytest.raises(UserError, match="not finite"):
        timing.measure(broken, CPU)


def test_memory_is_split_into_weights_and_declared_state(model):
    row = memory.measure(spec("mezo:rule=adam"), Shape(2, 8), "mezo:rule=adam")
    weights = sum(param.numel() * 4 for param in model.parameters())
    assert row["weights_bytes"] == weights
    assert row["method_state_bytes"] == 2 * weights
    assert row["rest_bytes"] == row["peak_bytes"] - 3 * weights


@pytest.mark.parametrize(("name", "millions"), [("opt-125m-random", 125.2), ("llama-135m-random", 134.5)])
def test_random_models_have_the_size_of_the_published_ones(name, millions):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        found = AutoModelForCausalLM.from_config(models.random_config(name))
    assert sum(p.numel() for p in found.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_settings_of_a_method_become_overrides():
    assert overrides("loren:probes=10+rule=sgd") == ["method=loren", "method.probes=10", "method/rule=sgd"]
    assert parse_shapes("16x64,8x256") == (Shape(16, 64), Shape(8, 256))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "mezo,lorne"], "did you mean method=loren?"),
        (["--methods", "mezo:probs=2"], "did you mean method.probes?"),
        (["--methods", "mezo:probes"], "expected setting=value"),
        (["--methods", "mezo:probes=0"], "must be at least 1"),
        (["--methods", "mezo,mezo"], "there twice"),
        (["--methods", "mezo,"], "a name is empty"),
        (["--methods", "zeroshot"], "takes no steps"),
        (["--model", "smolm2"], "did you mean smollm2?"),
        (["--dtype", "bfloat"], "did you mean bfloat16?"),
        (["--repeets", "2"], "did you mean --repeats?"),
        (["--repeats", "0"], "must be at least 1"),
        (["--threads", "0"], "must be at least 1"),
        (["--device", "gpu"], "expected auto, cpu"),
        (["--shape", "16*64"], "expected batch x tokens"),
        (["--shape", "2x4096", "--model", "tiny-llama"], "2048 positions"),
    ],
)
def test_wrong_arguments_are_answered(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "zobench.bench", "--model", "tiny-llama", "--shape", "2x8", *arguments],
        capture_output=True,
        text=True,
    )


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    file = tmp_path / "new" / "bench.json"
    done = command("--repeats", "2", "--threads", "1", "--methods", "mezo,ldsd:candidates=2", "--json", str(file))
    assert done.returncode == 0, done.stderr
    for said in ("tiny-llama, float32, 2x8", "1 threads, 2 repeats", TRIMMED, PLAIN, PLAIN_STEP, "| ldsd:candidates=2"):
        assert said in done.stdout
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


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere loading counts towards the peak")
def test_memory_of_processes(tmp_path):
    file = tmp_path / "memory.json"
    done = command("--memory", "--methods", "mezo,mezo:rule=adam", "--json", str(file))
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(file.read_text())["results"]
    rows = {row["name"]: row for row in result["memory"]}
    assert list(rows) == [TRIMMED, PLAIN, "mezo", "mezo:rule=adam", PLAIN_STEP]
    assert rows[TRIMMED]["ratio"] == 1
    for row in rows.values():
        assert row["peak_bytes"] >= row["weights_bytes"] + row["method_state_bytes"]
    assert rows["mezo:rule=adam"]["peak_bytes"] > 2 * rows["mezo"]["peak_bytes"]
