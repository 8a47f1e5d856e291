"""A task of lm-evaluation-harness whose score of an exported model is the run's: its YAML, rows, code and README."""

import inspect
import json
import re
import shlex
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from zobench.errors import ConfigError, DataError
from zobench.objective import Encoder, metrics
from zobench.objective.encode import MAX_NEW_TOKENS
from zobench.run import lm_eval_scores
from zobench.run.build import build_task, load_splits, specs
from zobench.run.lm_eval_rows import HarnessRows
from zobench.run.rebuild import Rebuilt
from zobench.tasks.base import Task

#: the folder beside the model's files
FOLDER = "lm-eval"
_IMPORT = re.compile(r"^from zobench\.objective\.metrics import .*\n", re.M)
_CHOICE = """\
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: right
target_delimiter: ""
"""
_GENERATION = f"""\
output_type: generate_until
doc_to_text: context
doc_to_target: answers
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: {MAX_NEW_TOKENS}
  do_sample: false
  num_beams: 1  # no habit of a checkpoint's generation_config: greedy is greedy
  repetition_penalty: 1.0
  no_repeat_ngram_size: 0
"""
_README = """\
# {name}: the test rows of a run, for lm-evaluation-harness

In the folder above, where the exported files are (`pip install 'lm-eval[hf]'` in an environment of its own):

```bash
{command}
```

- Rows: {count} of the run's test split, as texts, in `test.jsonl`; `index` is the row's place in its file.
- Metric: {metric}, as the run's `test_metric`{value}.
- {rule}
- Special tokens are part of the texts, so the tokenizer adds none (`add_bos_token=False`).
- `utils.py` has the scores: zobench's own code.
"""
_RULES = {
    False: "Rule: chosen is the option with the highest mean log-probability of its tokens, the first of equals.",
    True: f"Rule: a greedy answer of at most {MAX_NEW_TOKENS} tokens, up to its first newline, against all right ones.",
}


class HarnessTask:
    """The task of a run; made before anything is written, as its rows must be there and fit.

    Args:
        rebuilt: the run's model, with its tokenizer.
        adapter: whether the exported folder holds an adapter alone.

    Raises:
        UserError: if the rows cannot be had, are others than the run's, or have no texts for the harness; for an
            adapter of a model without a folder.
    """

    def __init__(self, rebuilt: Rebuilt, *, adapter: bool):
        cfg, self.summary, model = rebuilt.cfg, rebuilt.summary, rebuilt.loaded.model
        self.name = "zobench_" + re.sub(r"\W+", "_", str(cfg.choices.task))
        protocol, spec, _ = specs(cfg)
        spec.complete_texts(model.config, rebuilt.loaded.tokenizer)
        settings: Any = OmegaConf.to_container(cfg.task, resolve=True)
        self.task: Task = build_task(settings)
        base = str(model.name_or_path or "")
        if adapter and not base:
            raise ConfigError(
                "--lm-eval: the adapter's model is in no folder that it could be read from; leave --adapter out"
            )
        splits = load_splits(cfg, protocol)
        if self.summary.get("rows_hash") not in (None, splits.rows_hash):
            raise DataError(
                f"--lm-eval: the rows are not those of the run: they hash to {splits.rows_hash}, not "
                f"{self.summary['rows_hash']}; put the run's files back"
            )
        tokenizer, flavour = rebuilt.loaded.tokenizer, protocol.start_token
        encoder = Encoder(tokenizer, start=spec.start_id(tokenizer, flavour), max_length=spec.max_length)
        rows = HarnessRows(encoder, spec.start_token[flavour])
        self.rows = rows.of(self.task, encoder.encode(self.task, splits.test))
        files = {"pretrained": base, "tokenizer": base, "peft": "."} if adapter else {"pretrained": "."}
        exact = {} if str(cfg.dtype) == "float32" else {"softmax_dtype": "float32"}
        self.model = files | {"dtype": cfg.dtype} | exact | {"add_bos_token": False, "max_length": spec.max_length}

    def write(self, folder: Path) -> None:
        """Write the task into a new folder beside the exported files."""
        code = inspect.getsource(metrics) + "\n\n" + _IMPORT.sub("", inspect.getsource(lm_eval_scores))
        lines = [json.dumps(row, ensure_ascii=False) for row in self.rows]
        (folder / FOLDER).mkdir()
        for name, text in (
            (f"{self.name}.yaml", self.yaml()),
            ("test.jsonl", "\n".join(lines) + "\n"),
            ("utils.py", code),
            ("README.md", self.readme()),
        ):
            (folder / FOLDER / name).write_text(text, encoding="utf-8")

    def yaml(self) -> str:
        """The task's file."""
        generates, classes = self.task.generates, self.task.metric in ("macro_f1", "mcc")
        found = ("f1", "exact_match") if generates else ("accuracy", "macro_f1", "mcc") if classes else ("accuracy",)
        scored = "answer" if generates else "classify" if classes else "choose"
        lines = [f"task: {self.name}", "custom_dataset: !function utils.rows", "test_split: test"]
        lines += [*(_GENERATION if generates else _CHOICE).splitlines(), f"process_results: !function utils.{scored}"]
        lines += ["metric_list:"]
        for metric in found:
            by = f"!function utils.{metric}_of" if metric in ("macro_f1", "mcc") else "mean"
            lines += [f"  - metric: {metric}", f"    aggregation: {by}", "    higher_is_better: true"]
        return "\n".join([*lines, "num_fewshot: 0", "metadata:", "  version: 1"]) + "\n"

    def readme(self) -> str:
        """What the folder is, with the one command."""
        value = self.summary.get("test_metric")
        said = f", which is {value:.4f}" if isinstance(value, int | float) else ""
        rule = _RULES[self.task.generates]
        return _README.format(
            name=self.name, command=self.command(), count=len(self.rows), metric=self.task.metric, value=said, rule=rule
        )

    def command(self) -> str:
        """The command, for a shell in the exported folder."""
        model = ",".join(f"{key}={value}" for key, value in self.model.items())
        return (
            f"lm_eval --model hf --model_args {shlex.quote(model)} --include_path {FOLDER} --tasks {self.name} \\\n"
            f"  --log_samples --output_path {FOLDER}/results"
        )
