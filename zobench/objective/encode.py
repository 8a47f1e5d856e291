"""Tokenised examples: one row of token ids per option, and where its option begins.

Rules of the MeZO suite (arXiv:2305.17333; princeton-nlp/MeZO @552cb1b, ``encode_prompt``), but for the start token,
which that code leaves to the tokenizer and its version, and which is explicit here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zobench.errors import DataError, shown
from zobench.objective.cuts import Tail
from zobench.tasks.base import Example, Task

#: longest answer that is generated, in tokens
MAX_NEW_TOKENS = 50


@dataclass(frozen=True)
class Row:
    """One sequence of token ids: start token, prompt, option.

    Attributes:
        ids: all of them, at most the encoder's ``max_length``.
        option_len: how many at the end are the option's, at least 1.
    """

    ids: tuple[int, ...]
    option_len: int

    @property
    def tail(self) -> Tail:
        """The request from which the option's tokens are predicted; its last token predicts nothing."""
        return Tail(self.ids[:-1], self.option_len)


@dataclass(frozen=True)
class Encoded:
    """One example, tokenised.

    Attributes:
        example: what was tokenised.
        rows: one for each option, in the order of the options.
        prompt: ids of start token and prompt alone, for tasks that generate; else empty.
        truncated: whether a row lost tokens on the left.
    """

    example: Example
    rows: tuple[Row, ...]
    prompt: tuple[int, ...] = ()
    truncated: bool = False

    @property
    def gold(self) -> int:
        """Index of the right option."""
        return self.example.gold

    @property
    def shared(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The prompt that all options follow, and one id for each option; None unless each option is a single token."""
        prompts = {row.ids[:-1] for row in self.rows}
        if len(prompts) > 1 or any(row.option_len != 1 for row in self.rows):
            return None
        prompt = prompts.pop()
        return (prompt, tuple(row.ids[-1] for row in self.rows)) if prompt else None


class Encoder:
    """Turns examples into token ids, as the MeZO suite does, with an explicit start token.

    White space before the prompt is stripped, and spaces, only spaces, after the prompt and after prompt + option; the
    option's length is the difference of the two token counts; too long sequences lose tokens on the left, after the
    start token.

    Args:
        tokenizer: a Hugging Face tokenizer; its own special tokens are left out.
        start: id of the start token; None for none.
        max_length: longest sequence in tokens; generation keeps ``MAX_NEW_TOKENS`` of it free.

    Example:
        >>> from zobench.models.tiny import tiny_tokenizer
        >>> from zobench.tasks.template import TemplateTask
        >>> task = TemplateTask(prompt="{sentence} It was", options=[" terrible", " great"])
        >>> example = task.example(0, {"sentence": "a fine film", "label": 1})
        >>> (encoded,) = Encoder(tiny_tokenizer(), start=0, max_length=64).encode(task, [example])
        >>> [row.option_len for row in encoded.rows], encoded.gold, encoded.rows[1].ids[0]
        ([1, 1], 1, 0)
    """

    def __init__(self, tokenizer: Any, *, start: int | None, max_length: int):
        self.tokenizer, self.start, self.max_length = tokenizer, start, max_length

    def encode(self, task: Task, examples: Sequence[Example]) -> list[Encoded]:
        """Tokenise examples of a task.

        Raises:
            DataError: if an option has no token, or none is left before it to predict it from; if two options of an
                example have the same tokens.
        """
        limit = self.max_length - (MAX_NEW_TOKENS if task.generates else 0)
        if limit < 2:
            raise DataError(f"max_length={self.max_length} leaves no room for a prompt; raise model.max_length")
        return [self._one(task, example, limit) for example in examples]

    def _one(self, task: Task, example: Example, limit: int) -> Encoded:
        prompt = self._ids(_stripped(example.prompt))
        rows: list[Row] = []
        for option in example.options:
            full = example.prompt + option
            ids = self._ids(full.lstrip() if task.generates else _stripped(full))
            option_len = len(ids) - len(prompt)
            row = Row(self._cut(ids, limit), option_len)
            if option_len < 1 or option_len >= len(row.ids):
                raise DataError(
                    f"row {example.index}: option {shown(repr(option))} has {option_len} of {len(row.ids)} tokens; an "
                    f"option needs at least one token, and a token before it (max_length={self.max_length})"
                )
            if row in rows:
                other, same = example.options[rows.index(row)], ids[len(prompt) :]
                raise DataError(
                    f"row {example.index}: options {shown(repr(other))} and {shown(repr(option))} are the same tokens "
                    f"{shown(same)}, so that they always tie; expected options that the model's tokenizer tells apart: "
                    "take other label words"
                )
            rows.append(row)
        truncated = any(len(prompt) + row.option_len > limit for row in rows)
        return Encoded(example, tuple(rows), self._cut(prompt, limit) if task.generates else (), truncated)

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids if self.start is None else [self.start, *ids]

    def _cut(self, ids: list[int], limit: int) -> tuple[int, ...]:
        if len(ids) <= limit:
            return tuple(ids)
        return tuple(ids[-limit:] if self.start is None else [self.start, *ids[-(limit - 1) :]])


def _stripped(text: str) -> str:
    return text.lstrip().rstrip(" ")
