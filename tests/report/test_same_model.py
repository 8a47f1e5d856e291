"""Runs of other models or data are never pooled, paired or judged as one, whatever their options are called."""

import itertools
import json
import re
import shlex

import pytest
from helpers.written import write_run

from zobench import report
from zobench.report.__main__ import main
from zobench.report.compare.comparable import Mixed
from zobench.report.compare.identity import Model
from zobench.report.papers.models import facts, paper_model

A = {"model_checksum": "3fa1aaaa", "model_family": "qwen2", "model_parameters": 494032768, "tokenizer_hash": "aaaa"}
B = {"model_checksum": "9c02bbbb", "model_family": "gemma", "model_parameters": 2506172416, "tokenizer_hash": "bbbb"}
UNKNOWN = dict.fromkeys((*A, "parameters", "base_checksum"))
#: what tells two models of one name apart
OTHER_MODELS = {
    "all of it": (A, B),
    "weights alone": (A, {**A, "model_checksum": "9c02bbbb"}),
    "the first digits of the weights agree": (A, {**A, "model_checksum": "3fa1bbbb"}),
    "family of unknown weights": ({**UNKNOWN, "model_family": "qwen2"}, {**UNKNOWN, "model_family": "gemma"}),
    "size of unknown weights": ({**UNKNOWN, "model_parameters": 5}, {**UNKNOWN, "model_parameters": 6}),
    "size in an old record": ({**UNKNOWN, "parameters": 5}, {**UNKNOWN, "parameters": 6}),
    "what trains, in an old record": ({**UNKNOWN, "base_checksum": "a"}, {**UNKNOWN, "base_checksum": "b"}),
    "tokenizer": (A, {**A, "tokenizer_hash": "bbbb"}),
    "known and unknown": (A, UNKNOWN),
    "known by other trained weights": ({**A, "base_checksum": "a"}, {**UNKNOWN, "base_checksum": "b"}),
}
ONE_MODEL = {
    "the same": (A, A),
    "unknown": (UNKNOWN, UNKNOWN),
    "unknown family and tokenizer": (A, {**A, "model_family": None, "tokenizer_hash": None}),
    "known by what trains": ({**A, "base_checksum": "a"}, {**UNKNOWN, "base_checksum": "a"}),
    "adapters that an older version counted in": tuple(
        {**UNKNOWN, "model_checksum": name, "base_checksum": name, "parameters": 5, "tuning": "lora"} for name in "ab"
    ),
}


def write_two(folder, one, other, methods=("mezo",), **values):
    """A run of each method with seed 0 of one, and with seed 1 of the other."""
    for method, (seed, known) in itertools.product(methods, enumerate((one, other))):
        write_run(folder, method, seed, **({"model": "llama"} | values | known), test=0.6 + seed / 5)
    return folder


READERS = {
    "comparison": report.comparison, "tables": report.tables, "grid": report.grid, "page": report.page,
    "curves": lambda frame: report.draw_curves(frame, "never.png"),
    "lens": lambda frame: report.draw_lens(frame, "never.png"),
    "pareto": lambda frame: report.draw_pareto(frame, "never.png"),
    "times": lambda frame: report.draw_times(frame, "never.png"),
    "heatmap": lambda frame: report.draw_heatmap(frame, "never.png"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_two_models_of_one_name_are_refused_and_told_apart(tmp_path, kind):
    frame = report.load(write_two(tmp_path, *OTHER_MODELS[kind], methods=("mezo", "kerzoo")))
    for read in READERS.values():
        with pytest.raises(Mixed, match=r"differ in model \(llama \[.*in 2 runs, llama \[.*in 2 runs\)"):
            read(frame)
    apart = report.tables(frame, columns=["model"])[0]
    assert len(apart.cells()[0]) == 3
    assert (apart.frame["runs"] == 1).all()
    assert any(note.startswith("llama is not one model here") for note in apart.notes)
    mixed = report.comparison(frame, allow_mixed=True)
    assert len(mixed.frame) == 4
    assert (mixed.frame["runs"] == 1).all()
    assert mixed.frame["delta"].isna().all()


@pytest.mark.parametrize("kind", ONE_MODEL)
def test_one_model_is_pooled_under_its_plain_name(tmp_path, kind):
    frame = report.load(write_two(tmp_path, *ONE_MODEL[kind]))
    table = report.comparison(frame)
    assert list(table.frame["runs"]) == [2]
    assert any(note.startswith("sst2, llama, ") for note in table.notes)
    said = [note for note in table.notes if "is unknown in 1 run of an older version" in note]
    assert bool(said) == (kind in ("unknown family and tokenizer", "known by what trains"))


def test_a_label_tells_family_size_and_digits(tmp_path):
    frame = report.load(write_two(tmp_path, A, B))
    with pytest.raises(Mixed, match="--where model_checksum=3fa1aaaa") as refused:
        report.comparison(frame)
    assert "llama [qwen2 0.5B 3fa1] in 1 run" in str(refused.value)
    assert main([str(tmp_path), "--where", "model_checksum=3fa1aaaa"]) == 0


def test_a_refusal_of_runs_that_differ_in_several_ways_names_conditions_that_work(tmp_path, capsys):
    for seed in range(3):
        write_run(tmp_path, "mezo", seed, forwards=600, steps=300)
        write_run(tmp_path, "loren", seed, forwards=598, steps=100)
    write_run(tmp_path, "mezo", 0, model="tuned", forwards=0, steps=0, trains=False)
    write_run(tmp_path, "pgap", 0, forwards=3000, steps=1500)
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "they differ in model (" in said
    assert "; forwards (" in said
    words = shlex.split(re.search(r"such as by (.*?), and make", said)[1])
    assert len(words) == 4
    assert main([str(tmp_path), *words]) == 0
    table = capsys.readouterr().out
    assert "loren" in table
    assert "tuned" not in table


def test_a_rate_is_chosen_among_runs_of_one_model(tmp_path):
    """The rate that is best by the other model's dev values is not chosen for this one."""
    for known, rate, dev in ((A, 1e-3, 0.9), (A, 1e-2, 0.6), (B, 1e-3, 0.5), (B, 1e-2, 0.8)):
        write_run(tmp_path, "mezo", 0, **known, **{"method.lr": rate}, dev=(dev,), model="llama")
    frame = report.tables(report.load(tmp_path), columns=["model"])[0].frame
    assert sorted(frame["method.lr"]) == [1e-3, 1e-2]


def test_precisions_of_one_model_are_told_apart_by_dtype_alone(tmp_path):
    for dtype, seed in itertools.product(("float32", "bfloat16"), (0, 1)):
        known = {**A, "model_checksum": f"of {dtype}", "dtype": dtype}
        write_run(tmp_path, "mezo", seed, model="llama", **known, test=0.6 + seed / 100)
    table = report.tables(report.load(tmp_path), columns=["dtype"])[0]
    assert table.cells()[0] == ["method", "bfloat16", "float32"]
    assert list(table.frame["runs"]) == [2, 2]
    assert not any("[" in note for note in table.notes if "model" in note)


@pytest.mark.parametrize(
    ("other", "one"),
    [({}, True), ({"tokenizer_hash": "bbbb"}, False), ({"zero_shot/dev/loss": 0.9}, False)],
)
def test_the_same_weights_under_two_names_are_one_model_if_they_do_the_same(tmp_path, other, one):
    write_run(tmp_path, "mezo", 0, model="llama", **A)
    write_run(tmp_path, "kerzoo", 0, **{"model": "mine", **A, **other})
    frame = report.load(tmp_path)
    if one:
        notes = report.comparison(frame).notes
        assert "llama and mine have the same weights (3fa1) and are one model here, llama" in notes
    else:
        with pytest.raises(Mixed, match=r"differ in model \((llama in 1 run, mine|mine in 1 run, llama) in 1 run\)"):
            report.comparison(frame)


@pytest.mark.parametrize("column", ["rows_hash", "prompt_hash"])
def test_other_data_are_refused_and_labelled(tmp_path, column):
    """One seed and two rates: the better rate may not be that of other rows."""
    write_run(tmp_path, "mezo", 0, **({"prompt_hash": "p"} | {column: "aaaaaaaa"}))
    write_run(tmp_path, "mezo", 0, **({"prompt_hash": "p"} | {column: "bbbbbbbb", "method.lr": 1e-2}))
    frame = report.load(tmp_path)
    said = {"rows_hash": "rows", "prompt_hash": "prompts"}[column]
    with pytest.raises(Mixed, match=rf"{said} of data_seed=0 \(aaaaaaaa in 1 run, bbbbbbbb in 1 run\)"):
        report.comparison(frame)
    rows = report.comparison(frame, allow_mixed=True).frame
    assert list(rows["runs"]) == [1, 1]
    assert rows["row"].str.contains("data=").all()


def test_folders_that_no_seed_compares_are_named(tmp_path):
    write_run(tmp_path, "mezo", 0, data="local", **{"data.dir": "/a"})
    write_run(tmp_path, "mezo", 1, data="local", **{"data.dir": "/b"})
    assert any("rows from /a, /b" in note for note in report.comparison(report.load(tmp_path)).notes)
    write_run(tmp_path, "kerzoo", 0, data="local", **{"data.dir": "/b"})  # whose rows are those of /a with seed 0
    assert not any("rows from" in note for note in report.comparison(report.load(tmp_path)).notes)


AT_PAPER = {"model": "opt-2.7b", "task": "wsc", "data": "hub", "test/n": 10_000}
SIZE = facts()["opt-2.7b"]["parameters"]


@pytest.mark.parametrize(
    ("known", "at_paper"),
    [
        ({"model_family": "opt", "model_parameters": SIZE}, True),
        ({"model_family": "opt", "model_parameters": SIZE, "model": "mine"}, True),
        ({"model_family": None, "parameters": SIZE}, True),
        ({"model_family": None, "parameters": SIZE, "model": "mine"}, False),
        ({"model_family": "llama", "model_parameters": SIZE}, False),
        ({"model_family": "opt", "model_parameters": 263808}, False),
        ({"model_family": None, "parameters": 263808}, False),
        ({"model_family": None, "parameters": None}, False),
    ],
)
def test_a_papers_settings_are_those_of_its_models_family_and_size(tmp_path, capsys, known, at_paper):
    for seed, (method, test) in itertools.product(range(3), (("mezo", 0.6), ("kerzoo", 0.63))):
        write_run(tmp_path, method, seed, test=test + seed / 1000, **(AT_PAPER | known))
    found = report.verdicts(report.load(tmp_path))
    row = found[found["claim"].eq("kerzoo-accuracy-wsc")].iloc[0]
    assert bool(row["at_paper"]) == at_paper
    assert row["claim_verdict"] == ("supported" if at_paper else "not tested")
    beside = report.beside(report.load(tmp_path)).frame
    mezo = beside[beside["method"].eq("mezo") & beside["metric"].eq("accuracy")]
    assert mezo["published"].notna().any() == at_paper
    if not at_paper and "model" not in known:
        assert mezo["differs"].str.startswith("model=opt-2.7b").all()
        assert main([str(tmp_path), "--claims"]) == 0
        assert "at our scale (opt-2.7b (model=opt-2.7b" in capsys.readouterr().out


def test_models_of_one_size_are_told_apart_by_their_option(tmp_path):
    found = {name: paper_model(Model(name, "llama", 6738415616, "w", True, None)) for name in ("llama", "vicuna-7b")}
    assert found == {"llama": ("llama", ""), "vicuna-7b": ("vicuna-7b", "")}
    name, why = paper_model(Model("mine", "llama", 6738415616, "w", True, None))
    assert (name, "may be any of llama" in why) == ("", True)


def test_the_papers_models_are_those_of_the_shipped_options():
    from zobench.config.folders import conf_dir
    from zobench.config.options import load_yaml

    shipped = {path.stem: load_yaml(path) for path in (conf_dir() / "model").glob("*.yaml")}
    shipped = {name: each for name, each in shipped.items() if name not in ("local", "hub")}
    on_hub = {name: each for name, each in shipped.items() if not each.get("id", "zobench/").startswith("zobench/")}
    counts = {name: each["parameters"] for name, each in on_hub.items() if name in facts()}
    assert len(counts) >= 8
    assert counts == {name: facts()[name]["parameters"] for name in counts}
    assert all(isinstance(each["parameters"], int | float) and each["family"] for each in facts().values())


@pytest.mark.parametrize("name", ["curves", "lens", "pareto", "times", "grid"])
def test_what_is_mixed_on_request_is_drawn_and_labelled(tmp_path, capsys, name):
    runs = write_two(tmp_path / "runs", A, B)
    for path in runs.glob("*/metrics.jsonl"):
        with path.open("a") as file:
            file.write(json.dumps({"step": 0, "forwards": 0, "lens/cosine": 0.1}) + "\n")
    drawn = tmp_path / ("out.md" if name == "grid" else "out.svg")
    assert main([str(runs), f"--{name}", str(drawn)]) == 1
    assert "--allow-mixed" in capsys.readouterr().err
    assert main([str(runs), f"--{name}", str(drawn), "--allow-mixed"]) == 0
    assert "MIXED, not a comparison" in drawn.read_text()
    assert "qwen2 0.5B" in drawn.read_text()
