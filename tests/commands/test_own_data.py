"""From a table and a model folder to a tuned model and an adapter that give its numbers again; the guide to that."""

import json
import os
import re
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.commands import command
from helpers.own import tickets, write_model, write_task
from helpers.tiny_runs import summary_of

from zobench import export

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "own-data.md"
RUN = ("--config-dir", "cfg", "task=my_tickets", "model=qwen3-0.6b", "wandb=disabled", "threads=1")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder with a LoRA run on own data, and what was exported of it: ``tuned`` and ``adapter``."""
    folder = tmp_path_factory.mktemp("user")
    write_task(folder, tickets(120))
    write_model(folder / "my-qwen2")
    lora = ("model.dir=my-qwen2", "tuning=lora", "steps=20", "method.lr=1e-2", "out=lora")
    assert command("zobench", *RUN, *lora, cwd=folder).returncode == 0
    with chdir(folder):
        assert export.main(["runs/lora", "tuned"]) == 0
        assert export.main(["runs/lora", "adapter", "--adapter"]) == 0
    return folder


def test_the_exported_model_gives_the_runs_test_numbers_again(tuned):
    found = command("zobench", *RUN, "model.dir=tuned", "method=zeroshot", "out=again", cwd=tuned)
    assert found.returncode == 0, found.stderr
    run, again = (summary_of(tuned / "runs" / name) for name in ("lora", "again"))
    assert again["rows_hash"] == run["rows_hash"]
    assert again["test_metric"] == run["test_metric"]
    assert again["test/loss"] == pytest.approx(run["test/loss"], abs=1e-5)
    assert abs(run["test/loss"] - run["zero_shot/test/loss"]) > 1e-3, "the adapter does something"


def test_the_guides_snippet_gives_the_runs_scores_of_options_of_several_tokens(tuned, monkeypatch):
    (snippet,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.S | re.M)
    monkeypatch.chdir(tuned)
    names = {}
    exec(snippet, names)
    texts = list(names["options"].values())
    assert sorted(len(names["tokenizer"](text)["input_ids"]) for text in texts) == [3, 3, 5]
    rows, stored = tickets(120), pq.read_table("runs/lora/predictions.parquet").to_pylist()
    test = [each for each in stored if each["split"] == "test"]
    assert len(test) == 24
    for each in test:
        subject, body, _ = rows[each["index"]]
        found = [names["score"](f"{subject}\n{body}\nThis ticket goes to", text) for text in texts]
        assert found == pytest.approx(each["scores"], abs=1e-4)


def test_exports_say_what_they_are_and_hold_the_tokenizer_as_it_was(tuned):
    base, adapter, model = (tuned / name for name in ("my-qwen2", "adapter", "tuned"))
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (model / name).read_bytes() == (base / name).read_bytes()
    for folder in (adapter, model):
        text = (folder / "README.md").read_text(encoding="utf-8")
        for part in ("\n{subject}\n{body:strip}\nThis ticket goes to\n", '" billing"', "`accuracy`", str(base)):
            assert part in text
    assert "PeftModel" in (adapter / "README.md").read_text()


def test_the_row_and_its_report_say_that_rows_come_from_files(tuned):
    row = summary_of(tuned / "runs" / "lora")
    assert (row["data"], row["data.dir"]) == ("files", str(tuned / "tickets.csv"))
    found = command("zobench.report", "runs/lora", cwd=tuned)
    assert "protocol clean, data files tickets.csv" in found.stdout


def test_an_adapter_alone_is_refused_with_the_way_to_merge_it(tuned):
    found = command("zobench", *RUN, "model.dir=adapter", "method=zeroshot", "out=alone", cwd=tuned)
    assert (found.returncode, found.stderr.count("\n")) == (1, 1)
    assert "it holds an adapter, not a model; merge it into its model" in found.stderr
    assert "as zobench.export does without --adapter" in found.stderr


@pytest.mark.slow
def test_the_guide_runs_to_the_letter(tmp_path):
    text = GUIDE.read_text(encoding="utf-8")
    (task,) = re.findall(r"^```yaml\n(.*?)^```", text, re.S | re.M)
    (python,) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    write_task(tmp_path, tickets(120), task)
    write_model(tmp_path / "my-qwen2")
    (tmp_path / "use.py").write_text(python, encoding="utf-8")
    commands = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M))
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": binaries, "PYTHONPATH": str(GUIDE.parents[1])}
    found = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{commands}\npython use.py"],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.splitlines()[-1] in ("billing", "tech", "sales")
    (again,) = tmp_path.glob("again/my_tickets/tuned@*/zeroshot/*")
    runs = [summary_of(path.parent) for path in tmp_path.glob("runs/my_tickets/my-qwen2@*/mezo/*/summary.json")]
    assert summary_of(again)["test_metric"] == next(
        run["test_metric"] for run in runs if (run["method.lr"], run["seed"]) == (1e-4, 0)
    )
