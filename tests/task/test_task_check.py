"""``python -m zobench.task check``: what it prints, for machines too, and what it needs."""

import json
import shutil

import pytest
from helpers.commands import command
from helpers.own import TASK, tickets, write_model, write_task

CHECK = ("check", "my_tickets", "--config-dir", "cfg", "model=tiny-opt")


def checked(folder, *arguments):
    """The page without what its tables fill up with; the error if there is one."""
    found = command("zobench.task", *CHECK, *arguments, cwd=folder)
    lines = [line.rstrip() for line in (found.stdout + found.stderr).splitlines()]
    return found.returncode, "\n".join(lines)


def warnings(folder, *arguments):
    code, page = checked(folder, *arguments)
    assert code == 0, page
    return page[page.rindex("warning") - 2 :]


PAGE = """\
my_tickets: tokens by the tokenizer of model=tiny-opt, start token </s>

train, row 24 (from 0): 42 tokens with the longest option
    Invoice question
    I was charged 5409 euros twice.
    This ticket goes to

      option         tokens
 ────────────────────────────────────────────
  *   ' billing'          3   Ġb ill ing
      ' technical'        5   Ġte ch n ic al
      ' sales'            3   Ġs ale s


train, row 172 (from 0): 39 tokens with the longest option
    It crashes
    Error 9335 comes up when I save.
    This ticket goes to

      option         tokens
 ────────────────────────────────────────────
      ' billing'          3   Ġb ill ing
  *   ' technical'        5   Ġte ch n ic al
      ' sales'            3   Ġs ale s


train, row 152 (from 0): 41 tokens with the longest option
    A quote please
    We are 8916 people and need a price.
    This ticket goes to

      option         tokens
 ────────────────────────────────────────────
      ' billing'          3   Ġb ill ing
      ' technical'        5   Ġte ch n ic al
  *   ' sales'            3   Ġs ale s


                                 train        dev       test
 ────────────────────────────────────────────────────────────
  rows                             420         60        120
  of a file of                     600        600        600
  ' billing'                 139 (33%)   23 (38%)   38 (32%)
  ' technical'               135 (32%)   20 (33%)   45 (38%)
  ' sales'                   146 (35%)   17 (28%)   37 (31%)
  tokens, median                    41         41         41
  tokens, 95 %                      42         42         42
  tokens, longest                   42         42         42
  longer than 2048                   0          0          0
  repeated prompts                   0          0          0
  prompts in train (exact)                  0 (0)      0 (0)
  prompts in dev (exact)                               0 (0)

2 warnings:
- options have 3 to 5 tokens; they are compared by the mean log-probability of
  their tokens, which favours long ones whose ends follow from their beginnings.
  Take label words of one token each where there are such.
- dev has 60 rows, which choose learning rate and checkpoint: one standard error
  of an accuracy of 0.5 is 0.065.
  Give dev more rows, or do not trust what dev prefers by little.
"""


def test_the_page_shows_a_prompt_of_each_class_and_the_splits(tmp_path):
    write_task(tmp_path, tickets(600))
    assert checked(tmp_path) == (0, PAGE.strip("\n"))


JOINS = """\
4 warnings:
- no space between prompt and option in 1800 of 1800 pairs: 'cket goes
  tobilling'.
  Begin the options with a space.
- 'tech desk' is the beginning of 'tech desk of sales': where the model says the
  one, the other may still come.
  Take other label words.
- options have 3 to 9 tokens; they are compared by the mean log-probability of
  their tokens, which favours long ones whose ends follow from their beginnings.
  Take label words of one token each where there are such.
- dev has 60 rows, which choose learning rate and checkpoint: one standard error
  of an accuracy of 0.5 is 0.065.
  Give dev more rows, or do not trust what dev prefers by little.
"""


def test_joins_and_options_that_tokens_do_not_tell_apart(tmp_path):
    options = 'options: {billing: "billing", tech: "tech desk", sales: "tech desk of sales"}'
    write_task(tmp_path, tickets(600), TASK.replace(TASK.splitlines()[2], options))
    assert warnings(tmp_path) == JOINS.strip("\n")


def test_tokens_over_the_prompts_end_and_line_breaks_that_are_none(tmp_path):
    prompt = "prompt: '{subject}\\n{body:strip} It is for th'"
    options = 'options: {billing: "e bank", tech: "e shop", sales: "e sales"}'
    write_task(tmp_path, tickets(60), "\n".join([prompt, options, *TASK.splitlines()[3:]]))
    found = json.loads(command("zobench.task", *CHECK, "--json", cwd=tmp_path).stdout)
    assert {"backslash", "merged"} <= {warning["kind"] for warning in found["warnings"]}


COPIES = """\
6 warnings:
- options have 3 to 5 tokens; they are compared by the mean log-probability of
  their tokens, which favours long ones whose ends follow from their beginnings.
  Take label words of one token each where there are such.
- 29 of 101 test prompts stand in train, 19 of them to the letter.
  Remove copies from the file, or give files of your own split: files: {train:
  ..., test: ...}.
- 10 of 101 test prompts stand in dev, 4 of them to the letter.
  Remove copies from the file, or give files of your own split: files: {train:
  ..., test: ...}.
- 11 of 50 dev prompts stand in train, 7 of them to the letter.
  Remove copies from the file, or give files of your own split: files: {train:
  ..., test: ...}.
- 7 prompts with different labels, such as train, row 448 (' billing') and
  train, row 505 (' sales').
  Keep the right one; a column that tells them apart belongs into the prompt.
- dev has 50 rows, which choose learning rate and checkpoint: one standard error
  of an accuracy of 0.5 is 0.071.
  Give dev more rows, or do not trust what dev prefers by little.
"""


def test_copies_in_other_splits_and_prompts_with_two_labels(tmp_path):
    rows = tickets(400)
    shouted = [(subject.upper(), f"{body}  ", team) for subject, body, team in rows[:40]]
    relabelled = [(subject, body, "sales") for subject, body, team in rows[40:50] if team != "sales"]
    write_task(tmp_path, [*rows, *rows[:60], *shouted, *relabelled])
    assert warnings(tmp_path) == COPIES.strip("\n")


CLASSES = """\
7 warnings:
- options have 3 to 5 tokens; they are compared by the mean log-probability of
  their tokens, which favours long ones whose ends follow from their beginnings.
  Take label words of one token each where there are such.
- no row of train, dev, test has the label of ' sales'.
  Check the label column, take the option away, or set larger task.splits.
- always ' technical' has a test accuracy of 0.900.
  Set metric: macro_f1 or mcc in the task's file.
- 300 of 300 prompts lose tokens at their beginning: the longest has 42,
  model.max_length is 24.
  Raise model.max_length if the model has the positions, or shorten the prompt.
- column subject is empty in 6 of 300 rows.
  Fill it, remove these rows, or leave it out of the prompt.
- dev has 30 rows, which choose learning rate and checkpoint: one standard error
  of an accuracy of 0.5 is 0.091.
  Give dev more rows, or do not trust what dev prefers by little.
- test has 60 rows: one standard error of an accuracy of 0.5 is 0.065.
  Give test more rows, or expect to see large differences alone.
"""


def test_classes_without_rows_empty_columns_cut_prompts_and_a_large_majority(tmp_path):
    rows = [(s, b, "tech" if i % 10 else "billing") for i, (s, b, _) in enumerate(tickets(300))]
    write_task(tmp_path, [("" if i % 50 == 0 else s, b, t) for i, (s, b, t) in enumerate(rows)])
    assert warnings(tmp_path, "model.max_length=24") == CLASSES.strip("\n")


def test_what_would_stop_a_run_is_said_in_the_same_line(tmp_path):
    rows = tickets(60)
    write_task(tmp_path, [*rows[:-1], (*rows[-1][:2], "marketing"), *rows])
    code, page = checked(tmp_path)
    run = command("zobench", *CHECK[2:], "task=my_tickets", "wandb=disabled", cwd=tmp_path)
    assert code == run.returncode == 1
    assert page == f"zobench.task: {run.stderr.strip().removeprefix('zobench: ')}"
    assert page == (
        "zobench.task: task=my_tickets: train, line 61: team is 'marketing', expected one of billing, tech, sales "
        "(task.options); 1 of 24 rows have such labels: marketing (1); add them to task.options, such as marketing: "
        '" marketing", or take these rows out'
    )


def test_json_holds_what_the_page_shows(tmp_path):
    write_task(tmp_path, tickets(60))
    found = json.loads(command("zobench.task", *CHECK, "--json", cwd=tmp_path).stdout)
    assert [prompt["gold"] for prompt in found["prompts"]] == [" billing", " technical", " sales"]
    assert found["splits"]["test"]["rows"] == sum(found["splits"]["test"]["classes"].values()) == 12
    assert [warning["kind"] for warning in found["warnings"]] == [
        "token_counts",
        "absent_class",
        "few_dev_rows",
        "few_test_rows",
    ]


def test_the_tokenizer_is_enough_and_no_weights_are_there(tmp_path):
    write_task(tmp_path, tickets(60))
    write_model(tmp_path / "whole")
    model = shutil.copytree(tmp_path / "whole", tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    code, page = checked(tmp_path, "model=qwen3-0.6b", f"model.dir={model}")
    assert (code, page.splitlines()[0]) == (
        0,
        "my_tickets: tokens by the tokenizer of model=qwen3-0.6b, no start token",
    )


@pytest.mark.parametrize(("task", "arguments"), [("sst2", []), ("squad", ["model.max_length=200"])])
def test_tasks_that_ship_can_be_checked_without_a_choice_of_model(task, arguments, tmp_path):
    found = command("zobench.task", "check", task, "data=mini", *arguments, cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert "takes another's" in " ".join(found.stdout.split())


@pytest.mark.parametrize(
    ("task", "arguments", "said"),
    [
        ("my_ticket", ["--config-dir", "cfg"], "task=my_ticket: no such task; did you mean task=my_tickets?"),
        ("my_tickets", ["--config-dir", "cgf"], "--config-dir cgf: no such folder"),
        ("my_tickets", ["--config-dir", "cfg", "modl=tiny-opt"], "modl=tiny-opt: no such key; did you mean model?"),
        ("my_tickets", ["--config-dir", "cfg", "seed=x"], "seed=x: expected an integer"),
    ],
)
def test_a_wrong_command_is_answered_like_a_runs(task, arguments, said, tmp_path):
    write_task(tmp_path, tickets(60))
    found = command("zobench.task", "check", task, *arguments, cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr.splitlines()[0].startswith(f"zobench.task: {said}")
