"""A run by the rules: its overrides, and its name, by which its record is found.

A workload is composed once by Hydra; the method's node of each run is put in as Hydra would, from its option, what the
tuning changes of it, and its words.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from zobench.config.chosen import Cell
from zobench.config.folders import conf_dir
from zobench.config.options import TUNED, defaults, load_yaml
from zobench.config.signature import compose, digest
from zobench.errors import ConfigError
from zobench.estimate.prices import Prices
from zobench.rules import settings
from zobench.rules.files import Entry, Rules, Workload
from zobench.rules.settings import Words
from zobench.run.budget import Spending
from zobench.sweep.trials import words_of

#: what stands for a folder that is not given
_NONE = "none"


class NoRun(ConfigError):
    """A run that there cannot be."""


class Runs:
    """The runs that a version of the rules has.

    Args:
        folders: of options of one's own.
        inputs: overrides that the user gives, such as ``data.dir=DIR``; a model of one's own has its name by them.
    """

    def __init__(self, rules: Rules, folders: Sequence[Path] = (), inputs: Sequence[str] = ()):
        self.rules, self.folders, self.inputs = rules, [conf_dir(), *folders], list(inputs)
        self._base, self._node = cache(self._composed), cache(self._method)
        self._prices = Prices()
        self._parse = cache(OverridesParser.create().parse_override)

    def words(self, workload: Workload, entry: Entry, own: Words, budget: Words, seed: int) -> Words:
        """The overrides of a run but for inputs and folder.

        Args:
            own: settings of its method.
            budget: ``forwards`` or ``steps``.

        Raises:
            NoRun: if the budget does not pay for a step, or the entry says other than its method does.
            ConfigError: if the method's class cannot be imported.
        """
        words = self._fixed(workload, entry) | own | budget | settings.seeds(seed)
        try:
            spent = self._prices.of(Cell(self._put(workload, entry, own | budget)))
            self._check(entry, spent)
        except ConfigError as error:
            kind = NoRun if error.__cause__ is None else ConfigError
            raise kind(f"{workload.name}, {entry.name}: {error}") from None
        return words | ({"eval_every": str(-(-spent.steps // self.rules.evaluations))} if entry.trains else {})

    @staticmethod
    def _check(entry: Entry, spent: Spending) -> None:
        """Whether an entry says of its method what that spends: its budget hangs on it."""
        if spent.steps and not entry.trains:
            raise ConfigError("its method trains; give the entry the space that is searched, and what ships of it")
        if not spent.steps and entry.trains:
            raise ConfigError("the budget pays for no step; give the workload more forwards")
        if entry.trains and bool(spent.backwards) != entry.backprop:
            takes = "takes" if spent.backwards else "takes no"
            raise ConfigError(
                f"its method {takes} backward passes: expected backprop: {str(not entry.backprop).lower()}"
            )

    def name(self, workload: Workload, entry: Entry, words: Words) -> str:
        """A run's name, eight hexadecimal digits; arguments are those of ``resolved``."""
        return digest(self.resolved(workload, entry, words))

    def resolved(self, workload: Workload, entry: Entry, words: Words, model: str | None = None) -> dict[str, Any]:
        """A run's configuration in plain values.

        Args:
            words: as ``words`` gives them.
            model: the label of a model of one's own, where no inputs say which.
        """
        fixed = self._fixed(workload, entry)
        cell = self._put(workload, entry, {key: value for key, value in words.items() if fixed.get(key) != value})
        if model is not None:
            cell["choices"]["model"] = model
        return cell

    def label(self, workload: Workload) -> str:
        """What a workload's model is called in rows."""
        return str(self._base(workload.name)["choices"]["model"])

    def choices(self, workload: Workload) -> Mapping[str, str]:
        """Group → chosen option, such as ``task`` → ``sst2``."""
        return self._base(workload.name)["choices"]

    def _fixed(self, workload: Workload, entry: Entry) -> Words:
        training = self.rules.training if entry.trains else ""
        return words_of(" ".join([self.rules.words, training, workload.words, entry.words]).split())

    def _put(self, workload: Workload, entry: Entry, words: Words) -> dict[str, Any]:
        """The resolved settings of a run: those of its workload, with a method's node and more words put in."""
        cell: dict[str, Any] = deepcopy(self._base(workload.name))
        cell["choices"]["method"] = settings.method(entry)
        cell["method"] = deepcopy(self._node(entry.name, cell["choices"]["tuning"]))
        for key in ("seed", "data_seed", "noise_seed", "order_seed", "init_seed"):
            cell[key] = None
        self._set(cell, words)
        for key in ("noise_seed", "order_seed", "init_seed"):
            cell[key] = cell["seed"]
        return cell

    def _set(self, node: dict[str, Any], words: Mapping[str, str]) -> None:
        for key, text in words.items():
            *above, last = key.split(".")
            place = node
            for name in above:
                place = place[name]
            try:
                place[last] = self._parse(f"{key}={text}").value()
            except HydraException:
                raise ConfigError(f"{key}={text}: the value cannot be read; a list needs both brackets") from None

    def _method(self, name: str, tuning: str) -> dict[str, Any]:
        """The node of an entry's method under a tuning."""
        words = words_of(self.rules.entries[name].words.split())
        method = words.pop("method")
        path = self._file(f"method/{method}")
        node = {key: value for key, value in load_yaml(path).items() if key != "defaults"}
        for group, options in defaults(path).items():
            option = words.pop(f"method/{group}", options[0])
            node[group] = dict(load_yaml(self._file(f"method/{group}/{option}")))
        if unknown := [key for key in words if "/" in key]:
            raise ConfigError(f"{name}: {unknown[0]}: {method} has no such group; leave it away")
        for changed in self._files(f"{TUNED}/{tuning}/{method}"):
            node |= load_yaml(changed)
        if self.rules.entries[name].trains:
            words |= words_of(self.rules.training.split())
        self._set({"method": node}, words)
        return node

    def _files(self, option: str) -> Iterator[Path]:
        """The first file of an option, of those in some folders; nothing where there is none."""
        found = [path for folder in self.folders if (path := folder / f"{option}.yaml").is_file()]
        yield from found[:1]

    def _file(self, option: str) -> Path:
        for path in self._files(option):
            return path
        raise ConfigError(f"{option.replace('/', '=')}: no such option; one of your own needs --config-dir")

    def _composed(self, name: str) -> dict[str, Any]:
        """The resolved settings of a workload, without training."""
        workload = self.rules.workloads[name]
        given = {word.partition("=")[0] for word in self.inputs}
        inputs = [*self.inputs, *(f"{key}={_NONE}" for key in workload.inputs if key not in given)]
        words = words_of([*self.rules.words.split(), *workload.words.split(), "method=zeroshot", *inputs])
        search = ",".join(f"file://{folder.resolve()}" for folder in self.folders[1:])
        cfg = compose(f"hydra.searchpath=[{search}]", *(f"{key}={value}" for key, value in words.items()))
        found = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(found, dict)
        return {str(key): value for key, value in found.items() if key != "out"}
