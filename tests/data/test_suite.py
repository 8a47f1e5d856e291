"""The suite's tasks without files that ship: prompts of rows as the hub gives them, whole runs on files like them."""

import json

import pytest
from helpers.tasks import checked_example
from helpers.tiny_runs import TINY

from zobench.config.signature import compose
from zobench.data import rows as data
from zobench.objective import Encoder
from zobench.protocols import Clean, MezoExact
from zobench.record import predictions
from zobench.run.runner import run

PASSAGE = "The ferry to Lomma leaves at noon.\n@highlight\nOda Berg bought it\n@highlight\nIt is red"
# A row as the hub gives it -> the whole prompt, the options or the answer, the index of the right one.
TEMPLATES = {
    "boolq": (
        {"question": "is the ferry red", "passage": "The ferry is red.", "idx": 0, "label": 1},
        "The ferry is red. Is the ferry red?\n", ("Yes", "No"), 0,
    ),
    "wic": (
        {"word": "bank", "sentence1": "By the bank.", "sentence2": "A bank of fog.", "start1": 7, "label": 0},
        'Does the word "bank" have the same meaning in these two sentences? Yes, No?\nBy the bank.\nA bank of fog.\n',
        ("No", "Yes"), 0,
    ),
    "copa": (
        {"premise": "The lamp went out. ", "choice1": "The room got dark.", "choice2": "I slept.", "question": "effect",
         "label": 1},
        "The lamp went out so ", ("the room got dark.", "I slept."), 1,
    ),
    "record": (
        {"passage": PASSAGE, "query": "@placeholder painted the ferry", "entities": ["Lomma", "Oda Berg", "Berg"],
         "answers": ["Berg", "Oda Berg"], "idx": {"passage": 0, "query": 0}},
        "The ferry to Lomma leaves at noon.\n- Oda Berg bought it\n- It is red\n-",
        (" Lomma painted the ferry", " Oda Berg painted the ferry", " Berg painted the ferry"), 2,
    ),
    "drop": (
        {"section_id": "s", "query_id": "q", "passage": "The ferry left twice.", "question": " How often? ",
         "answers_spans": {"spans": ["2", "twice"], "types": ["number", "span"]}},
        "Passage: The ferry left twice.\nQuestion: How often?\nAnswer:", (" 2\n",), 0,
    ),
    "sst5": (
        {"text": "warm , and funny .", "label": 3, "label_text": "positive"}, "warm , and funny . It was",
        (" terrible", " bad", " okay", " good", " great"), 3,
    ),
    "mr": ({"text": "dull . ", "label": 0}, "dull . It was", (" terrible", " great"), 0),
    "cr": ({"text": "it lasts .", "label": 1}, "it lasts . It was", (" terrible", " great"), 1),
    "subj": (
        {"text": "oda flees .", "label": 0, "label_text": "objective"}, "oda flees . This is",
        (" objective", " subjective"), 0,
    ),
    "trec": (
        {"text": "Who paints ferries ?", "coarse_label": 3, "fine_label": 12}, "Who paints ferries ?\nType:",
        (" Expression", " Entity", " Description", " Human", " Location", " Number"), 3,
    ),
}  # fmt: skip
#: train, dev, test of the real rows at hand, under both protocols
SIZES = {
    "wic": ((1000, 500, 638), (1000, 500, 638)),
    "copa": ((300, 100, 100), (300, 100, 100)),
    "sst5": ((1000, 500, 2210), (1000, 500, 2210)),
    "mr": ((1000, 500, 2000), (1000, 500, 2000)),
    "cr": ((1000, 500, 2000), (1000, 500, 2000)),
    "subj": ((1000, 500, 2000), (1000, 500, 2000)),
    "trec": ((1000, 500, 500), (1000, 500, 500)),
}
SMALL = {"train": 12, "dev": 6, "test": 8}


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_a_row_of_the_hub_becomes_the_suites_prompt(name, compose_task):
    example = checked_example(compose_task(name), *TEMPLATES[name])
    assert example.answers == (("2", "twice") if name == "drop" else ())
    assert example.right == ((1, 2) if name == "record" else ())


@pytest.mark.parametrize("name", list(SIZES))
@pytest.mark.parametrize("protocol", [Clean(), MezoExact()], ids=["clean", "mezo_exact"])
def test_the_real_rows_are_drawn_in_these_numbers_and_can_be_told_apart(
    name, protocol, compose_task, shared_data, load_model
):
    task = compose_task(name)
    splits = data.load(
        task, name, directory=str(shared_data), splits=protocol.splits, data_seed=0,
        test_seed=protocol.test_seed(0), strict=protocol.strict_splits,
    )  # fmt: skip
    assert (len(splits.train), len(splits.dev), len(splits.test)) == SIZES[name][isinstance(protocol, MezoExact)]
    tokenizer = load_model("tiny-opt").tokenizer
    assert len(Encoder(tokenizer, start=None, max_length=2048).encode(task, splits.test[:200])) == min(
        200, len(splits.test)
    )


def rows_of(name, split):
    """Rows in the hub's layout, each with its own number in a text; labels take turns."""
    row = TEMPLATES[name][0]
    label = "coarse_label" if name == "trec" else "label"
    text = (
        "passage" if "passage" in row else "premise" if "premise" in row else "sentence1" if "word" in row else "text"
    )
    classes = len(TEMPLATES[name][2])
    for i in range(24):
        new = row | {text: f"{split} {i}, " + row[text]}
        yield new | {label: i % classes} if label in row else new


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_a_run_on_files_in_the_hubs_layout_is_finished_and_scored(name, tmp_path):
    for split in ("train", "validation"):
        path = tmp_path / "data" / name / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(name, split)))
    words = [word for word in TINY if not word.startswith(("task=", "data=", "task.splits"))]
    sizes = [f"task.splits.clean.{part}={n}" for part, n in SMALL.items()]
    words += [f"task={name}", "data=local", f"data.dir={tmp_path / 'data'}", *sizes, "steps=2", "micro_batch_size=2"]
    cfg = compose(*words, "eval_every=1", f"runs_dir={tmp_path}")
    row = run(cfg)
    assert (row["state"], row["test/n"]) == ("finished", SMALL["test"])
    assert row["test_metric"] == row[f"test/{row['metric']}"]
    assert ("test/mcc" in row) == (name not in ("record", "drop"))  # its options are no classes, or it has none
    for line in predictions.read(tmp_path / cfg.out, "test") if name == "record" else ():
        assert line["score"] == (line["prediction"] in ("1", "2"))  # two of the three names are right
