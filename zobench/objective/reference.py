"""The reference: what a model's plain forward pass gives for some examples, one sequence at a time."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zobench.errors import ModelError, first_line, is_out_of_memory
from zobench.objective.cuts import Tail
from zobench.objective.encode import Encoded
from zobench.objective.virtual_tokens import as_past, prefixed


@dataclass(frozen=True)
class Reference:
    """What the plain forward pass gives for some examples, at the weights as they were.

    Attributes:
        logits: of each sequence, its predictions (positions × vocabulary), fp32; of the shortest at all positions.
        scores: mean log-probability of each option, examples one after another.
        tolerance: what rounding may change in a score or a loss, in nats: ``√ε/2`` of the spread of the logits over
            the vocabulary, where ε is that of the model's dtype, and the last digits of the largest score.
    """

    logits: dict[Tail, Tensor]
    scores: list[float]
    tolerance: float

    @staticmethod
    def of(model: Any, examples: Sequence[Encoded]) -> "Reference":
        """Run the model on each sequence of the examples alone. Raises ModelError if a number is not finite."""
        rows = [row for e in examples for row in e.rows]
        tails = {row.tail: None for row in rows}
        shortest = min(tails, key=lambda tail: len(tail.ids))
        logits = {tail: plain_logits(model, tail.ids, 0 if tail == shortest else tail.last) for tail in tails}
        scores = []
        for row in rows:
            log_probs = torch.log_softmax(logits[row.tail][-row.option_len :], dim=-1)
            option = torch.tensor(row.ids[-row.option_len :], device=log_probs.device)
            scores.append(float(log_probs.gather(-1, option[:, None]).mean()))
        if not all(map(math.isfinite, scores)):
            raise ModelError(
                f"{type(model).__name__}: its log-probabilities are not finite before any step, with weights in "
                f"{str(model.dtype).partition('.')[2]}; check the model's files, or set another dtype"
            )
        spread = sum(_spread(x) for x in logits.values()) / len(logits)
        eps = torch.finfo(model.dtype).eps
        return Reference(logits, scores, math.sqrt(eps) / 2 * spread + (2 * eps + 1e-5) * max(map(abs, scores)))

    def loss(self, examples: Sequence[Encoded], kind: str) -> float:
        """The mean loss of these examples, over answer tokens for ``lm``, over examples for ``classification``."""
        scores, total, terms = iter(self.scores), 0.0, 0
        for e in examples:
            options = torch.tensor([next(scores) for _ in e.rows], dtype=torch.float64)
            if kind == "lm":
                count = e.rows[e.gold].option_len
                total -= float(options[e.gold]) * count
            else:
                count = 1
                total += float(F.cross_entropy(options, torch.tensor(e.gold)))
            terms += count
        return total / terms


def check_causal(model: Any, reference: Reference) -> None:
    """Change the second half of the shortest sequence: what is predicted in the first must stay.

    Raises:
        ModelError: if it does not, in a model that sees what it is asked to predict.
    """
    tail, before = min(reference.logits.items(), key=lambda item: len(item[0].ids))
    ids, half = tail.ids, len(tail.ids) // 2
    if not half:
        return
    other = tuple(t - 1 if t else t + 1 for t in ids[half:])
    change = _spread((plain_logits(model, ids[:half] + other, 0) - before)[:half])
    if not change <= (8 * torch.finfo(model.dtype).eps + 1e-4) * _spread(before):
        raise ModelError(
            f"{type(model).__name__} is no causal language model: other last tokens change what is predicted before "
            f"them, by {change:.2g} nats; expected a model that predicts each token from those before it, as OPT does"
        )


def plain_logits(model: Any, ids: tuple[int, ...], last: int) -> Tensor:
    """The model's logits (positions × vocabulary), fp32, for a sequence that is run alone.

    Virtual tokens are given to it as a past, which is another way than ``virtual_tokens.attend``.

    Args:
        ids: its tokens.
        last: how many positions at its end; 0 for all.

    Raises:
        ModelError: if the model's code fails, such as at a sequence that is too long for it.
    """
    # Where the model can, it makes the logits that are asked for alone: all of a long sequence take much memory.
    few = {"logits_to_keep": last} if last and "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    inputs = torch.tensor([ids], device=next(model.parameters()).device)
    try:
        with as_past(model, len(ids)) as past:
            out = model(input_ids=inputs, use_cache=bool(past), **few, **past)
    except Exception as error:  # each family fails in its own way
        if is_out_of_memory(error):
            raise
        if prefixed(model):
            raise ModelError(
                f"tuning=prefix: {type(model).__name__} takes no keys and values as a past: {type(error).__name__}: "
                f"{first_line(error)}; use tuning=lora, last_layers or full"
            ) from error
        raise ModelError(
            f"{type(model).__name__} cannot run a sequence of {len(ids)} tokens: {type(error).__name__}: "
            f"{first_line(error)}; if that is too long for it, set model.max_length"
        ) from error
    return out.logits[0, -last:].float()


def _spread(logits: Tensor) -> float:
    """The standard deviation of logits over the vocabulary, the mean of all positions; infinite ones apart."""
    return float(torch.stack([row[row.isfinite()].std() for row in logits]).mean())
