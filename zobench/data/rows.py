"""Rows: read from the hub or from local files, checked, and drawn as the MeZO suite draws them.

The suite is princeton-nlp/MeZO @552cb1b (arXiv:2305.17333). Train and dev rows come from a data set's train file, test
rows from its validation file: the hub's test files have no labels.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zobench.data import files
from zobench.data.folder import from_folder
from zobench.data.hub import from_hub
from zobench.errors import ConfigError, DataError, shown
from zobench.tasks.base import Example, Task

#: of one text of a row, in characters; a tokenizer takes seconds for a million
_LONGEST_TEXT = 4 * 2**20


@dataclass(frozen=True)
class Splits:
    """The examples of a run.

    Attributes:
        rows_hash: names the drawn rows, 16 hexadecimal digits: equal hashes mean equal data in equal order.
        prompt_hash: names the texts that are made of them: prompts, options, right answers, each once.
    """

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    rows_hash: str
    prompt_hash: str


def load(
    task: Task,
    name: str,
    *,
    directory: str | None,
    splits: str,
    data_seed: int,
    test_seed: int,
    strict: bool,
) -> Splits:
    """Read the rows of a task and draw its splits.

    Train and dev come from the train file: ``permutation(n)[:train+dev]`` of numpy's legacy generator under
    ``data_seed``, the last ``dev`` of it being dev. Test comes from the validation file under ``test_seed``.

    Args:
        name: the task's option name, also its folder in a local directory.
        directory: a local folder; ``mini`` for the files that ship with zobench; None for the hub.
        splits: name of the task's split sizes; test may exceed the file, which then is taken whole.
        data_seed: draws train and dev.
        test_seed: draws test.
        strict: refuse when train + dev exceed the file; else train gets what dev leaves, as in the 2023 code.

    Raises:
        ConfigError: if the task has no such split sizes, or a size is below 1.
        DataError: if files are missing or unreadable, columns missing, labels wrong or rows too few.
    """
    sizes = sizes_of(task, splits)
    tables = from_hub(task, name) if directory is None else from_folder(task, name, directory)
    for split, table in tables.items():
        _check_columns(task, name, split, table)
    pool = _draw(len(tables["train"]), sizes["train"] + sizes["dev"], data_seed)
    n_train = len(pool) - sizes["dev"]
    if n_train < 1 or (strict and n_train < sizes["train"]):
        raise DataError(
            f"task={name}: train={sizes['train']} and dev={sizes['dev']} rows are wanted, the train file has "
            f"{len(tables['train'])}; set smaller sizes: task.splits.{splits}.train and task.splits.{splits}.dev"
        )
    test = _draw(len(tables["validation"]), sizes["test"], test_seed)
    chosen = {"train": pool[:n_train], "dev": pool[n_train:], "test": test}
    examples = {
        key: _examples(task, name, "validation" if key == "test" else "train", tables, index)
        for key, index in chosen.items()
    }
    return Splits(**examples, rows_hash=_hash(examples), prompt_hash=_hash_of_texts(examples))


def sizes_of(task: Task, splits: str) -> Mapping[str, int]:
    """The number of rows of train, dev and test.

    Raises:
        ConfigError: if the task has no such split sizes, or one is below 1.
    """
    if splits not in task.splits:
        raise ConfigError(f"data.splits={splits}: the task has split sizes named {', '.join(task.splits)}")
    for part, size in task.splits[splits].items():
        if size < 1:
            raise ConfigError(f"task.splits.{splits}.{part}={size}: expected an integer of at least 1")
    return task.splits[splits]


def _draw(n: int, k: int, seed: int) -> list[int]:
    """The positions of k of n rows, or of all n if there are fewer."""
    return [int(i) for i in np.random.RandomState(seed).permutation(n)[:k]]


def _hash(examples: Mapping[str, Sequence[Example]]) -> str:
    digest = hashlib.sha256()
    for key in sorted(examples):
        for e in examples[key]:
            digest.update(json.dumps([key, e.prompt, e.options, e.gold, e.answers], ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def _hash_of_texts(examples: Mapping[str, Sequence[Example]]) -> str:
    texts = {json.dumps([e.prompt, e.options, e.gold, e.answers]) for part in examples.values() for e in part}
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]


def _examples(task: Task, name: str, split: str, tables: Mapping[str, files.Rows], index: list[int]) -> list[Example]:
    examples = []
    for i, row in zip(index, tables[split].take(task.columns, index), strict=True):
        problem = _bad_text(task, row) or task.problem(row)
        if problem:
            raise DataError(f"task={name}: {split}, row {i}: {problem}")
        examples.append(task.example(i, row))
    return examples


def _bad_text(task: Task, row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row's values, of which those of the columns for text must be text; None if nothing."""
    for column in task.columns:
        value = row[column]
        if value is None:
            return f"{column} is missing"
        if column not in task.not_text and not isinstance(value, str):
            return f"{column} is {shown(repr(value))}, expected text"
        if any("\ud800" <= c <= "\udfff" for text in _texts(value) if not text.isascii() for c in text):
            return f"{column} holds half of a character (a lone surrogate), which is no text"
        if any(len(text) > _LONGEST_TEXT for text in _texts(value)):
            return f"{column} has a text of over {_LONGEST_TEXT:,} characters, which no tokenizer gets through"
    return None


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _check_columns(task: Task, name: str, split: str, table: files.Rows) -> None:
    if len(table) == 0:
        raise DataError(f"task={name}: {split} has no rows ({table.path})")
    missing = [c for c in task.columns if c not in table.names]
    if missing:
        raise DataError(
            f"task={name}: {split} has no column {', '.join(missing)}; found {shown(', '.join(table.names), 200)}, "
            f"expected {', '.join(task.columns)}"
        )
    twice = [c for c in task.columns if list(table.names).count(c) > 1]
    if twice:
        raise DataError(f"task={name}: {split} has the column {twice[0]} twice; keep the one that counts")
