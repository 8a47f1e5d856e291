"""Packing: attention that keeps the sequences of one row apart, so that sequences of unlike length need no padding.

Everything in a decoder but the attention works on each position alone. So the sequences of a batch can lie one after
another in one row, if their positions start anew and each attends to itself alone. Models that run with ``sdpa`` ask
transformers' registry for their attention; the function registered here runs it sequence by sequence, without a mask.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from zobench.errors import is_out_of_memory
from zobench.objective.layers import Backbone
from zobench.objective.rows import PART, Ids, TokenRows, filled, plan
from zobench.objective.virtual_tokens import attend, attention_named, has_some
from zobench.zo import owners

#: on a CPU: longest row of packed sequences, in tokens; a longer one leaves the caches, and takes longer in one piece
ROW = 2048
#: what the attention is called in the registry
_NAME = "zobench_packed"
#: settings of a configuration that bound how far back a layer looks; up to that length they mask nothing
_WINDOWS = ("sliding_window", "attention_chunk_size")
#: the sequence whose copies must not see each other
_TRIED: Ids = (5, 9, 6, 3, 8, 4, 7)
_now: ContextVar["_Lengths"] = ContextVar("_now")


class Packing:
    """Lays sequences out in one row where that saves padding.

    Args:
        longest: sequences up to so many tokens may be packed; None for all.
    """

    def __init__(self, longest: int | None):
        self.longest = longest

    @staticmethod
    def of(model: Any, backbone: Backbone) -> "Packing | None":
        """How a model's sequences are packed; None if they cannot be.

        Two rows of two equal short sequences are run: all four must give the same. A layer in which more than the
        attention mixes positions gives others, and so does a model that counts positions by itself.

        Args:
            backbone: of the model; see ``layers.Backbone``.
        """
        if getattr(getattr(model, "config", None), "_attn_implementation", None) != "sdpa":
            return None
        device = next(model.parameters()).device
        try:
            with torch.inference_mode():
                hidden = TokenRows.packed([_TRIED] * 4, device, copies=2).run(backbone)
        except Exception as error:  # models that cannot be packed fail in ways of their own
            if is_out_of_memory(error):
                raise
            return None
        first, *others = hidden.float().reshape(4, len(_TRIED), -1)
        bound = (torch.finfo(hidden.dtype).eps + 1e-5) * float(first.norm())
        if not all(float((other - first).norm()) <= bound for other in others):
            return None
        texts = model.config.get_text_config()
        windows = [getattr(config, name, None) for config in (model.config, texts) for name in _WINDOWS]
        return Packing(min((window for window in windows if window), default=None))

    def __call__(self, sequences: Sequence[Ids], device: torch.device | str, copies: int = 1) -> TokenRows:
        """A ``Layout``: packed where lengths differ and none is too long, padded else."""
        shortest, longest = (f(map(len, sequences)) for f in (min, max))
        fits = shortest < longest <= (self.longest or longest)
        return (TokenRows.packed if fits else TokenRows.padded)(sequences, device, copies)

    def parts(self, lengths: Sequence[int], device: torch.device) -> list[list[int]]:
        """The places of the sequences of each forward pass: what is packed, then the longer ones by length.

        Example:
            >>> Packing(8).parts([5, 30, 8, 90, 31], torch.device("cpu"))
            [[0, 2], [1, 4], [3]]
        """
        places = range(len(lengths))
        short = [i for i in places if lengths[i] <= (self.longest or lengths[i])]
        long = [i for i in places if lengths[i] > (self.longest or lengths[i])]
        in_rows = filled([lengths[i] for i in short], ROW) if device.type == "cpu" else [range(len(short))]
        padded = plan(tuple(lengths[i] for i in long), PART.get(device.type, PART["cuda"]))
        return [*([short[i] for i in part] for part in in_rows if part), *([long[i] for i in part] for part in padded)]


@contextmanager
def packed_attention(configs: Sequence[Any], rows: TokenRows) -> Iterator[None]:
    """A context in which a model's attention keeps the sequences of packed rows apart.

    Args:
        configs: ``attention_configs`` of the model.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    token = _now.set(_Lengths(rows.in_a_row))
    try:
        with attention_named(configs, _NAME):
            yield
    finally:
        _now.reset(token)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """An attention of transformers: tensors of rows × heads × length × features to rows × length × heads × features.

    Raises:
        ValueError: if the model brings a mask or a bias, which are for one sequence in a row.
    """
    if attention_mask is not None or options.get("position_bias") is not None:
        raise ValueError("a mask or a bias of the model's own cannot be packed")
    now = _now.get()
    if query.device.type == "cpu":
        parts = zip(*(x.split(now.lengths, dim=2) for x in (query, key, value)), strict=True)
        if has_some(module):
            found = [_of_one(number, module, q, k, v, **options) for number, (q, k, v) in enumerate(parts)]
        else:
            # No weight is read here: without looking for one in each of these many calls, a tiny model's pass takes
            # four fifths of the time.
            with torch._C.DisableTorchFunction():
                found = [attend(module, q, k, v, None, **options)[0] for q, k, v in parts]
        return torch.cat(found, dim=1), None
    # Elsewhere one call for all: starting many small kernels takes longer than the padding.
    spread, back = now.places(query.device)
    rows, width = len(query), max(now.lengths)

    def pad(x: Tensor) -> Tensor:
        return x.transpose(1, 2)[:, spread].reshape(-1, width, x.shape[1], x.shape[3]).transpose(1, 2)

    attended = attend(module, pad(query), pad(key), pad(value), None, **options)[0]
    return attended.reshape(rows, -1, *attended.shape[2:])[:, back], None


def _of_one(number: int, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """The attention of one sequence of a packed row, with the virtual tokens that its example is shown."""
    with owners.some([number]):
        return attend(module, query, key, value, None, **options)[0]


class _Lengths:
    """The lengths of the sequences that are packed in each row."""

    def __init__(self, lengths: tuple[int, ...]):
        self.lengths = lengths
        self._places: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where each padded position comes from in a packed row, and where each packed one is among the padded."""
        if device not in self._places:
            width, spread, back, start = max(self.lengths), list[int](), list[int](), 0
            for row, length in enumerate(self.lengths):
                spread += [*range(start, start + length), *[start] * (width - length)]
                back += range(row * width, row * width + length)
                start += length
            self._places[device] = (torch.tensor(spread, device=device), torch.tensor(back, device=device))
        return self._places[device]
