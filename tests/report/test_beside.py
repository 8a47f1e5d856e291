"""Ours beside the published numbers: what is paired, what is said to differ, and that unlike runs are never paired."""

import re

import pytest
from helpers.methods import METHODS, node_of
from helpers.written import write_run

from zobench import report
from zobench.errors import UserError
from zobench.report.__main__ import main
from zobench.report.papers.names import known_as


@pytest.fixture
def record(tmp_path):
    """Writes a run of MeZO, of other values than usual: the folder."""

    def write(seed=0, **values):
        write_run(tmp_path / "runs", values.pop("method", "mezo"), seed, train_examples=4, **values)
        return tmp_path / "runs"

    return write


AT_PAPER = {"model": "opt-13b", "task": "rte", "data": "hub", "protocol": "mezo_exact", "dtype": "float16",
            "selection": "lowest dev loss"}  # fmt: skip


def test_ours_beside_the_papers(record, capsys):
    for seed in (0, 1):
        values = {"test": 0.6 + seed / 10, "forwards": 40000, "steps": 20000, "method.eps": 1e-3}
        runs = record(seed, **AT_PAPER, **values)
    record()
    table = report.beside(report.load(runs))
    found = table.frame[table.frame["where"].eq("arXiv:2305.17333, Table 1")].iloc[0]
    assert (found["ours"], found["published"], found["runs"]) == (pytest.approx(65), 66.1, 2)
    assert found["difference"] == pytest.approx(-1.1)
    assert found["ours_std"] == pytest.approx(50**0.5)
    assert "batch_size: 16 there, 8 here" in found["differs"]
    assert "train_examples: 1000 there, 4 here" in found["differs"]
    assert "best of the learning-rate grid" in found["differs"]
    for same in ("protocol", "dtype:", "forwards", "method.eps", "selection:"):
        assert same not in found["differs"].split("there: ")[0], same
    again = table.frame[table.frame["where"].eq("github.com/EkkoXy/AIM-ZO, Table 1")].iloc[0]
    assert (again["published"], again["deviation"], again["source"]) == (67.36, 1.54, "authors")
    assert "dtype: bfloat16 there, float16 here" in again["differs"]
    assert "n_seeds: 3 there, 2 here" in again["differs"]
    assert main([str(runs), "--beside"]) == 0
    said = capsys.readouterr().out
    assert said == table.markdown() + "\n"
    assert re.search(r"\| +65 ± 7.1 \| +67.36 ± 1.5 \| +-2.4 \| +github.com/EkkoXy/AIM-ZO, Table 1 \|", said)


def test_memory_is_compared_in_the_papers_unit(record):
    runs = record(**{**AT_PAPER, "task": "multirc", "peak_gib": 20.0})
    found = report.beside(report.load(runs)).frame
    found = found[found["where"].eq("arXiv:2305.17333, Table 22")].iloc[0]
    assert (found["published"], found["unit"], found["ours"]) == (26, "GB", pytest.approx(21.47, abs=0.01))
    assert "batch_size: 1 there, 8 here" in found["differs"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model": "smollm2", "tuning": "last_layers"}, "no published number of mezo for model smollm2"),
        ({"tuning": "last_layers"}, "for tuning last_layers; there are some for full, lora, prefix"),
        ({"data": "mini"}, "data=mini is not the data of the papers"),
        ({"method": "mine"}, "no published accuracy of mine"),
        ({"method": "pgap", "method.basis": "random"}, "no published accuracy of pgap_random"),
        ({"method": "lozo", "method.interval": 1}, "no published accuracy of lozo_interval_1"),
        ({"method.rule": "jaguar"}, "no published accuracy of mezo with jaguar"),
        ({"method": "kerzoo"}, "no published accuracy of kerzoo"),  # its table's cells were not found
    ],
)
def test_unlike_runs_are_never_set_beside_a_number(record, changed, reason):
    found = report.beside(report.load(record(**{**AT_PAPER, **changed}))).frame
    assert len(found) == 1
    assert found["published"].isna().all()
    assert found["difference"].isna().all()
    assert reason in found["differs"].iloc[0]


@pytest.mark.parametrize(
    ("run", "where", "value"),
    [
        ({"method": "aim_zo"}, "github.com/EkkoXy/AIM-ZO, Table 1", 70.69),
        ({"method": "curvzo", "task": "sst2"}, "github.com/EkkoXy/AIM-ZO, Table 1", 49.39),
        ({"method": "lozo", "method.interval": 100}, "arXiv:2410.07698, Table 2", 70.4),
        ({"method": "lozo", "method.interval": 100}, "arXiv:2605.28760, log in the repository, data seed 42", 47.3),
        ({"method": "fzoo", "task": "squad", "metric": "f1", "model": "llama-3-8b", "model_family": "llama",
          "parameters": 8030261248}, "arXiv:2606.02857, main table", 86.0),
        ({"method": "agzo", "model": "my-qwen3@1f3a9c02", "model_family": "qwen3", "parameters": 8190735360},
         "github.com/EkkoXy/AIM-ZO, Table 2", 86.88),
    ],
)  # fmt: skip
def test_the_newest_cells_are_found_by_method_model_and_task(record, run, where, value):
    found = report.beside(report.load(record(**{**AT_PAPER, "method.rule": "sgd", **run}))).frame
    assert dict(zip(found["where"], found["published"], strict=True))[where] == value


def test_an_untrained_run_is_compared_whatever_its_tuning(record):
    runs = record(**AT_PAPER, method="zeroshot", trains=False, test=0.596)
    found = report.beside(report.load(runs)).frame
    assert dict(zip(found["where"], found["published"], strict=True))["arXiv:2305.17333, Table 1"] == 59.6


def test_runs_that_cannot_share_a_cell_are_refused(record):
    record(0, **AT_PAPER)
    runs = record(1, **AT_PAPER, forwards=400)
    with pytest.raises(UserError, match="differ in forwards"):
        report.beside(report.load(runs))


def test_nothing_finished(record, capsys):
    runs = record(0, state="failed")
    assert main([str(runs), "--beside"]) == 1
    assert "no finished or diverged run" in capsys.readouterr().err
    runs = record(1, state="diverged")
    assert main([str(runs), "--beside"]) == 1
    assert "every run diverged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"method": "mezo", "method.rule": "sgd"}, "mezo"),
        ({"method": "mezo"}, "mezo"),
        ({"method": "mezo", "method.rule": "adam"}, "mezo_adam"),
        ({"method": "loren", "method.rule": "momentum", "method.variant": "official"}, "loren"),
        ({"method": "loren", "method.rule": "sgd"}, "loren with sgd"),
        ({"method": "loren", "method.rule": "momentum", "method.variant": "iso_rloo"}, "iso_rloo"),
        ({"method": "ldsd", "method.rule": "jaguar"}, "ldsd_jaguar"),
        ({"method": "ldsd", "method.rule": "momentum", "method.lr_mu": 0.0}, "ldsd_no_policy"),
        ({"method": "mezo_adam", "method.rule": "sgd"}, "mezo"),
        ({"method": "mezo_adam", "method.rule": "adam", "method.distribution": "rademacher"}, "mezo_rademacher"),
        ({"method": "mezo", "method.rule": "sign"}, "zo_sgd_sign"),
        ({"method": "curvzo", "method.score_power": None}, "curvzo"),
        ({"method": "curvzo", "method.score_power": 0.0}, "curvzo_uniform"),
    ],
)
def test_what_a_run_is_called(settings, name):
    assert known_as(settings) == name


@pytest.mark.parametrize("method", METHODS)
def test_a_method_as_it_ships_is_called_by_its_name(method):
    node = node_of(method)
    settings = {f"method.{key}": value for key, value in node.items() if key != "rule"}
    if "rule" in node:
        settings["method.rule"] = node["rule"]["_target_"].rpartition(".")[2].lower()
    assert known_as({"method": method, **settings}) == method


def test_a_score_that_was_maximised_is_said_and_one_of_the_users_own_is_beside_nothing(record):
    at_paper = AT_PAPER | {"task": "squad", "metric": "f1", "objective": "metric", "tuning": "prefix"}
    found = report.beside(report.load(record(**at_paper))).frame.set_index("where")
    assert "objective: loss there, metric here" in found.loc["arXiv:2305.17333, Table 1", "differs"]
    trained_alike = found[found.index.str.contains("objective F1")]
    assert len(trained_alike) == 1
    assert not trained_alike["differs"].str.contains("objective").any()
    record(seed=1, **at_paper | {"tuning": "full", "metric": "score", "objective.score": "lab.short"})
    own = report.beside(report.load(record())).frame
    own = own[own["metric"].eq("score")]
    assert own["published"].isna().all()
    assert set(own["differs"]) == {"objective.score=lab.short is no metric of the papers"}
