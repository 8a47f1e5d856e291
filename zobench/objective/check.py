"""The check that losses and scores are those of the model's own forward pass, before anything depends on them.

A few of a run's own examples go through the path that the run would take, and as ``model(input_ids).logits`` of one
sequence at a time, unpadded. Of the paths, from the fastest to the simplest, the first is taken whose numbers agree.

What is compared: the scores of the options and the training loss of a shortest and a longest example in one padded
batch; all logits of the short way through the head with those of the model's own code, for the same hidden states; and
the hidden states of a model that is run in parts with those of the whole one, for the same padded batch. The last two
differ by a few roundings at most, so that they show, in 16 bits too, what the rounding of a whole forward pass hides.
Where part of the model is frozen, also after what trains was moved, since a cache must be right for other weights than
the first. Long examples are cut on the left to what a check may cost.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from zobench.errors import ModelError, is_out_of_memory
from zobench.objective.clean import Objective
from zobench.objective.encode import Encoded, Row
from zobench.objective.heads import OwnHead, WeightHead
from zobench.objective.paths import ALONE, LOGITS, WHOLE, Path
from zobench.objective.reference import Reference, check_causal
from zobench.objective.rotary import mixes_frequencies
from zobench.objective.rows import Tail

#: longest sequence that is compared, in tokens, and the length to which none is cut further
LONGEST, SHORTEST = 1024, 8
#: on a CPU, where a check must not take long: bound on the model's parameters × the tokens of the longest example
WORK = 1 << 35
#: for the comparison at other weights: how far a tensor is moved, in standard deviations, and where all of it is zero
_MOVE, _MOVE_OFF_ZERO = 0.1, 0.02


@dataclass(frozen=True)
class Agreement:
    """How well the path that is taken gives the model's own numbers.

    Attributes:
        difference: the largest, of scores and of the loss, in nats.
        tolerance: the largest that rounding explains, in nats.
        refused: paths that give others, by name, with their difference; infinite where they cannot be run.
    """

    difference: float
    tolerance: float
    refused: dict[str, float] = field(default_factory=dict)


def settle(objective: Objective, examples: Sequence[Encoded]) -> Agreement:
    """Take the first of an objective's paths that gives the model's own numbers.

    Args:
        objective: its ``path`` is set.
        examples: those of the run; a few are chosen.

    Raises:
        ModelError: if the model is no causal language model, its numbers are not finite, or no path gives them.
    """
    model, tokens, refused = objective.model, objective.tokens, dict[str, float]()
    chosen = _choose(examples, model)
    try:
        with torch.inference_mode():
            here = Reference.of(model, chosen)
            check_causal(model, here)
            mixed = mixes_frequencies(model, [len(row.tail.ids) for e in examples for row in e.rows])
            for path in objective.paths:
                fits = not mixed or path.place == ALONE
                found = _Trial(objective, path, chosen).difference(here) if fits else math.inf
                if found <= here.tolerance:
                    objective.path = path
                    return Agreement(found, here.tolerance, refused)
                refused[f"{path.name}, packed" if path.packed else path.name] = found
    finally:
        objective.tokens = tokens
    raise ModelError(
        f"{type(model).__name__}: losses and scores differ from the model's own log-probabilities of one sequence at a "
        f"time by {min(refused.values()):.2g} nats, where rounding explains {here.tolerance:.2g}; {objective.unfit}"
    )


class _Trial:
    """A path on trial, with some examples.

    Args:
        objective: gets the path for the time of the trial.
    """

    def __init__(self, objective: Objective, path: Path, examples: Sequence[Encoded]):
        self.objective, self.path, self.examples = objective, path, examples

    def difference(self, here: Reference) -> float:
        """The largest difference to the model's own numbers, in nats; infinite if the path cannot be run.

        Args:
            here: these numbers, at the weights as they are.
        """
        model, before = self.objective.model, self.objective.path
        try:
            if self.path.prefix:
                self.path.prefix.hold(self.objective.tails(self.examples))
            whole = all(p.requires_grad for p in model.parameters())
            found = self._ratio(here, body=whole)
            if found <= 1 and not whole:
                with _moved(model):
                    found = max(found, self._ratio(Reference.of(model, self.examples), body=True))
        except Exception as error:  # models of another build fail in ways of their own
            if isinstance(error, ModelError) or is_out_of_memory(error) or self.path is self.objective.paths[-1]:
                raise
            return math.inf
        finally:
            self.objective.path = before
            if self.path.prefix:
                self.path.prefix.forget()
        return found * here.tolerance if math.isfinite(found) else math.inf

    def _ratio(self, reference: Reference, *, body: bool) -> float:
        """The largest difference over what rounding explains, at the weights as they are.

        Args:
            body: whether to compare the hidden states too, for which once suffices.
        """
        held: dict[tuple[Tail, ...], Tensor] = {}

        def once(tails: Sequence[Tail], copies: int = 1) -> Tensor:  # scores and loss ask for the same
            if tuple(tails) not in held:
                held[tuple(tails)] = self.path.run(tails)
            return held[tuple(tails)]

        objective, examples = self.objective, self.examples
        objective.path = replace(self.path, run=once)
        with _padded_together(objective):
            scores = [score for row in objective.scores(examples) for score in row]
        total, weight = objective.loss_sum(examples)
        pairs = [*zip(scores, reference.scores, strict=True)]
        pairs.append((float(total) / weight, reference.loss(examples, objective.task.loss)))
        ratios = [abs(found - expected) / reference.tolerance for found, expected in pairs]
        if isinstance(self.path.head, WeightHead):
            ratios += [_head_ratio(objective.model, hidden.to(objective.head_device)) for hidden in held.values()]
        if body and self.path.place not in (WHOLE, LOGITS, ALONE):
            alike = (WHOLE, self.path.packed)
            whole = next(path for path in objective.paths if (path.place, path.packed) == alike)
            ratios += [self._body_ratio(whole, tails, hidden) for tails, hidden in held.items()]
        return max(ratios) if all(map(math.isfinite, ratios)) else math.inf

    def _body_ratio(self, whole: Path, tails: Sequence[Tail], hidden: Tensor) -> float:
        """The largest difference of hidden states to those of the whole model for the same batch, over the rounding's.

        Above a cut the same is computed as in the whole model, from the same numbers; a layer in which more than the
        attention looks at other positions gives others.
        """
        if self.path.prefix:  # what it holds comes from another batch, which rounds differently
            hidden = self.path.prefix.anew(tails)
        expected = whole.run(tails).float()
        sizes = expected.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
        difference = float(((hidden.float() - expected).norm(dim=-1) / sizes).max())
        return difference / (torch.finfo(self.objective.model.dtype).eps + 1e-5)


@contextmanager
def _padded_together(objective: Objective) -> Iterator[None]:
    """A context in which sequences of unlike length run in one part, as those of like length do by default."""
    before = objective.length_buckets
    objective.length_buckets = 1
    try:
        yield
    finally:
        objective.length_buckets = before


def _head_ratio(model: Any, hidden: Tensor) -> float:
    """The largest difference of logits by the head's weight to those of the model's own code, over the rounding's.

    Both see the same hidden states, so that little is explained by rounding; none at all, which shows a bias, and
    larger ones, which show a cap. Infinite where something else trains behind the hidden states, even if it does
    nothing yet; 0 where the own code cannot be run.
    """
    head = model.get_output_embeddings()
    known = {id(p) for p in (*model.base_model.parameters(), head.weight)}
    if any(id(p) not in known for p in model.parameters()):
        return math.inf
    ratios = []
    for states in (hidden, torch.zeros_like(hidden[:1]), 16 * hidden):
        try:
            expected = OwnHead(model).logits(states)
        except Exception:  # nothing can be said here; scores and loss speak alone
            return 0.0
        difference = float((WeightHead(model).logits(states) - expected).abs().max())
        rounding = (1.5 * torch.finfo(model.dtype).eps + 4e-5) * float(expected.abs().max())
        ratios.append(difference / rounding if rounding else math.inf * difference if difference else 0.0)
    return max(ratios)


def _choose(examples: Sequence[Encoded], model: Any) -> list[Encoded]:
    """A shortest and a longest example, and a shortest with and without a shared prompt; cut to what they may cost."""
    ordered = sorted(examples, key=lambda e: len(e.rows[0].ids))
    kinds = {e.shared is None: e for e in reversed(ordered)}
    found = list({id(e): e for e in (ordered[0], ordered[-1], *kinds.values())}.values())
    limit = LONGEST
    if next(model.parameters()).device.type == "cpu":
        limit = min(limit, max(SHORTEST, WORK // sum(p.numel() for p in model.parameters())))
    return [replace(e, rows=tuple(_cut(row, limit) for row in e.rows)) for e in found]


def _cut(row: Row, limit: int) -> Row:
    """A row without what is too long between its first token and its end; the option and a token before it stay."""
    kept = max(limit - 1, row.option_len + 1)
    return row if len(row.ids) <= kept + 1 else Row((row.ids[0], *row.ids[-kept:]), row.option_len)


@contextmanager
def _moved(model: Any) -> Iterator[None]:
    """A context in which all that trains has other values, and after which it has its own, to the bit."""
    with torch.no_grad():
        before = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]
        try:
            for param, _ in before:
                size = _MOVE * float(param.float().std(correction=0)) or _MOVE_OFF_ZERO
                width = param.shape[-1] if param.ndim else 1
                param.add_(size * torch.linspace(-1, 1, width, device=param.device, dtype=param.dtype))
            yield
        finally:
            for param, values in before:
                param.copy_(values)
