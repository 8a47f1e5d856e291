"""The overrides of a run: what its workload, its entry and its ruleset set."""

from zobench.errors import ConfigError
from zobench.rules.files import Entry, Ruleset, Workload
from zobench.sweep.trials import LR, draw, words_of

Words = dict[str, str]


def trials(entry: Entry, workload: Workload, ruleset: Ruleset) -> list[Words]:
    """The settings that an entry tries on a workload: of its space, at the same places for all entries.

    >>> from zobench.rules import load
    >>> rules = load("v1")
    >>> trials(rules.entries["mezo"], rules.workloads["sst2-tiny-llama"], rules.rulesets["tuned"])[0]
    {'method.lr': '0.000316', 'method.eps': '0.001'}

    Raises:
        ConfigError: for a space that cannot be read.
    """
    if not entry.space:
        return []
    fixed, rates = imposed(entry, workload), factor(entry, workload)
    try:
        return [draw(dict(entry.space), trial, rates) | fixed for trial in range(ruleset.trials)]
    except ConfigError as error:
        raise ConfigError(f"{entry.name}: {error}") from None


def shipped(entry: Entry, workload: Workload) -> Words:
    """The settings that ship, the learning rate times the workload's factor."""
    rates = factor(entry, workload)
    own = {key: f"{float(value) * rates:.3g}" if key == LR else str(value) for key, value in entry.shipped.items()}
    return own | imposed(entry, workload)


def factor(entry: Entry, workload: Workload) -> float:
    """What a workload multiplies an entry's learning rate by."""
    return entry.times * float(getattr(workload, entry.factor))


def imposed(entry: Entry, workload: Workload) -> Words:
    """What a workload's size sets of a method: ranks of small matrices, and the learning rate of vectors."""
    vectors = {} if entry.vectors is None else {"method.lr_vectors": f"{float(entry.vectors) * workload.rates:.3g}"}
    sizes = entry.small_matrices if workload.small_matrices else {}
    return vectors | {key: str(value) for key, value in sizes.items()}


def set_by(entry: Entry, workload: Workload, ruleset: Ruleset) -> Words:
    """What a ruleset that tries nothing sets of a method."""
    return shipped(entry, workload) if ruleset.settings == "shipped" else {}


def method(entry: Entry) -> str:
    """The option of ``method`` that an entry is.

    >>> method(Entry("mezo_4", "method=mezo method.probes=4"))
    'mezo'
    """
    return words_of(entry.words.split())["method"]


def budget(entry: Entry, workload: Workload, times: float = 1) -> Words:
    """A budget in forward passes, or in a third as many steps where each has a backward pass; none without training."""
    passes = round(workload.forwards * times)
    if not entry.trains:
        return {}
    return {"forwards": "null", "steps": str(passes // 3)} if entry.backprop else {"forwards": str(passes)}


def seeds(seed: int) -> Words:
    """A seed, and training rows of its own."""
    return {"seed": str(seed), "data_seed": str(seed)}
