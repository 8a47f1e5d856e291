"""Test rows as lm-evaluation-harness asks them: texts that its tokenising turns into the very ids of a run.

The harness takes texts. It moves white space from the end of a context to the continuation, tokenises the context and
the whole, and runs the context's tokens with what the whole has beyond them (``_encode_pair`` of lm-eval 0.4). Each row
is tried here under that rule, so that an export whose score would be of other tokens is refused.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from zobench.errors import DataError
from zobench.objective import Encoded, Encoder
from zobench.tasks.base import Task

#: so many words of a prompt at most go over to the continuations
_WORDS = 8


class HarnessRows:
    """Makes rows for the harness, which is told to add no special tokens: the start token is part of the text.

    Args:
        encoder: the run's.
        start: the start token's text; None for none.
    """

    def __init__(self, encoder: Encoder, start: str | None):
        self.encoder, self.start = encoder, start or ""

    def of(self, task: Task, encoded: Sequence[Encoded]) -> list[dict[str, Any]]:
        """The rows of some examples, in their order.

        Returns:
            For a task that generates ``index``, ``context`` and ``answers``; else ``index``, ``context``, ``choices``,
            ``lengths`` of the options in tokens, and ``right``, the places of the right options. Where the end of the
            prompt stands in the choices, the last choice is that alone, and there is one more choice than lengths.

        Raises:
            DataError: if no texts give a row's tokens.
        """
        return [self._answer(e) if task.generates else self._choice(e) for e in encoded]

    def _answer(self, e: Encoded) -> dict[str, Any]:
        context = self.start + (self._decoded(e.prompt) if e.truncated else e.example.prompt.strip(" "))
        if self._ids(context) != [*e.prompt]:
            raise self._refused(e)
        return {"index": e.example.index, "context": context, "answers": [*e.example.answers]}

    def _choice(self, e: Encoded) -> dict[str, Any]:
        prompt = e.example.prompt.strip(" ")
        options = [(e.example.prompt + option).strip(" ")[len(prompt) :] for option in e.example.options]
        if e.truncated:
            prompt = self._decoded(e.rows[0].ids[: -e.rows[0].option_len])
        for context, rest in _divided(self.start + prompt):
            choices = [rest + option for option in options] + ([rest] if rest else [])
            if self._fits(e, context, choices):
                return {
                    "index": e.example.index,
                    "context": context,
                    "choices": choices,
                    "lengths": [row.option_len for row in e.rows],
                    "right": [*e.example.rights],
                }
        raise self._refused(e)

    def _fits(self, e: Encoded, context: str, choices: Sequence[str]) -> bool:
        """Whether the harness would run a row's own tokens, and score those of the options, or of them and a rest."""
        known = self._ids(context)
        asked = [self._ids(context + choice)[len(known) :] for choice in choices]
        rest = asked.pop() if len(choices) > len(e.rows) else []
        prompt = (*known, *rest)
        return (len(choices) == len(e.rows) or bool(rest)) and all(
            (*known, *ids) == row.ids and row.ids[: -row.option_len] == prompt
            for ids, row in zip(asked, e.rows, strict=True)
        )

    def _ids(self, text: str) -> list[int]:
        return list(self.encoder.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _decoded(self, ids: Sequence[int]) -> str:
        """The text of a prompt that lost tokens on the left; what follows its start token."""
        return str(self.encoder.tokenizer.decode([*ids][1 if self.start else 0 :], clean_up_tokenization_spaces=False))

    def _refused(self, e: Encoded) -> DataError:
        why = (
            f"it was cut to max_length={self.encoder.max_length}; raise model.max_length in the run"
            if e.truncated
            else "tokens of its prompt change with what follows; begin options with a space"
        )
        return DataError(f"--lm-eval: row {e.example.index}: no texts give lm-evaluation-harness its tokens: {why}")


def _divided(prompt: str) -> Iterator[tuple[str, str]]:
    """A prompt in two, nothing or white space first in the second part, which is as short as can be, then longer.

    >>> list(_divided("Is it so?\\n"))
    [('Is it so?', '\\n'), ('Is it', ' so?\\n'), ('Is', ' it so?\\n')]
    """
    end = len(prompt.rstrip())
    for _ in range(_WORDS):
        if not end:
            return
        yield prompt[:end], prompt[end:]
        words = prompt[:end].split()
        end = len(prompt[: end - len(words[-1])].rstrip())
