"""The settings of a run, each once: its default, what it accepts, what it is for, and whether it names the run.

Hydra's composition, ``--help``, the checks before torch is loaded, docs/settings.md and a run's name all read
``SETTINGS``. Standard library only.
"""

from dataclasses import dataclass
from typing import Any, Protocol

#: the budget of a run that sets none, the MeZO suite's: 20,000 steps of two forward passes
DEFAULT_FORWARDS = 40_000
_LONGEST_RUN = 100_000_000


def is_int(value: Any) -> bool:
    """True for an integer that is not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_yaml(value: Any) -> str:
    """A value as it would be typed.

    >>> as_yaml(None), as_yaml(True), as_yaml(0.5)
    ('null', 'true', '0.5')
    """
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


class Kind(Protocol):
    """What a setting accepts."""

    def accepts(self, value: Any) -> bool:
        """True if the value, as YAML reads it, is one of this kind."""

    def expected(self, key: str, value: Any) -> str:
        """What to write instead of a value that was refused."""


@dataclass(frozen=True)
class Integer(Kind):
    """An integer from ``low`` to ``high``, or null where ``null`` is set, or ``auto`` where ``auto`` is."""

    low: int
    null: bool = False
    high: int = 2**32 - 1
    auto: bool = False

    def accepts(self, value: Any) -> bool:
        if value is None or value == "auto":
            return self.auto if value else self.null
        return is_int(value) and self.low <= value <= self.high

    def expected(self, key: str, value: Any) -> str:
        if is_int(value) and value > self.high:
            return f"an integer of at most {self.high}"
        return f"an integer of at least {self.low}{' or null' * self.null}{' or auto' * self.auto}"


@dataclass(frozen=True)
class Number(Kind):
    """A finite number of at least ``low``, or null."""

    low: float

    def accepts(self, value: Any) -> bool:
        return value is None or ((is_int(value) or isinstance(value, float)) and self.low <= value < 2**53)

    def expected(self, key: str, value: Any) -> str:
        return f"a finite number of at least {self.low:g} or null"


@dataclass(frozen=True)
class OneOf(Kind):
    """One of some words; the word ``null`` stands for None."""

    words: tuple[str, ...]

    def accepts(self, value: Any) -> bool:
        return ("null" if value is None else str(value)) in self.words

    def expected(self, key: str, value: Any) -> str:
        from zobench.errors import did_you_mean

        given = "null" if value is None else str(value)
        return f"one of {', '.join(self.words)}{did_you_mean(given, self.words, f'{key}=')}"


@dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)

    def expected(self, key: str, value: Any) -> str:
        return "true or false"


@dataclass(frozen=True)
class Device(Kind):
    """The name of a device, as torch spells it, or ``auto``."""

    def accepts(self, value: Any) -> bool:
        name = str(value)
        return name in ("auto", "cpu", "cuda") or (name.startswith("cuda:") and name[5:].isdigit())

    def expected(self, key: str, value: Any) -> str:
        return "auto, cpu, cuda or cuda:N"


@dataclass(frozen=True)
class Words(Kind):
    """A list of words."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list)

    def expected(self, key: str, value: Any) -> str:
        return f"a list, {key}=[{value}]"


@dataclass(frozen=True)
class Folder(Kind):
    """The path of a folder, or null where ``null`` is set."""

    null: bool = False

    def accepts(self, value: Any) -> bool:
        return (value is None and self.null) or (isinstance(value, str) and value.strip() != "" and "\0" not in value)

    def expected(self, key: str, value: Any) -> str:
        return f"a folder, {key}=DIR{', or null' * self.null}"


@dataclass(frozen=True)
class Below(Folder):
    """The path of a folder below another one, which it cannot leave."""

    def accepts(self, value: Any) -> bool:
        if not super().accepts(value) or value is None:
            return False
        parts = [part for part in value.split("/") if part.strip() not in ("", ".")]
        named = bool(parts) and ".." not in parts and max(map(len, parts)) < 200
        return named and value[0] != "/" and value.isprintable()

    def expected(self, key: str, value: Any) -> str:
        return f"a folder below runs_dir, {key}=DIR, without .. or control characters"


@dataclass(frozen=True)
class Setting:
    """One setting of a run.

    Attributes:
        key: what is typed, such as ``lens.every``.
        default: as in YAML; ``${seed}`` takes another setting's value.
        kind: what it accepts.
        meaning: what it is for, in one line.
        names_run: whether it can change a run's result, and so is part of the run's name.
    """

    key: str
    default: Any
    kind: Kind
    meaning: str
    names_run: bool = True


#: what every run has, whatever its method, model and task; in the order in which ``--help`` shows it
SETTINGS: tuple[Setting, ...] = (
    Setting("seed", 0, Integer(0), "noise, batch order, first values of LoRA and prefix, unless set one by one below"),
    Setting("data_seed", 0, Integer(0), "which rows are drawn from the data set"),
    Setting("noise_seed", "${seed}", Integer(0), "keys of all random directions"),
    Setting("order_seed", "${seed}", Integer(0), "order of the training batches"),
    Setting("init_seed", "${seed}", Integer(0), "initial values of added parameters"),
    Setting(
        "steps", None, Integer(0, null=True, high=_LONGEST_RUN),
        "budget in steps; with both budgets the run ends at whichever is reached first",
    ),
    Setting(
        "forwards", None, Integer(0, null=True, high=_LONGEST_RUN),
        f"budget in forward passes of a batch; null without steps: {DEFAULT_FORWARDS}, MeZO's 20000 steps",
    ),
    Setting("batch_size", 16, Integer(1), "training examples per step"),
    Setting(
        "micro_batch_size", None, Integer(1, null=True),
        "examples per forward call, averaged under one seed; null: the whole batch",
    ),
    Setting(
        "length_buckets", "auto", Integer(1, auto=True),
        "auto: no padding where the model allows it, else little; N: N parts by length; losses change by rounding",
    ),
    Setting(
        "eval_batch_size", 32, Integer(1),
        "examples per forward call in evaluations; changes no result beyond rounding", names_run=False,
    ),
    Setting("eval_every", None, Integer(1, null=True), "steps between dev evaluations; null: five in the run"),
    Setting(
        "save_every", None, Integer(1, null=True),
        "steps between checkpoints, which are small; null: at each evaluation, and every minute", names_run=False,
    ),
    Setting(
        "snapshot_minutes", 10, Number(0),
        "a checkpoint holds the weights too where replaying would take longer; 0: always, null: never", names_run=False,
    ),
    Setting("log_every", 10, Integer(1), "steps between lines of metrics.jsonl", names_run=False),
    Setting(
        "lens.every", None, Integer(1, null=True),
        "steps between measurements of how good the method's estimates are, which leave no trace; null: none",
    ),
    Setting("lens.draws", 16, Integer(3), "estimates per measurement, each a copy of the trainable weights"),
    Setting(
        "lens.gradient", True, Flag(),
        "against backpropagation; false: forward passes alone, for rounding errors only",
    ),
    Setting("device", "auto", Device(), "auto, cpu, cuda or cuda:N", names_run=False),
    Setting(
        "parallel", None, OneOf(("null", "data", "queries")),
        "under torchrun: queries (each process its share of a step's losses) or data (of the batch)", names_run=False,
    ),
    Setting("dtype", "float32", OneOf(("float32", "bfloat16", "float16")), "weights: float32, bfloat16 or float16"),
    Setting(
        "threads", None, Integer(1, null=True, high=1024),
        "CPU threads of torch; null: torch's choice", names_run=False,
    ),
    Setting("runs_dir", "runs", Folder(), "where run directories are written", names_run=False),
    Setting("overwrite", False, Flag(), "start again, whatever the run directory holds", names_run=False),
    Setting(
        "keep_weights", False, Flag(),
        "keep the best trainable weights; first-order runs always do, zobench.export makes others again",
        names_run=False,
    ),
    Setting(
        "tensorboard", False, Flag(),
        "write the run's curves for TensorBoard too, into its directory; changes no result", names_run=False,
    ),
    Setting("tags", [], Words(), "words to find runs by; changes no result", names_run=False),
)  # fmt: skip


def defaults_of_run() -> dict[str, Any]:
    """All settings with their defaults, nested as Hydra composes them.

    >>> defaults_of_run()["lens"]
    {'every': None, 'draws': 16, 'gradient': True}
    """
    nested: dict[str, Any] = {}
    for setting in SETTINGS:
        *outer, last = setting.key.split(".")
        node = nested
        for name in outer:
            node = node.setdefault(name, {})
        node[last] = setting.default
    return nested
