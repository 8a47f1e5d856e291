"""``export --lm-eval``: its rows, put through the harness's own way to tokenise and score, give the run's numbers."""

import json
import re
import shutil
from contextlib import chdir
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from helpers.commands import command
from helpers.modules import module_of
from helpers.own import TASK, tickets, write_model, write_task
from helpers.tiny_runs import TINY

from zobench import export
from zobench.errors import DataError
from zobench.models.tiny import tiny_tokenizer
from zobench.objective import Encoder
from zobench.run.lm_eval_rows import HarnessRows
from zobench.tasks.copa import COPA
from zobench.tasks.record import ReCoRD
from zobench.tasks.template import TemplateTask

RUNS = {
    "rte": (*TINY, "task=rte"),  # its prompt ends with a newline
    "squad": (*TINY, "task=squad"),
    "own": (
        "--config-dir", "cfg", "task=my_tickets", "model=qwen3-0.6b", "model.dir=my-qwen2",
        "tuning=lora", "method.lr=1e-2", "wandb=disabled", "threads=1",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A folder with the runs, and ``ex-NAME``, what was exported of each."""
    folder = tmp_path_factory.mktemp("user")
    write_task(folder, tickets(60), f"{TASK}metric: macro_f1\n")
    write_model(folder / "my-qwen2")
    with chdir(folder):
        for name, words in RUNS.items():
            found = command("zobench", *words, "steps=2", f"out={name}", cwd=folder)
            assert found.returncode == 0, found.stderr
            assert export.main([f"runs/{name}", f"ex-{name}", "--lm-eval"]) == 0
    return folder


class Loader(yaml.SafeLoader):
    """Reads ``!function utils.name`` as its name."""


Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def exported(folder, name):
    """The task's settings, its rows and the module that scores them."""
    (file,) = (folder / f"ex-{name}" / "lm-eval").glob("*.yaml")
    task = yaml.load(file.read_text(encoding="utf-8"), Loader)
    utils = module_of(file.with_name("utils.py"))
    rows = [json.loads(line) for line in file.with_name("test.jsonl").read_text(encoding="utf-8").splitlines()]
    return task, rows, utils


def stored(folder, name):
    """The run's test predictions, and its row."""
    run = folder / "runs" / name
    rows = [each for each in pq.read_table(run / "predictions.parquet").to_pylist() if each["split"] == "test"]
    return rows, json.loads((run / "summary.json").read_text())


def pair(tokenizer, context, continuation):
    """Ids and how many are scored: white space at the context's end goes over, the whole is tokenised (lm-eval 0.4)."""
    kept = context.rstrip()
    known, whole = (tokenizer(text, add_special_tokens=False)["input_ids"]
                    for text in (kept, kept + context[len(kept) :] + continuation))  # fmt: skip
    return known + whole[len(known) :], len(whole) - len(known)


def summed(model, tokenizer, context, continuation):
    """The harness's result for a continuation: its summed log-probability, and whether it is the greedy one."""
    ids, count = pair(tokenizer, context, continuation)
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logs[i - 1, ids[i]]) for i in range(len(ids) - count, len(ids))), False


@pytest.mark.parametrize("name", ["rte", "own"])
def test_the_rows_and_the_code_beside_an_export_give_the_runs_choices_and_its_metric(user, name):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(user / f"ex-{name}")
    tokenizer = AutoTokenizer.from_pretrained(user / f"ex-{name}")
    task, rows, utils = exported(user, name)
    (ours, summary), added = stored(user, name), []
    assert [row["index"] for row in rows] == [each["index"] for each in ours]
    for row, each in zip(rows, ours, strict=True):
        results = [summed(model, tokenizer, row[task["doc_to_text"]], choice) for choice in row[task["doc_to_choice"]]]
        assert utils.chosen(row, results) == int(each["prediction"])
        sums = [value for value, _ in results]
        before = sums.pop() if name == "rte" else 0.0
        means = [(value - before) / length for value, length in zip(sums, row["lengths"], strict=True)]
        assert means == pytest.approx(each["scores"], abs=1e-4)
        added.append(getattr(utils, task["process_results"].removeprefix("utils."))(row, results))
    by = {each["metric"]: each["aggregation"] for each in task["metric_list"]}
    assert {*added[0]} == {*by}
    for metric in {"accuracy", summary["metric"]}:
        values = [each[metric] for each in added]
        found = sum(values) / len(values) if by[metric] == "mean" else getattr(utils, by[metric][6:])(values)
        assert found == pytest.approx(summary[f"test/{metric}"])


def test_answers_are_scored_as_the_run_scores_them(user):
    task, rows, utils = exported(user, "squad")
    ours, _ = stored(user, "squad")
    assert task["generation_kwargs"]["max_gen_toks"] == 50
    for row, each in zip(rows, ours, strict=True):
        assert row["context"].startswith("</s>Title: ")
        assert row["context"].endswith("\nAnswer:")
        found = utils.answer(row, [f" {each['prediction']}\nmore"])
        assert found == {"f1": each["score"], "exact_match": each["exact_match"]}
        assert utils.answer(row, [f"{row['answers'][-1]}\n"])["exact_match"] == 1.0


def test_the_folder_needs_nothing_of_zobench_and_says_the_command(user):
    for name in RUNS:
        folder = user / f"ex-{name}" / "lm-eval"
        assert re.findall(r"^ *(?:import|from) zobench", (folder / "utils.py").read_text(), re.M) == []
        assert str(user) not in "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
        text = (folder / "README.md").read_text()
        assert "lm_eval --model hf --model_args pretrained=.,dtype=float32,add_bos_token=False,max_length=" in text


def test_an_adapter_is_evaluated_on_the_model_that_it_was_trained_on(user):
    with chdir(user):
        assert export.main(["runs/own", "adapter", "--adapter", "--lm-eval"]) == 0
    base = user / "my-qwen2"
    text = (user / "adapter" / "lm-eval" / "README.md").read_text()
    assert f"pretrained={base},tokenizer={base},peft=.," in text


def test_rows_that_are_not_the_runs_are_refused_before_anything_is_written(user, capsys):
    table = user / "tickets.csv"
    kept = shutil.copy(table, user / "kept.csv")
    table.write_text(table.read_text().replace("twice", "thrice"))
    with chdir(user):
        assert export.main(["runs/own", "other", "--lm-eval"]) == 1
    shutil.move(kept, table)
    said = capsys.readouterr().err
    assert said.startswith("zobench.export: --lm-eval: the rows are not those of the run")
    assert said.count("\n") == 1
    assert not (user / "other").exists()


def harness_rows(task, rows, tokenizer=None, start="<s>", max_length=64):
    tokenizer = tokenizer or tiny_tokenizer()
    encoder = Encoder(tokenizer, start=tokenizer.convert_tokens_to_ids(start) if start else None, max_length=max_length)
    encoded = encoder.encode(task, [task.example(i, row) for i, row in enumerate(rows)])
    return HarnessRows(encoder, start).of(task, encoded), encoded, tokenizer


def check(found, encoded, tokenizer):
    """The harness runs a row's tokens and scores those of its options, beside those that all options share."""
    for row, e in zip(found, encoded, strict=True):
        asked = [pair(tokenizer, row["context"], choice) for choice in row["choices"]]
        shared = asked[len(e.rows)][1] if len(asked) > len(e.rows) else 0
        assert [tuple(ids) for ids, _ in asked[: len(e.rows)]] == [each.ids for each in e.rows]
        assert [count - shared for _, count in asked[: len(e.rows)]] == row["lengths"]


YES = ["No", "Yes"]


@pytest.mark.parametrize("start", ["<s>", None])
@pytest.mark.parametrize(
    ("task", "row", "context", "right"),
    [
        (TemplateTask(prompt="{text} It was", options=[" bad", " great fun"]), {"text": " A film.  ", "label": 1},
         "A film.   It was", [1]),
        (TemplateTask(prompt="{text} Is it so?\n", options=YES), {"text": "A film.", "label": 0}, "A film. Is it so?",
         [0]),
        (COPA(), {"premise": "It rained.", "choice1": "The street got wet.", "choice2": "I slept.",
                  "question": "effect", "label": 0}, "It rained so", [0]),
        (ReCoRD(), {"passage": "Ann met Bob.\n@highlight\nThey ate", "query": "@placeholder was hungry",
                    "entities": ["Ann", "Bob", "Cid"], "answers": ["Bob", "Ann"]},
         "Ann met Bob.\n- They ate\n-", [0, 1]),
    ],
)  # fmt: skip
def test_every_kind_of_task_is_asked_in_the_runs_tokens(task, row, context, right, start):
    found, encoded, tokenizer = harness_rows(task, [row], start=start)
    check(found, encoded, tokenizer)
    assert (found[0]["context"], found[0]["right"]) == ((start or "") + context, right)


def test_a_newline_that_joins_the_token_before_it_takes_its_word_along():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens("?\n")
    task = TemplateTask(prompt="{text} Is it so?\n", options=YES)
    found, encoded, _ = harness_rows(task, [{"text": "A film.", "label": 0}], tokenizer)
    check(found, encoded, tokenizer)
    assert (found[0]["context"], found[0]["choices"][-1]) == ("<s>A film. Is it", " so?\n")


def test_a_prompt_that_was_cut_is_asked_from_where_it_begins():
    task = TemplateTask(prompt="{text} It was", options=[" bad", " good"])
    found, encoded, tokenizer = harness_rows(task, [{"text": "a long film " * 20, "label": 1}], max_length=24)
    assert encoded[0].truncated
    check(found, encoded, tokenizer)


def test_tokens_that_no_text_gives_are_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(".N")
    with pytest.raises(DataError, match="row 0: no texts give lm-evaluation-harness its tokens"):
        harness_rows(TemplateTask(prompt="{text}", options=YES), [{"text": "film.", "label": 0}], tokenizer)


def test_the_code_in_the_repository_is_what_is_written(user):
    from zobench.objective import metrics

    text = (user / "ex-own" / "lm-eval" / "utils.py").read_text(encoding="utf-8")
    assert text.startswith(Path(metrics.__file__).read_text(encoding="utf-8"))
