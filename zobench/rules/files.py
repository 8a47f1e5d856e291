"""The files of a version of the rules, as objects; entries and workloads of one's own come from a folder of options."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from zobench.config.options import RULES, describe, load_yaml
from zobench.errors import ConfigError, did_you_mean
from zobench.rules.made import made, ruled

FOLDER = Path(__file__).parent
#: ``searched`` by trials; ``shipped``, the rate times the workload's factor; ``chosen`` by the trials of another
#: ruleset; ``none``: as they ship
Settings = Literal["searched", "shipped", "chosen", "none"]
SECONDS, TRIALS = "seconds", "trials"
Kind = TypeVar("Kind", "Workload", "Entry")


@dataclass(frozen=True)
class Workload:
    """What is learned with what, and for how long.

    Attributes:
        words: overrides of all of its runs.
        inputs: settings that the user gives, such as ``data.dir``.
        forwards: budget in forward passes.
        rates: factor on learning rates, which entries have for all weights of a large model.
        step_rates: the same where the length of a step does not hang on the loss's scale.
        length_rates: the same where a step has a known length.
        backprop_rates: the same with gradients.
        small_matrices: whether ranks for large matrices are too large.
    """

    name: str
    words: str
    forwards: int
    inputs: tuple[str, ...] = ()
    rates: float = 1
    step_rates: float = 1
    length_rates: float = 1
    backprop_rates: float = 1
    small_matrices: bool = False


@dataclass(frozen=True)
class Entry:
    """A method, or a method with settings, and how it is searched.

    Attributes:
        words: overrides of all of its runs.
        of: the entry whose ablation or other form it is.
        space: setting → where it is searched, in Hydra's grammar; empty: nothing to search.
        shipped: setting of the space → the value that ships.
        factor: the workload's factor on the learning rate, one of ``made.FACTORS``.
        times: a further factor, where its rates for large models lie otherwise than the others' to those of small ones.
        vectors: the learning rate of biases and norms, where they have one; times the workload's ``rates``.
        small_matrices: setting → value where a workload's matrices are small; it is not searched there.
        backprop: whether the budget is a third as many steps as others have forward passes.
    """

    name: str
    words: str
    of: str | None = None
    space: Mapping[str, str] = field(default_factory=dict)
    shipped: Mapping[str, Any] = field(default_factory=dict)
    factor: str = "rates"
    times: float = 1
    vectors: float | None = None
    small_matrices: Mapping[str, Any] = field(default_factory=dict)
    backprop: bool = False

    @property
    def trains(self) -> bool:
        """Whether there is anything to learn: zero-shot has no learning rate."""
        return bool(self.shipped)


@dataclass(frozen=True)
class Ruleset:
    """How an entry may be tuned.

    Attributes:
        description: in one line.
        settings: where a scored run's settings come from.
        seeds: of scored runs; each draws training rows of its own, ``data_seed=seed``.
        budget: in the workload's forward passes, or ``seconds``: as many steps as take the reference's.
        trials: how many settings of its space each entry tries.
        trial_seed: ``seed`` and ``data_seed`` of the trials, which are not scored.
    """

    name: str
    description: str
    settings: Settings
    seeds: tuple[int, ...]
    budget: float | Literal["seconds"] = 1
    trials: int = 0
    trial_seed: int = 0


@dataclass(frozen=True)
class Rules:
    """A version of the rules.

    Attributes:
        words: overrides of all runs.
        training: overrides of all runs that train.
        evaluations: dev evaluations of a run.
        reference: the entry that the others are set against.
        rulesets, workloads, entries: by name.
    """

    version: str
    words: str
    training: str
    evaluations: int
    reference: str
    rulesets: Mapping[str, Ruleset]
    workloads: Mapping[str, Workload]
    entries: Mapping[str, Entry]

    @property
    def searched(self) -> Ruleset:
        """The ruleset whose trials search."""
        return next(ruleset for ruleset in self.rulesets.values() if ruleset.settings == "searched")

    def chosen(self, kind: Literal["ruleset", "workload", "entry"], names: str) -> list[Any]:
        """The rulesets, workloads or entries of some names with commas; all for an empty text.

        Raises:
            ConfigError: for a name that there is not.
        """
        known = {"ruleset": self.rulesets, "workload": self.workloads, "entry": self.entries}[kind]
        for name in (asked := list(filter(None, names.split(",")))):
            if name not in known:
                hint = did_you_mean(name, known, otherwise=f"; one of {', '.join(known)}")
                raise ConfigError(f"{name}: no such {kind}{hint}")
        return [known[name] for name in dict.fromkeys(asked or known)]


def versions() -> list[str]:
    """The versions there are, the newest last."""
    return sorted((path.parent.name for path in FOLDER.glob("v*/runs.yaml")), key=lambda name: int(name[1:]))


def load(version: str = "v1", folders: Sequence[Path] = ()) -> Rules:
    """Read a version of the rules.

    >>> rules = load("v1")
    >>> rules.rulesets["tuned"].trials, rules.entries["pgap_random"].of
    (6, 'pgap')

    Args:
        version: such as ``v1``.
        folders: folders of options, whose ``rules/entries.yaml`` and ``rules/workloads.yaml`` add to it.

    Raises:
        ConfigError: if there is no such version, or a file is not well-formed or takes a name that there is.
    """
    if version not in versions():
        raise ConfigError(f"{version}: no such version of the rules{did_you_mean(version, versions())}")
    top = FOLDER / version
    added = [folder / RULES for folder in folders]
    entries = _all(Entry, [place / "entries.yaml" for place in (top, *added)])
    for entry in entries.values():
        if entry.of is not None and entry.of not in entries:
            raise ConfigError(f"{entry.name}: of: {entry.of}: no such entry{did_you_mean(entry.of, entries)}")
        if entry.of == entry.name:
            raise ConfigError(f"{entry.name}: of: {entry.of}: expected another entry, whose ablation it is")
    runs = load_yaml(top / "runs.yaml")
    workloads = _all(Workload, [place / "workloads.yaml" for place in (top, *added)])
    for workload in workloads.values():
        if keys := ruled(workload.words, runs["words"]):
            raise ConfigError(f"{workload.name}: {', '.join(keys)}: the rules set that for all; leave it away")
    files = sorted(path for path in top.glob("*.yaml") if "settings" in load_yaml(path))
    rulesets = [made(Ruleset, path, path.stem, load_yaml(path) | {"description": describe(path)}) for path in files]
    rulesets.sort(key=lambda ruleset: get_args(Settings).index(ruleset.settings))
    return Rules(
        version=version,
        rulesets={ruleset.name: ruleset for ruleset in rulesets},
        workloads=workloads,
        entries=entries,
        **runs,
    )


def _all(kind: type[Kind], paths: Iterable[Path]) -> dict[str, Kind]:
    """What some files hold, those that there are; by name."""
    found: dict[str, Kind] = {}
    for path in paths:
        for name, content in load_yaml(path).items() if path.is_file() else ():
            if name in found:
                raise ConfigError(f"{path}: {name}: there is one of that name already; choose another")
            found[name] = made(kind, path, name, content)
    return found
