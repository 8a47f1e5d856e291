"""What a user brings: a table, a task's file, a model's folder."""

import csv
import random

import torch

from zobench.models.base import silence_libraries
from zobench.models.tiny import tiny_tokenizer

TASK = """
prompt: "{subject}\\n{body:strip}\\nThis ticket goes to"
options: {billing: " billing", tech: " technical", sales: " sales"}
label: team
files: tickets.csv
splits: {train: 0.7, dev: 0.1, test: 0.2}
"""
_TEXTS = {
    "billing": ("Invoice question", "I was charged {} euros twice."),
    "tech": ("It crashes", "Error {} comes up when I save."),
    "sales": ("A quote please", "We are {} people and need a price."),
}


def tickets(count):
    """Rows of three teams in turn, no two alike."""
    numbers = random.Random(0).sample(range(10_000), count)
    teams = list(_TEXTS) * count
    return [(_TEXTS[team][0], _TEXTS[team][1].format(n), team) for team, n in zip(teams, numbers, strict=False)]


def write_task(folder, rows, task=TASK):
    """``tickets.csv`` of (subject, body, team), and ``cfg/task/my_tickets.yaml``."""
    with (folder / "tickets.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("subject", "body", "team"), *rows])
    (folder / "cfg" / "task").mkdir(parents=True)
    (folder / "cfg" / "task" / "my_tickets.yaml").write_text(task, encoding="utf-8")


def write_model(folder):
    """A random Qwen2 of four layers, in Hugging Face format."""
    silence_libraries()
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.3,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
