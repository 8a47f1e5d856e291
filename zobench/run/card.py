"""The README.md of an exported model: what it is, what it was tuned on and how well it does, how it is loaded."""

import json
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from zobench.errors import shown
from zobench.system.console import cell_title
from zobench.system.verdict import verdict

_WHOLE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained(DIR), AutoTokenizer.from_pretrained(DIR)
"""
_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {base}
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), DIR).eval()
"""


def card(row: Mapping[str, Any], cfg: DictConfig, *, step: int, base: str, adapter: bool) -> str:
    """The text, in Markdown. What a record or an option says stands in it as code, which is not obeyed.

    Args:
        row: the run's.
        cfg: its configuration.
        step: after which the weights are.
        base: folder or hub id of the model that was tuned; empty for one that a run makes itself.
        adapter: whether the folder holds what was tuned alone.
    """
    kind = f"The adapter ({_code(row.get('tuning'))}), in peft's format," if adapter else "The model"
    lines = [
        f"# {_code(cell_title(row))}",
        "",
        f"{kind} after step {step} of a run of zobench; `zobench.json` has the run's row, with all settings.",
        "",
        f"- base model: {_code(row.get('model'))}" + (f", from {_code(base)}" if base else ""),
        f"- start token in front of the prompt: {_code(row.get('start_token') or 'none')}",
        f"- task: {_code(row.get('task'))}",
        *_result(row),
        *_prompt(cfg.task),
        "",
        "DIR is this folder:",
        "",
        _block(_ADAPTER.format(base=json.dumps(base)) if adapter else _WHOLE, "python"),
    ]
    return "\n".join(lines) + "\n"


def _result(row: Mapping[str, Any]) -> list[str]:
    """The test metric, of the run's chosen weights."""
    metric, value, error = (row.get(key) for key in ("metric", "test_metric", "test_metric_stderr"))
    if not isinstance(value, int | float) or not isinstance(error, int | float):
        return []
    said = f"- test {_code(metric)} of the run's chosen weights: {value:.3f}, standard error {error:.3f}"
    judged = verdict(row)
    return [said, *([f"- {judged.partition(';')[0]}"] if judged else [])]


def _prompt(task: DictConfig) -> list[str]:
    """The prompt's template and the texts that may follow, of a task that is YAML alone."""
    if not isinstance(task.get("prompt"), str):
        return []
    options = task.get("options")
    texts = list(options.values() if isinstance(options, Mapping) else options or [])
    lines = ["", "The prompt, with column names in braces:", "", _block(task.prompt)]
    if texts:
        lines += ["", "The options; chosen is the one with the highest mean log-probability of its tokens:", ""]
        lines += [_block("\n".join(json.dumps(str(text), ensure_ascii=False) for text in texts))]
    return lines


def _code(text: object) -> str:
    """A text on one line as code."""
    plain = shown(str(text), 300).replace("`", "'")
    return f"`{plain}`"


def _block(text: str, language: str = "") -> str:
    """A block of code, which no backticks within it end."""
    fence = "`" * (1 + max(2, *(len(run) for run in re.findall("`+", text)), 0))
    printed = "\n".join(shown(line, 2000) for line in text.rstrip("\n").split("\n"))
    return f"{fence}{language}\n{printed}\n{fence}"
