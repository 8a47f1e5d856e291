"""Rows: read from the hub or from local files, checked, and drawn as the MeZO suite draws them.

The suite is princeton-nlp/MeZO @552cb1b (arXiv:2305.17333). Train and dev rows come from a data set's train file, test
rows from its validation file: the hub's test files have no labels.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zobench.data import files
from zobench.data.folder import from_files, from_folder
from zobench.data.hub import from_hub
from zobench.data.separated import SEPARATORS
from zobench.errors import ConfigError, DataError, did_you_mean, shown
from zobench.tasks.base import PARTS, Example, Sizes, Task, one_set, value_of

#: rows of dev and test at most, where a task does not give sizes: those of the MeZO suite
MOST_DEV, MOST_TEST = 500, 1000
#: the file of each part, where there is one
_FILE = {"train": "train", "dev": "dev", "test": "validation"}
#: so many rows of one label are no chance
_FEW = 16
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
    ``data_seed``, the last ``dev`` of it being dev. Test comes from the validation file under ``test_seed``; without
    one, it is drawn from the train file first, so that it is the same for all data seeds.

    Args:
        name: the task's option name, also its folder in a local directory.
        directory: a local folder; ``mini`` for the files that ship with zobench; None for the files that the task
            names, or the hub.
        splits: name of the task's split sizes; test may exceed its file, which then is taken whole.
        data_seed: draws train and dev.
        test_seed: draws test.
        strict: refuse when train + dev exceed the file; else train gets what dev leaves, as in the 2023 code.

    Raises:
        ConfigError: if the task has no such split sizes, or a size is below 1.
        DataError: if files are missing or unreadable, columns missing, labels wrong or rows too few, or if all train
            rows have one label.
    """
    sizes = sizes_of(task, splits)
    tables = read(task, name, directory)
    rows = {split: len(table) for split, table in tables.items()}
    where = f"task.splits.{'' if one_set(task.splits) else splits + '.'}"
    try:
        chosen = _drawn(sizes, rows, data_seed, test_seed, strict, where)
    except DataError as error:
        raise DataError(f"task={name}: {error}") from error
    examples = {}
    for part, index in chosen.items():
        split = file_of(part, tables)
        examples[part] = _examples(task, f"task={name}: {_called(split, task, directory)}", tables[split], index)
    _check_classes(name, examples["train"])
    return Splits(**examples, rows_hash=_hash(examples), prompt_hash=_hash_of_texts(examples))


def sizes_of(task: Task, splits: str) -> Sizes | None:
    """The sizes of train, dev and test by the task's own word; None where it says none.

    Raises:
        ConfigError: if the task has no such split sizes, or one is below 1.
    """
    try:
        return task.sizes(splits)
    except KeyError:
        raise ConfigError(f"data.splits={splits}: the task has split sizes named {', '.join(task.splits)}") from None


def read(task: Task, name: str, directory: str | None) -> dict[str, files.Rows]:
    """The files of a task, checked for its columns: ``train``, and ``dev`` and ``validation`` where they are there.

    Raises:
        ConfigError, DataError: as ``load`` raises them.
    """
    if directory is not None:
        tables = from_folder(task, name, directory)
    else:
        tables = from_files(task, name) if task.files else from_hub(task, name)
    for split, table in tables.items():
        _check_columns(task, name, _called(split, task, directory), table)
    return tables


def _called(split: str, task: Task, directory: str | None) -> str:
    """What a user calls a file: the test file is ``validation`` in a folder and on the hub."""
    return "test" if split == "validation" and task.files and directory is None else split


def file_of(part: str, tables: Mapping[str, files.Rows]) -> str:
    """The file among some that a part of the splits is drawn from.

    >>> file_of("test", {"train": files.Rows(), "validation": files.Rows()}), file_of("dev", {"train": files.Rows()})
    ('validation', 'train')
    """
    return _FILE[part] if _FILE[part] in tables else "train"


def _drawn(
    given: Sizes | None, rows: Mapping[str, int], data_seed: int, test_seed: int, strict: bool, where: str
) -> dict[str, list[int]]:
    """The places of the rows of train, dev and test in their files, of which there are so many rows.

    Args:
        where: the key of the sizes, for messages.
    """
    sizes = _counted(given, rows, where)
    if "validation" in rows:
        test, left = _draw(rows["validation"], sizes["test"], test_seed), list(range(rows["train"]))
    else:
        order = _draw(rows["train"], rows["train"], test_seed)
        test, left = order[: sizes["test"]], sorted(order[sizes["test"] :])
    inside = 0 if "dev" in rows else sizes["dev"]  # dev rows that the train file gives
    pool = [left[place] for place in _draw(len(left), sizes["train"] + inside, data_seed)]
    n_train = len(pool) - inside
    if min(n_train, sizes["dev"], len(test)) < 1 or (strict and n_train < sizes["train"]):
        drawn = [part for part in PARTS if part == "train" or (_FILE[part] not in rows)]
        raise DataError(_too_many(given, sizes, drawn, rows["train"], where))
    dev = _draw(rows["dev"], sizes["dev"], data_seed) if "dev" in rows else pool[n_train:]
    return {"train": pool[:n_train], "dev": dev, "test": test}


def _too_many(given: Sizes | None, sizes: Mapping[str, int], drawn: Sequence[str], there: int, where: str) -> str:
    """What is said of splits that ask for more rows than the train file has, from which some parts are drawn."""
    wanted, keys = " and ".join(f"{part}={sizes[part]}" for part in drawn), " and ".join(f"{where}{p}" for p in drawn)
    asked = [given[part] for part in drawn] if given else []
    if asked and all(isinstance(share, float) for share in asked):
        return f"the shares {keys} add up to {sum(asked):g}; they are of one file of {there} rows: expected at most 1"
    total = sum(sizes[part] for part in drawn)
    return f"{wanted} rows are wanted, {total} in all; the train file has {there}; set smaller {keys}"


def _counted(sizes: Sizes | None, rows: Mapping[str, int], where: str) -> dict[str, int]:
    """Numbers of rows: shares of their file counted, down; sizes that are not given by the rule that ``Task`` has."""
    file = {part: rows.get(_FILE[part], rows["train"]) for part in PARTS}
    if sizes is None:
        test = min(MOST_TEST, file["test"] if "validation" in rows else file["test"] // 10)
        dev = min(MOST_DEV, file["dev"] if "dev" in rows else file["dev"] // 10)
        taken = ("validation" not in rows) * test + ("dev" not in rows) * dev
        counted = {"train": rows["train"] - taken, "dev": dev, "test": test}
    else:
        counted = {p: int(file[p] * size + 1e-9) if isinstance(size, float) else size for p, size in sizes.items()}
    for part, count in counted.items():
        if count < 1:
            share = "a tenth" if sizes is None else f"{where}{part}={sizes[part]}"
            raise DataError(
                f"{share} of {file[part]} rows is no row for {part}; get more rows, or set {where}{part} to a number "
                "of rows or a larger share, beside the other two"
            )
    return counted


def _check_classes(name: str, train: Sequence[Example]) -> None:
    """Raises DataError if the labels teach nothing: all rows have one, and the same options."""
    if len({(e.options, e.gold) for e in train}) == 1 and len(train) >= _FEW and len(train[0].options) > 1:
        label = shown(repr(train[0].options[train[0].gold]))
        raise DataError(
            f"task={name}: all {len(train)} train rows have one label, with the option {label}; expected two or "
            "more classes: check the label column, and whether the file is whole"
        )


def _draw(n: int, k: int, seed: int) -> list[int]:
    """The positions of k of n rows, or of all n if there are fewer."""
    return [int(i) for i in np.random.RandomState(seed).permutation(n)[:k]]


def _hash(examples: Mapping[str, Sequence[Example]]) -> str:
    digest = hashlib.sha256()
    for key in sorted(examples):
        for e in examples[key]:
            several = [e.right] if e.right else []
            content = [key, e.prompt, e.options, e.gold, e.answers, *several]
            digest.update(json.dumps(content, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def _hash_of_texts(examples: Mapping[str, Sequence[Example]]) -> str:
    texts = {json.dumps([e.prompt, e.options, e.gold, e.answers]) for part in examples.values() for e in part}
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]


def _examples(task: Task, where: str, table: files.Rows, index: list[int]) -> list[Example]:
    examples = []
    columns = list(dict.fromkeys(map(table.holding, task.columns)))
    taken = table.take(columns, index)
    for i, row in zip(index, taken, strict=True):
        problem = _bad_text(task, row) or task.problem(row)
        if problem:
            raise DataError(f"{where}, {table.place(i)}: {problem}{_how_often(task, taken, row)}")
        examples.append(task.example(i, row))
    return examples


def _how_often(task: Task, taken: Sequence[files.Row], bad: files.Row) -> str:
    """What to do about a label that no option has, and how many of the rows have such; nothing of another problem."""
    if task.unknown_label(bad) is None:
        return ""
    counts = Counter(label for row in taken if (label := task.unknown_label(row)) is not None)
    told = shown(", ".join(f"{label} ({n})" for label, n in counts.most_common()), 200)
    first = shown(next(iter(counts)), 40)
    return (
        f"; {counts.total()} of {len(taken)} rows have such labels: {told}; add them to task.options, such as "
        f'{first}: " {first}", or take these rows out'
    )


def _bad_text(task: Task, row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row's values, of which those of the columns for text must be text; None if nothing."""
    for column in task.columns:
        value = value_of(row, column)
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


def _listed(names: Iterable[str]) -> str:
    """Names of columns in a row; one with white space at an end is quoted, as it could not be told from one without."""
    return shown(", ".join(name if name and name == name.strip() else repr(name) for name in names), 200)


def _missing_hint(task: Task, table: files.Rows, missing: str) -> str:
    """What to do about a column that a table lacks."""
    suffix = Path(table.path).suffix.lower()
    if suffix not in (".csv", ".tsv") or any(table.holding(column) in table.names for column in task.columns):
        return did_you_mean(missing, table.names)
    several = [mark for mark in SEPARATORS if len(table.names) == 1 and mark in table.names[0]]
    if several:
        return f"; its header has {' and '.join(map(repr, several))}: save it with one of them between cells"
    return f"; the first line of {suffix} must name the columns"


def _check_columns(task: Task, name: str, split: str, table: files.Rows) -> None:
    if len(table) == 0:
        raise DataError(f"task={name}: {split} has no rows ({table.path})")
    missing = [c for c in task.columns if table.holding(c) not in table.names]
    if missing:
        told = ", ".join(f"{_listed([column])} ({key})" if (key := task.asks(column)) else _listed([column])
                         for column in missing)  # fmt: skip
        raise DataError(
            f"task={name}: {split} has no column {shown(told, 200)}{_missing_hint(task, table, missing[0])}; "
            f"found {_listed(table.names)}, expected {_listed(task.columns)}"
        )
    twice = [c for c in map(table.holding, task.columns) if list(table.names).count(c) > 1]
    if twice:
        raise DataError(f"task={name}: {split} has the column {twice[0]} twice; keep the one that counts")
