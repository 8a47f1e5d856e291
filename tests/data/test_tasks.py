"""Contract of every task in conf/task, and the tasks' prompts, sizes and rows as the protocol fixes them."""

import copy
import dataclasses
import string
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest
from helpers.tasks import checked_example
from omegaconf import OmegaConf

from zobench.config.signature import compose
from zobench.data import files
from zobench.data import rows as data
from zobench.data.folder import FILES
from zobench.errors import DataError, UserError
from zobench.objective import Encoder
from zobench.protocols import Clean, MezoExact
from zobench.run.build import build_task
from zobench.tasks.base import Task, incomplete

MINI = Path(data.__file__).parent / "mini"

# A row as the hub gives it -> the whole prompt, the options, the index of the right one.
TEMPLATES = {
    "sst2": (
        {"sentence": "  a warm , funny film .  ", "label": 1, "idx": 0},
        "a warm , funny film . It was",
        (" terrible", " great"),
        1,
    ),
    "rte": (
        {"premise": "It rained in Lyon.", "hypothesis": "Lyon was dry.", "label": 1, "idx": 0},
        'It rained in Lyon.\nDoes this mean that "Lyon was dry." is true? Yes or No?\n',
        ("Yes", "No"),
        1,
    ),
    "cb": (
        {"premise": "B: I think it rained.", "hypothesis": "it rained", "label": 2, "idx": 0},
        'Suppose B: I think it rained. Can we infer that "it rained"? Yes, No, or Maybe?\n',
        ("Yes", "No", "Maybe"),
        2,
    ),
    "wsc": (
        {
            "text": "Ana thanked Eva. She had won.",
            "span1_index": 2,
            "span1_text": "Eva",
            "span2_index": 3,
            "span2_text": "She",
            "label": 0,
            "idx": 0,
        },
        'Ana thanked Eva. She had won.\nIn the previous sentence, does the pronoun "she" refer to Eva? Yes or No?\n',
        ("No", "Yes"),
        0,
    ),
    "multirc": (
        {"paragraph": "Emil slept. Petra went.", "question": "Who went?", "answer": "Petra", "label": 1, "idx": {}},
        'Emil slept. Petra went.\nQuestion: Who went?\nI found this answer "Petra". Is that correct? Yes or No?\n',
        ("No", "Yes"),
        1,
    ),
    "squad": (
        {
            "id": "0",
            "title": "Ardel_Bridge",
            "context": "Josiah Pell built it in 1786.",
            "question": " When was it built? ",
            "answers": {"text": ["1786", "in 1786"], "answer_start": [24, 21]},
        },
        "Title: Ardel_Bridge\nContext: Josiah Pell built it in 1786.\nQuestion: When was it built?\nAnswer:",
        (" 1786\n",),
        0,
    ),
}

SIZES = {  # protocol.md 1.1 and 1.6: train, dev, test under each protocol
    "sst2": ((1000, 500, 872), (1000, 500, 872)),
    "rte": ((1000, 500, 277), (1000, 500, 277)),
    "cb": ((150, 100, 56), (150, 100, 56)),
    "wsc": ((454, 100, 104), (54, 500, 104)),
    "multirc": ((1000, 500, 1000), (1000, 500, 1000)),
    "squad": ((1000, 500, 1000), (1000, 500, 1000)),
}


def parts(splits):
    return {"train": splits.train, "dev": splits.dev, "test": splits.test}


def whole(path):
    """All rows of a file, with all columns."""
    rows = files.read(path)
    return rows.take(rows.names)


def plain(text):
    """Lower case, without punctuation and surplus spaces."""
    marks = string.punctuation + "“”‘’–—…"
    return " ".join(text.lower().translate(str.maketrans("", "", marks)).split())


def load(task, name, directory, protocol, data_seed=0):
    return data.load(
        task,
        name,
        directory=str(directory),
        splits=protocol.splits,
        data_seed=data_seed,
        test_seed=protocol.test_seed(data_seed),
        strict=protocol.strict_splits,
    )


def test_a_task_says_what_it_is(task_name, compose_task):
    task = compose_task(task_name)
    assert type(task).__doc__
    assert task.columns
    assert task.metric in ("accuracy", "macro_f1", "mcc", "f1", "exact_match")
    assert task.loss in ("classification", "lm")
    assert set(task.rows) in ({"train", "validation"}, {"train", "test"})
    assert {"clean", "mezo_exact"} <= set(task.splits)
    assert all(set(sizes) == {"train", "dev", "test"} for sizes in task.splits.values())
    assert len(task.revision) == 40 or task_name in ("cr", "subj", "trec"), "a data set is pinned by its commit"


def test_mini_data_loads_whole(mini_name, mini):
    task, splits = mini(mini_name)
    for part, examples in parts(splits).items():
        assert len(examples) == task.splits["mini"][part] >= 16
        for e in examples:
            assert 0 <= e.gold < len(e.options)
            assert e.prompt.strip()
            assert all(option.strip() for option in e.options)
            assert bool(e.answers) == task.generates
    if task.verbaliser:
        for examples in parts(splits).values():
            assert {e.gold for e in examples} == set(range(len(task.verbaliser)))


def test_mini_files_are_balanced(mini_name, compose_task):
    task = compose_task(mini_name)
    for split in FILES:
        rows = whole(MINI / mini_name / f"{split}.jsonl")
        if task.verbaliser:
            assert len(set(Counter(row["label"] for row in rows).values())) == 1


def test_mini_splits_share_no_text(mini_name, mini):
    _, splits = mini(mini_name)
    texts = {part: {plain(e.prompt) for e in examples} for part, examples in parts(splits).items()}
    assert not texts["train"] & texts["dev"]
    assert not (texts["train"] | texts["dev"]) & texts["test"]


def test_mini_files_share_no_passage(mini_name, compose_task):
    passage = "context" if mini_name == "squad" else compose_task(mini_name).columns[0]
    found = [{plain(row[passage]) for row in whole(MINI / mini_name / f"{split}.jsonl")} for split in FILES]
    assert not found[0] & found[1]


def test_the_quickstart_set_has_no_sentence_twice(mini):
    _, splits = mini("sst2")
    sentences = [plain(e.prompt) for examples in parts(splits).values() for e in examples]
    assert len(set(sentences)) == len(sentences)
    assert len(splits.train) >= 300
    assert len(splits.dev) >= 100
    assert len(splits.test) >= 200


def test_dev_and_train_are_disjoint(mini_name, mini):
    _, splits = mini(mini_name)
    assert not {e.index for e in splits.train} & {e.index for e in splits.dev}


def test_rows_hash_names_the_drawn_rows(mini_name, mini):
    first, again, other = (mini(mini_name, data_seed=seed)[1] for seed in (0, 0, 1))
    assert first.rows_hash == again.rows_hash
    assert first.train == again.train
    assert first.rows_hash != other.rows_hash


def test_encoding_keeps_every_character(mini_name, mini, load_model):
    task, splits = mini(mini_name)
    tokenizer = load_model("tiny-opt").tokenizer
    examples = [*splits.train[:8], *splits.test[:8]]
    for e, encoded in zip(examples, Encoder(tokenizer, start=2, max_length=2048).encode(task, examples), strict=True):
        assert not encoded.truncated
        for option, row in zip(e.options, encoded.rows, strict=True):
            assert row.ids[0] == 2
            assert tokenizer.decode(row.ids[1:]) == (e.prompt + option).strip(" ")
            assert tokenizer.decode(row.ids[-row.option_len :]) == option


@pytest.mark.parametrize("name", ["rte", "squad"])
def test_white_space_before_a_prompt_and_spaces_after_it_are_no_part_of_it(name, compose_task, load_model):
    task, row = compose_task(name), TEMPLATES[name][0]
    encoder = Encoder(load_model("tiny-opt").tokenizer, start=None, max_length=2048)
    plain = task.example(0, row)
    spaced = dataclasses.replace(plain, prompt=f"\n \t\u00a0{plain.prompt}")
    (left,), (right,) = encoder.encode(task, [plain]), encoder.encode(task, [spaced])
    assert (left.rows, left.prompt) == (right.rows, right.prompt)
    after = dataclasses.replace(plain, prompt=f"{plain.prompt.rstrip()}\n", options=("a", "b "))
    lines = {encoder.tokenizer.decode(row.ids).rpartition("\n")[2] for row in encoder.encode(task, [after])[0].rows}
    assert lines == ({"a", "b "} if name == "squad" else {"a", "b"})


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_templates_are_exact(name, compose_task):
    example = checked_example(compose_task(name), *TEMPLATES[name])
    assert example.answers == (("1786", "in 1786") if name == "squad" else ())


@pytest.mark.parametrize("name", [n for n in TEMPLATES if n != "squad"])
@pytest.mark.parametrize("label", [-1, 3, None, "01", 1.5, True])
def test_a_bad_label_is_a_problem(name, label, compose_task):
    assert "label" in compose_task(name).problem({**TEMPLATES[name][0], "label": label})


@pytest.mark.parametrize("name", list(SIZES))
@pytest.mark.parametrize("protocol", [Clean(), MezoExact()], ids=["clean", "mezo_exact"])
def test_real_split_sizes(name, protocol, compose_task, shared_data):
    splits = load(compose_task(name), name, shared_data, protocol)
    expected = SIZES[name][isinstance(protocol, MezoExact)]
    assert tuple(len(examples) for examples in parts(splits).values()) == expected
    assert not {e.index for e in splits.train} & {e.index for e in splits.dev}


@pytest.mark.parametrize("name", ["sst2", "rte", "cb", "wsc", "multirc", "copa", "wic"])
def test_real_row_counts(name, compose_task, shared_data):
    rows = {split: pyarrow.parquet.read_metadata(shared_data / name / f"{split}.parquet").num_rows for split in FILES}
    assert rows == compose_task(name).rows


@pytest.mark.parametrize("protocol", [Clean(), MezoExact()], ids=["clean", "mezo_exact"])
def test_the_published_rows_of_sst2_are_drawn(protocol, compose_task, shared_data):
    splits = load(compose_task("sst2"), "sst2", shared_data, protocol)
    assert [e.index for e in splits.train[:5]] == [43787, 16159, 59015, 5108, 67052]
    assert [e.index for e in splits.test[:5]] == [372, 676, 548, 293, 382]


def test_two_thirds_of_wsc_is_the_majority(compose_task, shared_data):
    splits = load(compose_task("wsc"), "wsc", shared_data, Clean())
    assert Counter(e.gold for e in splits.test) == {0: 66, 1: 38}


def test_clean_never_shrinks_the_training_set_silently(compose_task, shared_data):
    task = copy.copy(compose_task("wsc"))
    task.splits = {"here": {"train": 454, "dev": 101, "test": 104}}
    with pytest.raises(DataError, match="554"):
        data.load(task, "wsc", directory=str(shared_data), splits="here", data_seed=0, test_seed=0, strict=True)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("zobench.tasks.base.Task", "expected a class that derives from zobench.tasks.base.Task"),
        ("zobench.tasks.base.Example", ""),
        ("zobench.zo.rules.SGD", ""),
        ("collections.OrderedDict", ""),
        ("nowhere.Task", "cannot be imported"),
    ],
)
def test_a_class_that_is_no_task_is_one_line(target, words, compose_task):
    node = OmegaConf.to_container(compose("task=sst2").task)
    with pytest.raises(UserError) as caught:
        build_task({**node, "_target_": target})
    assert target in str(caught.value) or "task" in str(caught.value)
    assert words in str(caught.value)


def test_classes_that_define_too_little_are_no_tasks():
    facts = {"hub": "", "subset": "", "revision": "", "rows": {}, "splits": {}}
    some = {"columns": ("text", "label"), "prompt": lambda self, row: row["text"]}
    for missing in ("columns", "prompt", "verbaliser"):
        kind = type("Mine", (Task,), {k: v for k, v in {**some, "verbaliser": ("No", "Yes")}.items() if k != missing})
        assert incomplete(kind(**facts))
    assert incomplete(type("Mine", (Task,), {**some, "verbaliser": ("No", "Yes")})(**facts)) is None
    assert incomplete(type("Mine", (Task,), {**some, "columns": "text"})(**facts))
    told = "Mine has options and metric=f1; expected accuracy, macro_f1, mcc, or generates=True"
    assert incomplete(type("Mine", (Task,), {**some, "verbaliser": ("No", "Yes"), "metric": "f1"})(**facts)) == told
