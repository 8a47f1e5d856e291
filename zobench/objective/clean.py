"""Losses and scores of the clean protocol: forwards that compute only what the loss needs, fp32 on the option's rows.

Rows are padded on the right, so no attention mask is needed and an example's numbers do not depend on its neighbours
beyond rounding. Logits are computed at the option's positions alone. Where every option is one token after the same
prompt, one sequence per example serves all options; the softmax normaliser then cancels in the training loss, and two
rows of the head suffice.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zobench.objective.cuts import LastAttention, Tail, pad_right, pick
from zobench.objective.encode import MAX_NEW_TOKENS, Encoded, Row
from zobench.objective.prefix import Prefix, frozen_layers
from zobench.objective.shelf import Shelf
from zobench.tasks.base import Task


class Objective:
    """The loss of a batch and the scores of its options, for one model and task.

    Args:
        shared_prompt: use one sequence per example where possible; False forces one per option (for tests).
        cache_gib: memory for activations of frozen lower layers; 0 turns the cache off.
        shelf: where those activations are kept for other runs; None for nowhere.
        length_buckets: the sequences of a forward are sorted by length and run in so many parts, each padded to its
            own longest. Less padding is computed; numbers change by rounding alone.
        trim_last_layer: run what follows the last attention at the option's positions alone; False for tests.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: Task,
        *,
        cache_gib: float = 0.0,
        shared_prompt: bool = True,
        shelf: Shelf | None = None,
        length_buckets: int = 1,
        trim_last_layer: bool = True,
    ):
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.shared_prompt, self.length_buckets = shared_prompt, length_buckets
        self.device = next(model.parameters()).device  # of the inputs
        self.top = model.get_output_embeddings().weight.device  # of what the head gives
        self.tokens = 0
        depth = frozen_layers(model) if cache_gib > 0 else 0
        budget = int(cache_gib * 2**30)
        self.prefix = Prefix(model, self._backbone, depth=depth, budget_bytes=budget, shelf=shelf) if depth else None
        decoder = model.get_decoder() if hasattr(model, "get_decoder") and not depth else None
        fits = trim_last_layer and LastAttention.fits(decoder, self._backbone)
        self._last = LastAttention(decoder, self._backbone) if fits else None

    def loss_sum(self, batch: Sequence[Encoded]) -> tuple[Tensor, int]:
        """Summed loss and ``weight``. Their ratio is the loss."""
        if self.task.loss == "lm":
            logits = self._option_log_probs([e.rows[e.gold] for e in batch])
            return -torch.cat(logits).sum(), self.weight(batch)
        gold = torch.tensor([e.gold for e in batch], device=self.top)
        if (pairs := self._shared(batch)) is not None:
            hidden = self._hidden([Tail(prompt, 1) for prompt, _ in pairs])
            options = torch.tensor([ids for _, ids in pairs], device=self.top)
            rows = self._head()[options].float()
            scores = torch.einsum("eh,eoh->eo", hidden.float(), rows)
            return F.cross_entropy(scores, gold, reduction="sum"), self.weight(batch)
        losses = [F.cross_entropy(s[None], gold[i : i + 1]) for i, s in enumerate(self._means(batch))]
        return torch.stack(losses).sum(), self.weight(batch)

    def weight(self, batch: Sequence[Encoded]) -> int:
        """Examples for classification, answer tokens for lm."""
        return sum(e.rows[e.gold].option_len for e in batch) if self.task.loss == "lm" else len(batch)

    def scores(self, batch: Sequence[Encoded]) -> list[list[float]]:
        """Mean log-probability of each option's tokens, per example."""
        if (pairs := self._shared(batch)) is not None:
            logits = F.linear(self._hidden([Tail(prompt, 1) for prompt, _ in pairs]), self._head()).float()
            normalised = torch.log_softmax(logits, dim=-1)
            return [[float(normalised[i, t]) for t in ids] for i, (_, ids) in enumerate(pairs)]
        return [s.tolist() for s in self._means(batch)]

    def answer_losses(self, batch: Sequence[Encoded]) -> list[tuple[float, int]]:
        """Per example the summed loss of the answer's tokens, and their number (lm tasks)."""
        found = self._option_log_probs([e.rows[e.gold] for e in batch])
        return [(-float(x.sum()), len(x)) for x in found]

    def generate(self, batch: Sequence[Encoded]) -> list[str]:
        """Greedy continuations of the prompts, up to a newline, the end token or 50 tokens."""
        from transformers import GenerationConfig

        # Greedy means greedy: a checkpoint may bring habits, such as a repetition penalty.
        self.model.generation_config = GenerationConfig()
        stop = self.tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
        width = max(len(e.prompt) for e in batch)
        ids = torch.tensor([[0] * (width - len(e.prompt)) + list(e.prompt) for e in batch], device=self.device)
        mask = torch.tensor([[0] * (width - len(e.prompt)) + [1] * len(e.prompt) for e in batch], device=self.device)
        ends = [stop] + ([self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else [])
        out = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[-1],
        )
        new = [self._until(row[width:].tolist(), ends) for row in out]
        return [self.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in new]

    def prepare(self, examples: Sequence[Encoded], progress: Callable[[int], None] = lambda n: None) -> int:
        """Fill the cache of frozen layers for these examples. Returns its size in bytes."""
        if self.prefix is None:
            return 0
        self.prefix.fill(self.tails(examples), progress)
        return self.prefix.bytes

    def tails(self, examples: Sequence[Encoded]) -> list[Tail]:
        """The distinct requests for hidden states that losses and scores of these examples consist of."""
        found: dict[Tail, None] = {}
        for e in examples:
            pair = e.shared if self.shared_prompt and self.task.loss == "classification" else None
            for tail in [Tail(pair[0], 1)] if pair else map(_tail, e.rows):
                found[tail] = None
        return list(found)

    @staticmethod
    def _until(tokens: list[int], ends: list[int]) -> list[int]:
        stops = [i for i, token in enumerate(tokens) if token in ends]
        return tokens[: stops[0]] if stops else tokens

    def _shared(self, batch: Sequence[Encoded]) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
        pairs = [e.shared for e in batch] if self.shared_prompt else [None]
        found = [pair for pair in pairs if pair is not None]
        return found if len(found) == len(batch) and len({len(ids) for _, ids in found}) == 1 else None

    def _means(self, batch: Sequence[Encoded]) -> list[Tensor]:
        found = iter(self._option_log_probs([row for e in batch for row in e.rows]))
        return [torch.stack([next(found).mean() for _ in e.rows]) for e in batch]

    def _option_log_probs(self, rows: Sequence[Row]) -> list[Tensor]:
        """fp32 log-probabilities of each row's option tokens."""
        logits = F.linear(self._hidden([_tail(row) for row in rows]), self._head()).float()
        targets = torch.tensor([t for row in rows for t in row.ids[-row.option_len :]], device=self.top)
        found = torch.log_softmax(logits, dim=-1).gather(-1, targets[:, None])[:, 0]
        return list(found.split([row.option_len for row in rows]))

    def _hidden(self, tails: Sequence[Tail]) -> Tensor:
        """Last hidden states at the requested positions (positions × width), one request after another."""
        self.tokens += sum(len(tail.ids) for tail in tails)
        order = sorted(range(len(tails)), key=lambda i: len(tails[i].ids))
        size = -(-len(tails) // self.length_buckets)
        if size == len(tails):
            return self._run(tails).to(self.top)
        parts: list[Tensor] = [torch.empty(0)] * len(tails)
        for start in range(0, len(tails), size):
            chosen = order[start : start + size]
            found = self._run([tails[i] for i in chosen]).split([tails[i].last for i in chosen])
            for i, part in zip(chosen, found, strict=True):
                parts[i] = part
        return torch.cat(parts).to(self.top)

    def _run(self, tails: Sequence[Tail]) -> Tensor:
        if self.prefix:
            return self.prefix.hidden(tails)
        if self._last:
            return self._last.above(self._last.below(tails), tails)
        return pick(self._backbone(pad_right([tail.ids for tail in tails], self.device)), tails)

    def _backbone(self, ids: Tensor) -> Tensor:
        return self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    def _head(self) -> Tensor:
        return self.model.get_output_embeddings().weight


def _tail(row: Row) -> Tail:
    """Where the option's tokens are predicted from; the last token predicts nothing."""
    return Tail(row.ids[:-1], row.option_len)
