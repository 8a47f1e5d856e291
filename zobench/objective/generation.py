"""Greedy answers in one line: they end at the first newline, whichever token brings it, or at an end token.

Tokenizers differ in how a newline comes: a token of its own (OPT), also joined to what stands before it (``.\\n`` of
Llama 3 and Qwen) or to another newline, or a byte of a sentencepiece vocabulary.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from zobench.objective.encode import MAX_NEW_TOKENS
from zobench.objective.rotary import mixes_frequencies

#: largest difference of log-probabilities that padding may make by rounding: in fp32 and more, and in 16 bits
_ROUNDING = {4: 1e-3, 2: 0.3}
_TRIED = 10


def newline_tokens(tokenizer: Any) -> frozenset[int]:
    """The ids of all tokens whose text holds a newline.

    >>> from zobench.models.tiny import tiny_tokenizer
    >>> tokenizer = tiny_tokenizer()
    >>> sorted(newline_tokens(tokenizer)) == tokenizer("\\n", add_special_tokens=False)["input_ids"]
    True
    """
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return frozenset(token for token, text in enumerate(texts) if "\n" in text)


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end a text: the tokenizer's, and those of the checkpoint's ``generation_config``, maybe several."""
    found: set[int] = set()
    for ids in (tokenizer.eos_token_id, getattr(model.generation_config, "eos_token_id", None)):
        found |= set() if ids is None else {ids} if isinstance(ids, int) else set(ids)
    return frozenset(found)


class Greedy:
    """Continues prompts by the likeliest token, of a batch at a time.

    Prompts are padded on the left and masked. Whether the model's answers are then those it gives one at a time is
    tried on the first batch that needs padding; where they are not, prompts of one length go together.

    Args:
        model: of transformers; its own ``generation_config`` is not used but for its end tokens.
        tokenizer: decodes.
        stops: the ids after which nothing more is generated, end tokens aside; those with a newline if None.
        ends: the end tokens; those of tokenizer and model if None.
    """

    #: whether an answer is cut at its first newline
    one_line = True

    def __init__(
        self, model: Any, tokenizer: Any, stops: Collection[int] | None = None, ends: Collection[int] | None = None
    ):
        self.model, self.tokenizer = model, tokenizer
        self.ends = frozenset(end_tokens(model, tokenizer) if ends is None else ends)
        self.stops = frozenset(newline_tokens(tokenizer) if stops is None else stops) | self.ends
        self._pads: bool | None = None

    def settle(self, prompts: Sequence[Sequence[int]], pads: bool = True) -> None:
        """Decide now, for all that is to come, whether prompts are padded: what a step sees must not hang on the past.

        Args:
            prompts: of which the shortest is tried beside the longest.
            pads: False for never.
        """
        lengths = [len(prompt) for prompt in prompts]
        if len({*lengths}) > 1:
            self._pads = pads and self._padding_changes_nothing(min(prompts, key=len), max(lengths))

    def texts(self, prompts: Sequence[Sequence[int]], max_new_tokens: int = MAX_NEW_TOKENS) -> list[str | None]:
        """The answer to each prompt: one line, decoded without special tokens and stripped of white space.

        Returns:
            None in the place of an answer where the scores of its tokens are not finite.
        """
        lengths = sorted({len(prompt) for prompt in prompts})
        if self._pads is None:
            self.settle(prompts)
        mixed = mixes_frequencies(self.model, [lengths[0], lengths[-1] + max_new_tokens])
        groups = [lengths] if self._pads and not mixed else [[length] for length in lengths]
        found: dict[int, str | None] = {}
        for group in groups:
            places = [i for i, prompt in enumerate(prompts) if len(prompt) in group]
            finite = _Finite()
            out = self._run([prompts[i] for i in places], group[-1], max_new_tokens, logits_processor=[finite])
            for i, row, fine in zip(places, out.sequences[:, group[-1] :].tolist(), finite.rows, strict=True):
                found[i] = self._text(row) if fine else None
        return [found[i] for i in range(len(prompts))]

    def _text(self, tokens: list[int]) -> str:
        stop = next((i for i, token in enumerate(tokens) if token in self.stops), len(tokens))
        # What stops may hold the last of the answer, as ".\n" does.
        kept = tokens[: stop + 1] if stop < len(tokens) and tokens[stop] not in self.ends else tokens[:stop]
        text = str(self.tokenizer.decode(kept, skip_special_tokens=True))
        return (text.partition("\n")[0] if self.one_line else text).strip()

    def _run(self, prompts: Sequence[Sequence[int]], width: int, count: int, **options: Any) -> Any:
        """What transformers' ``generate`` gives for prompts padded on the left to a width."""
        device = next(self.model.parameters()).device
        blank = [width - len(prompt) for prompt in prompts]
        ids = torch.tensor([[0] * n + list(prompt) for n, prompt in zip(blank, prompts, strict=True)], device=device)
        mask = torch.tensor([[0] * n + [1] * (width - n) for n in blank], device=device)
        stops = sorted(self.stops)
        with _without_habits(self.model):
            return self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=count,
                do_sample=False,
                eos_token_id=stops or None,
                pad_token_id=stops[-1] if stops else 0,
                return_dict_in_generate=True,
                **options,
            )

    def _padding_changes_nothing(self, prompt: Sequence[int], width: int) -> bool:
        """Whether the first tokens' log-probabilities after a prompt are, padded, what they are without padding."""
        padded, alone = (self._run([prompt], size, 2, output_logits=True).logits for size in (width, len(prompt)))
        for one, other in zip(padded, alone, strict=False):
            likeliest = other[0].topk(min(_TRIED, other.shape[-1])).indices
            logs = [torch.log_softmax(logits[0].float(), -1)[likeliest] for logits in (one, other)]
            if not float((logs[0] - logs[1]).abs().max()) <= _ROUNDING[min(4, self.model.dtype.itemsize)]:
                return False
            if one[0].argmax() != other[0].argmax():
                break
        return True


class _Finite:
    """Sees the scores of each next token; ``rows`` says of which sequences the highest was always finite."""

    def __init__(self) -> None:
        self.seen: Tensor | None = None

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        fine = scores.amax(-1).isfinite()
        self.seen = fine if self.seen is None else self.seen & fine
        return scores

    @property
    def rows(self) -> list[bool]:
        assert self.seen is not None
        return [bool(fine) for fine in self.seen.tolist()]


@contextmanager
def _without_habits(model: Any) -> Iterator[None]:
    """A context in which greedy means greedy: a checkpoint may bring habits, such as a repetition penalty."""
    from transformers import GenerationConfig

    before, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before
