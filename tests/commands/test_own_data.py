"""From a table and a model folder to a tuned model and an adapter that give its numbers again; the guide to that."""

import os
import re
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
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


def test_peft_with_the_adapter_gives_the_runs_scores(tuned):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tuned / "my-qwen2")
    base = AutoModelForCausalLM.from_pretrained(tuned / "my-qwen2")
    model = PeftModel.from_pretrained(base, tuned / "adapter").eval()
    rows, stored = tickets(120), pq.read_table(tuned / "runs" / "lora" / "predictions.parquet").to_pylist()
    test = [each for each in stored if each["split"] == "test"]
    assert len(test) == 24
    for each in test:
        subject, body, _ = rows[each["index"]]
        prompt = tokenizer(f"{subject}\n{body}\nThis ticket goes to", add_special_tokens=False)["input_ids"]
        for text, score in zip((" billing", " technical", " sales"), each["scores"], strict=True):
            option = tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *option]])).logits[0, len(prompt) - 1 : -1]
            found = logits.log_softmax(-1).gather(-1, torch.tensor(option)[:, None]).mean()
            assert float(found) == pytest.approx(score, abs=1e-4)


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
    (again,) = tmp_path.glob("runs/my_tickets/tuned@*/zeroshot/*")
    runs = [summary_of(path.parent) for path in tmp_path.glob("runs/my_tickets/my-qwen2@*/mezo/*/summary.json")]
    assert summary_of(again)["test_metric"] == next(run["test_metric"] for run in runs if run["steps"] == 300)
