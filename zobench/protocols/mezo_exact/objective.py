"""Losses and scores as the 2023 MeZO code computes them, for ``protocol=mezo_exact``.

Left padding to a multiple of 8 with a mask, one row per candidate, full logits, and all arithmetic in the model's
dtype. The order of every sum is the official one, since golden numbers hold it to the bit in fp32 with eager attention.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zobench.objective.clean import Objective
from zobench.objective.encode import Encoded, Row
from zobench.objective.generation import Greedy
from zobench.objective.heads import NoHead
from zobench.objective.paths import Path
from zobench.objective.virtual_tokens import prefixed
from zobench.tasks.base import Task

#: the target of a position that no loss is taken at; torch's convention
IGNORED = -100


def pad_left(rows: Sequence[Row], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids padded on the left to a multiple of 8, and the attention mask: both int64 of rows × width.

    Args:
        pad: the token id that pads.
    """
    width = -(-max(len(row.ids) for row in rows) // 8) * 8
    ids = torch.tensor([[pad] * (width - len(r.ids)) + list(r.ids) for r in rows], device=device)
    mask = torch.tensor([[0] * (width - len(r.ids)) + [1] * len(r.ids) for r in rows], device=device)
    return ids, mask


class SeveralLines(Greedy):
    """Answers as they come: a newline within another token neither ends them nor is cut.

    Of a model with virtual tokens, all tokens after the first that is generated stand as many places further on as
    there are virtual ones; in training and scoring none does.
    """

    one_line = False

    def _run(self, *args: Any, **options: Any) -> Any:
        modules = prefixed(self.model)
        count = len(modules[0].prefix_keys) if modules else 0

        def move(model: Any, args: Any, kwargs: Any) -> Any:
            places = kwargs.get("position_ids")
            return (
                (args, kwargs | {"position_ids": places + count})
                if places is not None and places.shape[1] == 1
                else None
            )

        with self.model.register_forward_pre_hook(move, with_kwargs=True):
            return super()._run(*args, **options)


class OfficialObjective(Objective):
    """An ``Objective`` with the official arithmetic: no cache, no shared prompt, all logits, the model's dtype."""

    unfit = "protocol=mezo_exact pads on the left, which changes what this model computes; use protocol=clean"

    def __init__(self, model: Any, tokenizer: Any, task: Task):
        super().__init__(model, tokenizer, task, length_buckets=1, trim_last_layer=False)
        self.paths = [Path("whole", self.path.run, NoHead())]  # its own forward passes, below
        self.path = self.paths[0]

    def loss_sum(self, batch: Sequence[Encoded]) -> tuple[Tensor, int]:
        """The official mean over a batch, with weight 1: the code has no micro-batches."""
        if self.task.loss == "lm":
            logits, targets = self._logits_and_targets([e.rows[e.gold] for e in batch])
            return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)), 1
        means = self._row_means([row for e in batch for row in e.rows])
        gold = [torch.tensor([e.gold], device=self.device) for e in batch]
        counts = [len(e.rows) for e in batch]
        if len(set(counts)) == 1:
            return F.cross_entropy(means.view(len(batch), counts[0]), torch.cat(gold)), 1
        losses = [F.cross_entropy(m[None], g) for m, g in zip(means.split(counts), gold, strict=True)]
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total / len(batch), 1

    def loss_tokens(self, batch: Sequence[Encoded]) -> int:
        rows = [e.rows[e.gold] for e in batch] if self.task.loss == "lm" else [row for e in batch for row in e.rows]
        return sum(len(row.ids) for row in rows)

    def weight(self, batch: Sequence[Encoded]) -> int:
        """Always 1: ``loss_sum`` gives a mean."""
        return 1

    def scores(self, batch: Sequence[Encoded]) -> list[list[float]]:
        """Mean log-probability of each option's tokens, one option at a time, unpadded and without a mask."""
        return [[self._log_probs(row).mean().item() for row in e.rows] for e in batch]

    relative_scores = scores

    def answer_losses(self, batch: Sequence[Encoded]) -> list[tuple[float, int]]:
        log_probs = [self._log_probs(e.rows[e.gold]) for e in batch]
        return [(-float(x.sum()), len(x)) for x in log_probs]

    @cached_property
    def greedy(self) -> Greedy:
        """Stops at the last token of a lone newline and at the tokenizer's end token, and at no other."""
        newline = self.tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
        end = self.tokenizer.eos_token_id
        return SeveralLines(self.model, self.tokenizer, [newline], [] if end is None else [end])

    def _log_probs(self, row: Row) -> Tensor:
        """Log-probabilities of a row's option tokens, in the model's dtype."""
        ids = torch.tensor([row.ids], device=self.device)
        self.tokens += len(row.ids)
        logits = self.model(input_ids=ids).logits[0, :-1]
        chosen = torch.log_softmax(logits, dim=-1)[torch.arange(len(row.ids) - 1), ids[0, 1:]]
        return chosen[-row.option_len :]

    def _row_means(self, rows: Sequence[Row]) -> Tensor:
        """Mean log-probability of each row's option tokens, in the model's dtype."""
        logits, targets = self._logits_and_targets(rows)
        mask = targets != IGNORED
        targets = targets.masked_fill(~mask, 0)
        chosen = torch.gather(F.log_softmax(logits, dim=-1), -1, targets.unsqueeze(-1)).squeeze(-1)
        return (chosen * mask).sum(-1) / mask.sum(-1)

    def _logits_and_targets(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Logits and targets of all positions but the last; all targets but the option's are ignored."""
        pad = self.tokenizer.pad_token_id or 0
        ids, mask = pad_left(rows, pad, self.device)
        self.tokens += sum(len(row.ids) for row in rows)
        logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1, :].contiguous()
        targets = ids[:, 1:].clone()
        targets[targets == pad] = IGNORED
        for i, row in enumerate(rows):
            targets[i, : -row.option_len] = IGNORED
        return logits, targets
