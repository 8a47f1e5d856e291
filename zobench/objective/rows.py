"""Rows: sequences laid out for a forward pass, padded to one length or packed one after another without any padding.

Also the plan by which padded sequences run in several parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from zobench.objective.layers import Backbone
from zobench.zo import owners, tap

Ids = tuple[int, ...]
#: in how many parts, by length, the sequences of a forward pass run; see ``clean.Objective``
Buckets = int | Literal["auto"]
#: what one more forward pass costs, in tokens of padding; on a GPU, where it waits for kernels to start, by guess
PART = {"cpu": 32, "cuda": 1024}


class Tail(NamedTuple):
    """A request for last hidden states: at the last ``last`` positions of the tokens ``ids``."""

    ids: Ids
    last: int


@dataclass(frozen=True)
class TokenRows:
    """Token ids of sequences as a rectangle, and where each sequence is in it.

    Attributes:
        ids: int64 of rows × length.
        lengths: of the sequences, in tokens.
        starts: where each begins, in ``ids`` read row by row.
        positions: of each token in its sequence, rows × length, where sequences are packed; None where each has a row.

    Example:
        >>> padded, packed = TokenRows.padded([(5, 6, 7), (8,)], "cpu"), TokenRows.packed([(5, 6, 7), (8,)], "cpu")
        >>> padded.ids.tolist(), packed.ids.tolist(), packed.positions.tolist()
        ([[5, 6, 7], [8, 0, 0]], [[5, 6, 7, 8]], [[0, 1, 2, 0]])
    """

    ids: Tensor
    lengths: tuple[int, ...]
    starts: tuple[int, ...]
    positions: Tensor | None = None

    @staticmethod
    def padded(sequences: Sequence[Ids], device: torch.device | str, copies: int = 1) -> "TokenRows":
        """A row for each sequence, with zeros after the shorter ones; ``copies`` are rows like any others.

        Under a causal mask no real token sees the padding, so that no attention mask is needed.
        """
        lengths = tuple(map(len, sequences))
        width = max(lengths)
        ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in sequences], device=device)
        return TokenRows(ids, lengths, tuple(range(0, len(lengths) * width, width)))

    @staticmethod
    def packed(sequences: Sequence[Ids], device: torch.device | str, copies: int = 1) -> "TokenRows":
        """All sequences in one row; in ``copies`` equal rows where they are so many copies of a batch."""
        lengths = tuple(map(len, sequences))
        ids = torch.tensor([token for sequence in sequences for token in sequence], device=device)
        positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        starts = (0, *accumulate(lengths[:-1]))
        return TokenRows(ids.view(copies, -1), lengths, starts, positions.view(copies, -1))

    def run(self, backbone: Backbone) -> Tensor:
        """Run a model's backbone on the rows: the hidden states of all positions, rows × length × width."""
        if self.positions is not None:
            return backbone(self.ids, self)
        with tap.padded(self.lengths, self.ids.shape[1]):
            return backbone(self.ids)

    @property
    def in_a_row(self) -> tuple[int, ...]:
        """The lengths of the sequences that are packed in each row."""
        return self.lengths[: len(self.lengths) // len(self.ids)]

    def each(self, hidden: Tensor) -> list[Tensor]:
        """What all positions have (rows × length × features) as one tensor per sequence (tokens × features)."""
        flat = hidden.flatten(0, 1)
        return [flat[start : start + length] for start, length in zip(self.starts, self.lengths, strict=True)]

    def joined(self, entries: Sequence[Tensor]) -> Tensor:
        """The inverse of ``each``, with zeros in the padding."""
        if self.positions is None:
            return nn.utils.rnn.pad_sequence(list(entries), batch_first=True)
        return torch.cat(list(entries)).unflatten(0, self.ids.shape)

    def select(self, hidden: Tensor, tails: Sequence[Tail]) -> Tensor:
        """What the requested positions have, one request after another (positions × features).

        Args:
            hidden: of all positions, rows × length × features.
            tails: the requests that these rows were made of.
        """
        ends = [start + length for start, length in zip(self.starts, self.lengths, strict=True)]
        places = [p for end, tail in zip(ends, tails, strict=True) for p in range(end - tail.last, end)]
        return hidden.flatten(0, 1)[places]


class Layout(Protocol):
    """How sequences are laid out: ``TokenRows.padded`` or ``TokenRows.packed``, or a choice between them."""

    def __call__(self, sequences: Sequence[Ids], device: torch.device | str, copies: int = 1) -> TokenRows:
        """Args: copies: the sequences are so many equal groups, one after another."""


class Run(Protocol):
    """A forward pass: what is asked for, one request after another (positions × features)."""

    def __call__(self, tails: Sequence[Tail], copies: int = 1) -> Tensor:
        """With ``copies`` the requests run so many times in one pass; results come copy after copy."""


@lru_cache(maxsize=1024)
def plan(lengths: tuple[int, ...], fixed: int) -> tuple[tuple[int, ...], ...]:
    """Which sequences to pad together, so that tokens, padding among them, and ``fixed`` for each part are fewest.

    Sorted by length, the best parts are neighbours (an exchange shows it), so that dynamic programming over the places
    to cut finds them; sequences of one length are never parted.

    Args:
        lengths: of the sequences.
        fixed: what a part costs beside its tokens, in tokens.

    Returns:
        The places of each part's sequences; short ones first.

    Example:
        >>> plan((30, 5, 31, 6), 8)
        ((1, 3), (0, 2))
        >>> plan((30, 5, 31, 6), 80)
        ((1, 3, 0, 2),)
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    cuts = [i for i in range(len(order) + 1) if i in (0, len(order)) or lengths[order[i - 1]] < lengths[order[i]]]
    best, since = {0: 0}, dict[int, int]()
    for place, end in enumerate(cuts[1:], 1):
        longest = lengths[order[end - 1]]
        costs = {start: best[start] + fixed + (end - start) * longest for start in cuts[:place]}
        since[end] = min(costs, key=lambda start: costs[start])
        best[end] = costs[since[end]]
    parts, end = list[tuple[int, ...]](), len(order)
    while end:
        parts.append(tuple(order[since[end] : end]))
        end = since[end]
    return tuple(reversed(parts))


def equal_parts(lengths: Sequence[int], count: int) -> list[list[int]]:
    """``count`` parts of as many sequences each, by length; fewer where there are fewer sequences."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    size = -(-len(order) // count)
    return [order[start : start + size] for start in range(0, len(order), size)]


def filled(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Parts of at most ``limit`` tokens, or of one sequence; all in one part, in their order, where that fits.

    Example:
        >>> filled((5, 3, 9, 2), 10), filled((5, 3, 9, 2), 20)
        ([[3, 1, 0], [2]], [[0, 1, 2, 3]])
    """
    if sum(lengths) <= limit:
        return [[*range(len(lengths))]]
    parts, tokens = list[list[int]](), limit
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if tokens + lengths[i] > limit:
            parts.append([])
            tokens = 0
        parts[-1].append(i)
        tokens += lengths[i]
    return parts


def in_parts(run: Run, tails: Sequence[Tail], parts: Sequence[Sequence[int]], copies: int = 1) -> Tensor:
    """What ``run`` gives for all requests, in their order and copy after copy, from a pass for each part of them.

    Args:
        parts: places of the requests; each is in one part.
    """
    if len(parts) == 1:
        return run(tails, copies)
    found: list[Tensor] = [torch.empty(0)] * (len(tails) * copies)
    for part in parts:
        with owners.some(part):
            pieces = run([tails[i] for i in part], copies).split([tails[i].last for i in part] * copies)
        for place, piece in enumerate(pieces):
            copy, which = divmod(place, len(part))
            found[copy * len(tails) + part[which]] = piece
    return torch.cat(found)
