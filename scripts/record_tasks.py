"""Write docs/tasks.md: of each task a prompt of a real row, options, sizes and what differs from its source.

    python scripts/record_tasks.py DATA

DATA holds real rows in the hub's layout, DATA/<task>/train.parquet and validation.parquet. Of a task that it lacks an
invented row is shown.
"""

import argparse
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.options import describe, load_yaml
from zobench.data import files
from zobench.system.markdown import pipe_table
from zobench.tasks.base import Row, Task

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tasks.md"
SUITE = ("sst2", "rte", "cb", "boolq", "wsc", "wic", "multirc", "copa", "record", "squad", "drop")
SENTENCES = ("sst5", "trec", "subj", "mr", "cr")
#: a row is shown whose prompt has at most so many characters, where there is one
SHORT = 500
#: where a task differs from its source; the source of a task that is not named here is followed to the letter
DIFFERENCES = {
    "cb": "`clean` takes fewer rows than the 2023 code asks for, which are what that code gets.",
    "boolq": "The 2023 code reads the data set `boolq` of the hub; here it is SuperGLUE's edition of the same "
    "questions, whose rows may be in another order. `mezo_exact` then draws other rows than that code.",
    "wsc": "`clean` holds 100 rows for dev; the 2023 code holds 500, which leaves 54 to train on (`mezo_exact`).",
    "multirc": "As in the 2023 code each answer is a row of its own: accuracy per answer, neither F1 over answers nor "
    "exact match per question.",
    "copa": "`clean` asks for the 300 rows that the 2023 code gets.",
    "record": "As in the 2023 code the first right name is learned, and each of the right ones counts. Names that an "
    "entity list has twice are options once.",
    "squad": "Exact match is reported beside F1.",
    "drop": "Exact match is reported beside F1. F1 is SQuAD's, as in the 2023 code, not DROP's own over sets of spans.",
    "sst5": "A masked model fills `{text} It was [MASK].`; here the word comes last, and its full stop is gone.",
    "trec": "A masked model fills `[MASK]: {text}`; a causal model would choose before it has read, so the word comes "
    "last, after `Type:`, which are our words.",
    "subj": "A masked model fills `{text} This is [MASK].`; here the word comes last, and its full stop is gone. "
    "Labels are numbered as on the hub, the other way round than in LM-BFF.",
    "mr": "As `sst5`. The hub's test split is another than LM-BFF's 2,000 rows.",
    "cr": "As `sst5`. The hub's test split is another than LM-BFF's 2,000 rows.",
}
INVENTED: dict[str, Row] = {
    "record": {
        "passage": "The ferry to Lomma has a new owner.\n@highlight\nOda Berg bought it in May\n@highlight\nIt will be "
        "painted red",
        "query": "@placeholder wants to paint the ferry before winter",
        "entities": ["Lomma", "Oda Berg", "Berg"], "answers": ["Oda Berg", "Berg"],
    },
    "drop": {
        "passage": "The ferry left twice on Monday and five times on Saturday.",
        "question": "How many more times did the ferry leave on Saturday than on Monday?",
        "answers_spans": {"spans": ["3"], "types": ["number"]},
    },
}  # fmt: skip
INTRODUCTION = """# Tasks

The eleven tasks of the MeZO suite and five more with short sentences and large test sets. Data of your own:
[own-data.md](own-data.md). Which of them can tell methods apart depends on the model: compare each result with the
majority class.

Prompts, options, losses and draws of the suite are those of princeton-nlp/MeZO @552cb1b, `large_models`
(arXiv:2305.17333); label words of the other five those of LM-BFF (arXiv:2012.15723) as that repository's RoBERTa runs
use them (`medium_models/run_fewshot.sh`), which cut a sentence after 110 tokens, as is not done here. For the suite,
1,000 rows train, 500 choose the weights (dev) and at most 1,000 of the public validation file test; for the others the
hub's test split tests, and training takes 1,000 rows rather than 16 or 512 of each class. Rows of train/dev/test in the
tables are those that the hub's files give; the test files that rows are shown of hold other rows of `mr`, `cr` and
`subj`, which have no official division.

*Classification* is cross-entropy over the options, *lm* over the tokens of the right answer alone. Either way options
are compared by the mean log-probability of their tokens, and tasks without options generate. White space before a
prompt, and spaces after it and after its option, are stripped before they are tokenised, newlines after it are not;
below, `\\n` and `␣` stand for those at a prompt's end, and the right option is bold. Made by
`scripts/record_tasks.py`."""


def task_of(name: str) -> Task:
    """The task as its file has it."""
    made = instantiate.build(dict(load_yaml(conf_dir() / "task" / f"{name}.yaml")), "task")
    assert isinstance(made, Task)
    return made


def drawn(task: Task, protocol: str) -> str:
    """How many rows of the hub's files train, dev and test get."""
    sizes: Any = task.splits[protocol]
    train_file, test_file = task.rows.values()
    assert train_file
    assert test_file
    return f"{min(sizes['train'], train_file - sizes['dev'])}/{sizes['dev']}/{min(sizes['test'], test_file)}"


def table(names: tuple[str, ...]) -> str:
    """What is known without a row."""
    heads = ["task", "hub", "loss", "metric", "`clean`", "`mezo_exact`"]
    lines = [heads]
    for name in names:
        task = task_of(name)
        hub = " ".join(filter(None, (task.hub, task.subset)))
        lines.append([f"`{name}`", hub, task.loss, task.metric, drawn(task, "clean"), drawn(task, "mezo_exact")])
    return pipe_table(lines)


def section(name: str, data: Path) -> str:
    """A task's prompt and options, what its test file's majority class gives, and its differences."""
    task, path = task_of(name), data / name / "validation.parquet"
    if path.is_file():
        rows = files.read(path)
        examples = [task.example(i, row) for i, row in enumerate(rows.take(task.columns))]
        shown = next((e for e in examples if len(e.prompt) <= SHORT), examples[0])
        says = f"Row {shown.index} of the test file:"
    else:
        examples, shown = [], task.example(0, INVENTED[name])
        says = "An invented row:"
    prompt = shown.prompt.rstrip(" \n")
    prompt += shown.prompt[len(prompt) :].replace("\n", r"\n").replace(" ", "␣")
    right = shown.right or (shown.gold,)
    options = ", ".join(
        f"**`{option!r}`**" if place in right else f"`{option!r}`" for place, option in enumerate(shown.options)
    )
    parts = [f"## {name}", describe(conf_dir() / "task" / f"{name}.yaml") + ".", says, f"```text\n{prompt}\n```"]
    answers = ", ".join(f"`{answer!r}`" for answer in dict.fromkeys(shown.answers))
    parts.append(f"Learned: {options}; right: {answers}." if task.generates else f"Options: {options}.")
    if examples and not task.generates:
        most = max(Counter(e.gold for e in examples).values()) / len(examples)
        parts.append(f"The most frequent answer is right in {most:.1%} of {len(examples):,} test rows.")
    if name in DIFFERENCES:
        parts.append(textwrap.fill(DIFFERENCES[name], 120))
    return "\n\n".join(parts)


def page(data: Path) -> str:
    """The whole text."""
    tables = ["The suite:", table(SUITE), "The five others:", table(SENTENCES)]
    return "\n\n".join([INTRODUCTION, *tables, *(section(name, data) for name in (*SUITE, *SENTENCES))]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write docs/tasks.md.")
    parser.add_argument("data", type=Path, help="a folder with real rows in the hub's layout")
    PAGE.write_text(page(parser.parse_args().data), encoding="utf-8")
