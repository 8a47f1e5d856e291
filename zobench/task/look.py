"""A task as a run reads it: examples of all splits, tokenised; the model's weights are not loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from omegaconf import DictConfig

from zobench.data import rows
from zobench.models.smollm2 import is_converted
from zobench.objective import Encoded, Encoder
from zobench.run.build import build_task, load_splits, specs
from zobench.tasks.base import PARTS, Example, Task, value_of

#: of a sequence in tokens, beyond any text that is read
_UNCUT = 2**32


@dataclass(frozen=True)
class Look:
    """What a run would see of a task.

    Attributes:
        task, name: the task, and its option's name.
        model: the option whose tokenizer is used.
        tokenizer: it.
        start: text of the token in front of each sequence; None for none.
        max_length: longest sequence in tokens.
        examples: by ``train``, ``dev`` and ``test``, tokenised.
        lengths: of each example, prompt and longest option, in tokens, before it is cut.
        file_rows: how many rows the file has that a part is drawn from.
        empty: column → in how many of the drawn rows it is an empty text.
    """

    task: Task
    name: str
    model: str
    tokenizer: Any
    start: str | None
    max_length: int
    examples: Mapping[str, list[Encoded]]
    lengths: Mapping[str, list[int]]
    file_rows: Mapping[str, int]
    empty: Mapping[str, int]

    @cached_property
    def options(self) -> tuple[str, ...]:
        """The options of all examples; empty where they differ from row to row, and for a task that generates."""
        found = {e.example.options for part in PARTS for e in self.examples[part]}
        return found.pop() if len(found) == 1 and not self.task.generates else ()

    def label(self, example: Example) -> str:
        """What tells an example's class from others: its option's text, or its place where texts differ by row."""
        if self.task.generates:
            return "answer"
        return example.options[example.gold] if self.options else f"option {example.gold + 1}"

    def answer(self, example: Example) -> object:
        """What counts as right for an example."""
        return example.answers or example.options[example.gold]

    def classes(self, part: str) -> dict[str, int]:
        """How many examples of a part each class has, in the order of the options."""
        texts = self.options or sorted({self.label(e.example) for each in PARTS for e in self.examples[each]})
        labels = [self.label(e.example) for e in self.examples[part]]
        return {text: labels.count(text) for text in texts}

    @cached_property
    def shown(self) -> list[Encoded]:
        """Three train examples: the first of each class, and then the first ones."""
        train = self.examples["train"]
        firsts = {self.label(e.example): e for e in reversed(train)}
        order = {id(e): e for text in self.classes("train") if (e := firsts.get(text))}
        return list((order | {id(e): e for e in train[:3]}).values())[:3]

    def merged(self, encoded: Encoded) -> list[str]:
        """The options whose beginning shares a token with the prompt's end; none of an example that was cut."""
        prompt = tuple(self.tokenizer(encoded.example.prompt.strip(" "), add_special_tokens=False)["input_ids"])
        start = self.start is not None
        return [
            option
            for option, row in zip(encoded.example.options, encoded.rows, strict=True)
            if not encoded.truncated and row.ids[start : start + len(prompt)] != prompt
        ]

    def pieces(self, encoded: Encoded) -> list[list[str]]:
        """The tokens of each option, as the tokenizer writes them."""
        return [self.tokenizer.convert_ids_to_tokens(list(row.ids[-row.option_len :])) for row in encoded.rows]


def at_hand() -> str:
    """The model whose tokenizer is on this machine for sure, and most like those of large models."""
    return "smollm2" if is_converted() else "tiny-opt"


def look_at(cfg: DictConfig) -> Look:
    """Read a task, draw its splits and tokenise them.

    Raises:
        UserError: for what would stop a run.
    """
    protocol, spec, _ = specs(cfg)
    task = build_task(cfg.task)
    splits = load_splits(cfg, protocol)
    drawn = {part: getattr(splits, part) for part in PARTS}
    tokenizer = spec.tokenizer()
    start = spec.start_id(tokenizer, protocol.start_token)
    encoder, uncut = (Encoder(tokenizer, start=start, max_length=limit) for limit in (spec.max_length, _UNCUT))
    encoded = {part: encoder.encode(task, examples) for part, examples in drawn.items()}
    tables = rows.read(task, cfg.choices.task, cfg.data.dir)
    empty: dict[str, int] = {}
    for part, examples in drawn.items():
        table = tables[rows.file_of(part, tables)]
        for row in table.take(list(map(table.holding, task.columns)), [e.index for e in examples]):
            for column, value in ((column, value_of(row, column)) for column in task.columns):
                if isinstance(value, str) and not value.strip():
                    empty[column] = empty.get(column, 0) + 1
    return Look(
        task=task,
        name=cfg.choices.task,
        model=cfg.choices.model,
        tokenizer=tokenizer,
        start=None if start is None else str(tokenizer.convert_ids_to_tokens(start)),
        max_length=spec.max_length,
        examples=encoded,
        lengths={part: [_length(e, uncut, task) for e in examples] for part, examples in encoded.items()},
        file_rows={part: len(tables[rows.file_of(part, tables)]) for part in PARTS},
        empty=empty,
    )


def _length(encoded: Encoded, uncut: Encoder, task: Task) -> int:
    if encoded.truncated:
        (encoded,) = uncut.encode(task, [encoded.example])
    return max(len(row.ids) for row in encoded.rows)
