"""Losses and scores of the clean protocol: forwards that compute only what the loss needs, fp32 on the option's rows.

Rows are padded on the right, so no attention mask is needed and an example's numbers do not depend on its neighbours
beyond rounding. Logits are computed at the option's positions alone. Where every option is one token after the same
prompt, one sequence per example serves all options; the softmax normaliser then cancels in the training loss, and the
options' rows of the head suffice.

The losses are those of the MeZO suite (arXiv:2305.17333; princeton-nlp/MeZO @552cb1b), apart from the dtype:
classification tasks take the cross-entropy over the options' mean log-probabilities, lm tasks that of the answer's
tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from zobench.objective.cuts import AttentionCut
from zobench.objective.encode import MAX_NEW_TOKENS, Encoded, Row
from zobench.objective.generation import Greedy
from zobench.objective.heads import NoHead, WeightHead
from zobench.objective.paths import Path, paths
from zobench.objective.prefix import Prefix
from zobench.objective.rows import PART, Buckets, Tail, equal_parts, in_parts, plan
from zobench.objective.shelf import Shelf
from zobench.tasks.base import Task
from zobench.zo import owners


class Objective:
    """The loss of a batch and the scores of its options, for one model and task.

    It takes the fastest of the model's paths. Whether that computes the model's own function only ``check.settle``
    knows, which takes another where it does not.

    Args:
        model: a causal language model of transformers in evaluation mode, its trainable parameters marked.
        tokenizer: the model's; generation decodes with it.
        task: tells which loss is meant.
        shared_prompt: use one sequence per example where possible; False forces one per option (for tests).
        cache_gib: memory for activations of frozen lower layers; 0 turns the cache off.
        shelf: where those activations are kept for other runs; None for nowhere.
        length_buckets: ``auto`` packs the sequences of a forward into one row, without padding; where the model does
            not allow it, they run in parts by length, so many as save time. A number: so many parts of as many
            sequences each, padded to their own longest; nothing is packed. Numbers change by rounding alone.
        trim_last_layer: run what follows the last attention at the option's positions alone; False for tests.

    Attributes:
        paths: the ways from requests to logits that there are for the model, the fastest first.
        path: the one that is taken.
        tokens: how many tokens losses and scores have run through the model, padding not counted.
        device: of the inputs.
        head_device: of the logits; another one where a model is spread over GPUs.
    """

    #: what to do where none of the paths gives the model's own numbers
    unfit: ClassVar[str] = "zobench cannot train such a model"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: Task,
        *,
        cache_gib: float = 0.0,
        shared_prompt: bool = True,
        shelf: Shelf | None = None,
        length_buckets: Buckets = "auto",
        trim_last_layer: bool = True,
    ):
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.shared_prompt, self.length_buckets = shared_prompt, length_buckets
        self.device = next(model.parameters()).device
        self.head_device = model.get_output_embeddings().weight.device
        self.tokens = 0
        pack = length_buckets == "auto"
        self.paths = paths(model, cache_gib=cache_gib, shelf=shelf, trim=trim_last_layer, pack=pack)
        self.path: Path = self.paths[0]

    @property
    def prefix(self) -> Prefix | None:
        """The cache of frozen layers; None without one."""
        return self.path.prefix

    @property
    def forward_path(self) -> str:
        """What of the model runs in a forward pass: the same function, computed in another way.

        ``whole``: all of it, at all positions. ``trimmed``: what follows the last attention runs at the option's
        positions alone. ``from layer 8``, ``from the last attention``: what lies below is frozen and was run once.
        ``..., the model's own head``: not the product with the head's weight, but the model's code for it.
        ``all logits``: the model's plain forward pass; ``..., one sequence at a time``: without any padding.
        """
        return self.path.name

    @property
    def padding(self) -> str:
        """What is padded where sequences of unlike length run together: columns.py has the words."""
        if not self.path.pads:
            longest = self.path.packing.longest if self.path.packing else None
            return f"none up to {longest} tokens" if longest else "none"
        if self.length_buckets == "auto":
            return "by length"
        return "to the longest" if self.length_buckets == 1 else f"in {self.length_buckets} parts"

    def loss_sum(self, batch: Sequence[Encoded]) -> tuple[Tensor, int]:
        """The summed loss of a batch, and the ``weight`` to divide it by: sums of micro-batches add up to a batch's.

        Returns:
            A scalar tensor in fp32, with a graph where gradients are enabled; and a count.
        """
        return self.loss_sums(batch)[0], self.weight(batch)

    def loss_sums(self, batch: Sequence[Encoded], copies: int = 1, examples: bool = False) -> Tensor:
        """The summed losses of repetitions of a batch, all of whose sequences run in one forward pass.

        They differ where the weights do: an oracle may show other weights to each repetition.

        Args:
            batch: some examples, at least one.
            copies: how often the batch's sequences are repeated, one whole batch after another.
            examples: give the loss of each example, not their sum.

        Returns:
            One sum for each repetition, fp32 of shape (copies,), with a graph where gradients are enabled; or
            (copies, examples).
        """
        with self._owned(batch):
            return self._loss_sums(batch, copies, examples)

    @contextmanager
    def _owned(self, batch: Sequence[Encoded]) -> Iterator[None]:
        """A context that tells whose rows the loss of a batch runs."""
        tails = self._loss_tails(batch)
        whose = range(len(batch)) if len(tails) == len(batch) else [i for i, e in enumerate(batch) for _ in e.rows]
        with owners.sequences(whose, [len(tail.ids) for tail in tails], [tail.last for tail in tails]):
            yield

    def _loss_sums(self, batch: Sequence[Encoded], copies: int, examples: bool) -> Tensor:
        n = len(batch)
        if self.task.loss == "lm":
            found = self._option_log_probs([e.rows[e.gold] for e in batch], copies)
            repeats = [found[start : start + n] for start in range(0, copies * n, n)]
            if examples:
                return torch.stack([torch.stack([-x.sum() for x in each]) for each in repeats])
            return torch.stack([-torch.cat(each).sum() for each in repeats])
        gold = torch.tensor([e.gold for e in batch], device=self.head_device)
        if (pairs := self._shared_prompts(batch)) is not None:
            hidden = self._hidden([Tail(prompt, 1) for prompt, _ in pairs], copies)
            scores = self.path.head.chosen(hidden, self._ids(pairs).repeat(copies, 1)).chunk(copies)
            reduction = "none" if examples else "sum"
            return torch.stack([F.cross_entropy(each, gold, reduction=reduction) for each in scores])
        means = enumerate(self._option_means(batch, copies))
        losses = torch.stack([F.cross_entropy(s[None], gold[i % n : i % n + 1]) for i, s in means])
        return losses.view(copies, n) if examples else torch.stack([each.sum() for each in losses.chunk(copies)])

    def loss_tokens(self, batch: Sequence[Encoded]) -> int:
        """How many tokens ``loss_sum`` runs through the model, which is not run here."""
        return sum(len(tail.ids) for tail in self._loss_tails(batch))

    def loss_rows(self, batch: Sequence[Encoded]) -> int:
        """How many rows the matrix products of ``loss_sum`` have, padding apart: one for each position that is run."""
        return sum(self.path.rows(tail) for tail in self._loss_tails(batch))

    def loss_load(self, batch: Sequence[Encoded]) -> int:
        """``loss_rows``, and for each position whose logits are made in full as many rows as take their memory.

        Within a layer a row takes about 12 times the model's width, in numbers; logits are held in three copies.
        """
        tails, (vocabulary, width) = self._loss_tails(batch), self.model.get_output_embeddings().weight.shape
        if isinstance(self.path.head, NoHead):
            whole = sum(len(tail.ids) for tail in tails)
        elif isinstance(self.path.head, WeightHead) and self._shared_prompts(batch) is not None:
            whole = 0
        else:
            whole = sum(tail.last for tail in tails)
        return self.loss_rows(batch) + whole * vocabulary // (4 * width)

    def _loss_tails(self, batch: Sequence[Encoded]) -> list[Tail]:
        """The requests that the loss of a batch makes."""
        return [e.rows[e.gold].tail for e in batch] if self.task.loss == "lm" else self.score_tails(batch)

    def score_tails(self, batch: Sequence[Encoded]) -> list[Tail]:
        """The requests that the scores of a batch's options make."""
        if (pairs := self._shared_prompts(batch)) is not None:
            return [Tail(prompt, 1) for prompt, _ in pairs]
        return [row.tail for e in batch for row in e.rows]

    def weight(self, batch: Sequence[Encoded]) -> int:
        """How many terms the loss of a batch averages: its examples for classification, its answer tokens for lm."""
        return sum(e.rows[e.gold].option_len for e in batch) if self.task.loss == "lm" else len(batch)

    def scores(self, batch: Sequence[Encoded]) -> list[list[float]]:
        """Mean log-probability of each option's tokens, in fp32: one list per example, in the order of its options."""
        if (pairs := self._shared_prompts(batch)) is not None:
            hidden = self._hidden([Tail(prompt, 1) for prompt, _ in pairs])
            chosen = self.path.head.chosen(hidden, self._ids(pairs))
            return (chosen - self.path.head.logits(hidden).logsumexp(-1, keepdim=True)).tolist()
        return [s.tolist() for s in self._option_means(batch)]

    def relative_scores(self, batch: Sequence[Encoded]) -> list[list[float]]:
        """Scores of options up to a number that the options of an example share, which choices and losses do not need.

        Where options are one token each, their logits are made alone, and not those of the whole vocabulary.
        """
        if self.task.loss == "lm" or (pairs := self._shared_prompts(batch)) is None:
            return self.scores(batch)
        hidden = self._hidden([Tail(prompt, 1) for prompt, _ in pairs])
        return self.path.head.chosen(hidden, self._ids(pairs)).tolist()

    def answer_losses(self, batch: Sequence[Encoded]) -> list[tuple[float, int]]:
        """The summed loss of each example's answer tokens, and how many these are; for lm tasks."""
        log_probs = self._option_log_probs([e.rows[e.gold] for e in batch])
        return [(-float(x.sum()), len(x)) for x in log_probs]

    @cached_property
    def greedy(self) -> Greedy:
        """What answers prompts; made when it is asked for, as it looks through the whole vocabulary."""
        return Greedy(self.model, self.tokenizer)

    def generate(self, batch: Sequence[Encoded], max_new_tokens: int = MAX_NEW_TOKENS) -> list[str | None]:
        """Greedy answers to the prompts, in one line; None where the scores of one are not finite."""
        return self.greedy.texts([e.prompt for e in batch], max_new_tokens)

    def prepare(self, examples: Sequence[Encoded], progress: Callable[[int], None] = lambda n: None) -> int:
        """Fill the cache of frozen layers for these examples.

        Args:
            progress: called with the number of sequences that were just done.

        Returns:
            The size of the cache in bytes; 0 without one.
        """
        if self.prefix is None:
            return 0
        self.prefix.fill(self.tails(examples), progress)
        return self.prefix.bytes

    def tails(self, examples: Sequence[Encoded]) -> list[Tail]:
        """The requests for hidden states that losses and scores of these examples consist of, each once."""
        requests: dict[Tail, None] = {}
        for e in examples:
            pair = e.shared if self.shared_prompt and self.task.loss == "classification" else None
            for tail in [Tail(pair[0], 1)] if pair else (row.tail for row in e.rows):
                requests[tail] = None
        return list(requests)

    def _ids(self, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Tensor:
        """The ids of options of one token: one row for each pair of a prompt and these."""
        return torch.tensor([ids for _, ids in pairs], device=self.head_device)

    def _shared_prompts(self, batch: Sequence[Encoded]) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
        """Each example's prompt and one id per option; None unless all examples have as many options of one token."""
        pairs = [e.shared for e in batch] if self.shared_prompt else [None]
        shared = [pair for pair in pairs if pair is not None]
        return shared if len(shared) == len(batch) and len({len(ids) for _, ids in shared}) == 1 else None

    def _option_means(self, batch: Sequence[Encoded], copies: int = 1) -> list[Tensor]:
        """Mean log-probability of each option's tokens: one tensor per example of each repetition."""
        log_probs = iter(self._option_log_probs([row for e in batch for row in e.rows], copies))
        return [torch.stack([next(log_probs).mean() for _ in e.rows]) for e in [*batch] * copies]

    def _option_log_probs(self, rows: Sequence[Row], copies: int = 1) -> list[Tensor]:
        """Log-probabilities of each row's option tokens, fp32: one tensor per row of each repetition."""
        logits = self.path.head.logits(self._hidden([row.tail for row in rows], copies))
        targets = [t for row in rows for t in row.ids[-row.option_len :]] * copies
        chosen = torch.tensor(targets, device=self.head_device)[:, None]
        log_probs = torch.log_softmax(logits, dim=-1).gather(-1, chosen)[:, 0]
        return list(log_probs.split([row.option_len for row in rows] * copies))

    def _hidden(self, tails: Sequence[Tail], copies: int = 1) -> Tensor:
        """What the head is given at the requested positions, one request after another (positions × features).

        Args:
            copies: how many times the requests run in one forward pass; results come copy after copy.
        """
        lengths = tuple(len(tail.ids) for tail in tails)
        self.tokens += copies * sum(lengths)
        return in_parts(self.path.run, tails, self._parts(lengths), copies).to(self.head_device)

    def _parts(self, lengths: tuple[int, ...]) -> Sequence[Sequence[int]]:
        """The places of the requests of each forward pass."""
        if self.length_buckets != "auto":
            return equal_parts(lengths, self.length_buckets)
        if self.path.pads:
            return plan(lengths, PART.get(self.device.type, PART["cuda"]))
        if self.path.packing is None or self.path.place == AttentionCut.place:
            return [range(len(lengths))]
        return self.path.packing.parts(lengths, self.device)
