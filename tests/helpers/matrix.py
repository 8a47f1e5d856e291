"""The matrix of families: how each is run under each tuning, and how far its numbers are from transformers' own."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from helpers.families import LISTED, OTHERS, TARGETS, VOCABULARY, build
from zobench.errors import UserError
from zobench.models.prefix_tuning import PrefixTuning
from zobench.models.tuning import Full, LastLayers, LoRA
from zobench.objective import Encoded, Objective, check
from zobench.objective.encode import Row
from zobench.objective.reference import plain_logits
from zobench.tasks.base import Example

TUNINGS = {
    "full": Full,
    "lora": lambda: LoRA(layers=2, r=2),
    "last_layers": lambda: LastLayers(layers=2),
    "prefix": PrefixTuning,
}
#: (tuning, memory for the cache of frozen layers in GiB)
CASES = [("full", 0.0), ("lora", 0.0), ("lora", 1.0), ("last_layers", 0.0), ("last_layers", 1.0), ("prefix", 0.0)]
COLUMNS = ["`full`", "`lora`", "`lora`, cached", "`last_layers`", "`last_layers`, cached", "`prefix`"]
CLASSIFICATION = SimpleNamespace(loss="classification")
_NEGLIGIBLE = 1e-5


@dataclass(frozen=True)
class Cell:
    """A family under a tuning: its path and the largest difference in nats, or why it is refused."""

    path: str
    difference: float
    refusal: str = ""

    def __str__(self):
        if self.refusal:
            return "refused"
        bound = max(_NEGLIGIBLE, 10.0 ** math.ceil(math.log10(self.difference or _NEGLIGIBLE)))
        return f"{self.path}: {bound:.0e}".replace("e-0", "e-")


def sequence(length, seed):
    return torch.randint(4, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def shared(index, length):
    """An example whose two options are one token each."""
    prompt = sequence(length, index)
    rows = tuple(Row((*prompt, 10 + index + option), 1) for option in range(2))
    return Encoded(Example(index, "", ("", ""), index % 2), rows)


def worded(index, length):
    """An example whose options are one token and three."""
    prompt = sequence(length, index)
    rows = (Row((*prompt, 10 + index), 1), Row((*prompt, *sequence(3, 100 + index)), 3))
    return Encoded(Example(index, "", ("", ""), index % 2), rows)


BATCHES = [[shared(i, n) for i, n in enumerate((6, 31, 17, 12))], [worded(i, n) for i, n in enumerate((7, 26, 19, 11))]]


def plain_scores(model, batch):
    """Mean log-probability of each option, from all logits of one sequence at a time."""
    found = []
    for row in (row for e in batch for row in e.rows):
        ids = torch.tensor([row.ids])
        log_probs = torch.log_softmax(plain_logits(model, row.ids, 0), dim=-1)
        found.append(float(log_probs[:-1].gather(-1, ids[0, 1:, None])[-row.option_len :].mean()))
    return found


def plain_loss(model, batch):
    scores = iter(plain_scores(model, batch))
    means = [torch.tensor([next(scores) for _ in e.rows]) for e in batch]
    return float(
        torch.stack([F.cross_entropy(m, torch.tensor(e.gold)) for m, e in zip(means, batch, strict=True)]).mean()
    )


@torch.no_grad()
def difference(objective, batch):
    """The largest difference of scores and loss to transformers', in nats."""
    found = [score for row in objective.scores(batch) for score in row]
    total, weight = objective.loss_sum(batch)
    pairs = [*zip(found, plain_scores(objective.model, batch), strict=True)]
    pairs.append((float(total) / weight, plain_loss(objective.model, batch)))
    return max(abs(a - b) for a, b in pairs)


def tune(name, tuning):
    """A family's model with what trains in it marked, and its trainable (name, parameter) pairs."""
    model = build(name)
    targets = TARGETS.get(name.partition(",")[0], ["q_proj", "v_proj"])
    return model, TUNINGS[tuning]().apply(model, SimpleNamespace(lora_targets=targets), 0)


def measure(name, tuning, cache_gib):
    """One cell: at first, and again after what trains has moved."""
    try:
        model, named = tune(name, tuning)
        objectives = []
        for batch in BATCHES:
            objectives.append(objective := Objective(model, None, CLASSIFICATION, cache_gib=cache_gib))
            check.settle(objective, batch[:2])
            with torch.no_grad():
                objective.prepare(batch)
        worst = [difference(*pair) for pair in zip(objectives, BATCHES, strict=True)]
        with torch.no_grad():
            for i, (_, param) in enumerate(named):
                param.add_(0.02 * torch.randn(param.shape, generator=torch.Generator().manual_seed(i)))
        worst += [difference(*pair) for pair in zip(objectives, BATCHES, strict=True)]
        return Cell(objectives[0].forward_path, max(worst))
    except UserError as error:
        return Cell("", math.inf, str(error))


def attention_of(name):
    return build(name).config._attn_implementation


def padding_of(name):
    """What is padded in a family's forward passes, as a row has it."""
    objective = Objective(build(name), None, CLASSIFICATION)
    try:
        check.settle(objective, BATCHES[0])
    except UserError:
        return "refused"
    return objective.padding


def line(name):
    """A family's line of the table in docs/models.md."""
    cells = [measure(name, *case) for case in CASES]
    return f"| {name} | {attention_of(name)} | {padding_of(name)} | {' | '.join(map(str, cells))} |"


def lines():
    return [line(name) for name in (*LISTED, *OTHERS)]
